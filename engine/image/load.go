package image

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/internal/ids"
)

// LoadOptions of Load.
type LoadOptions struct {
	Quiet    bool
	Platform *ocispec.Platform
}

// maxArchiveEntries of an archive of images: blobs and a few documents, not the files in the images.
const maxArchiveEntries = 1 << 20

// errNoImages says that a stream is no archive of images. The words are dockerd's.
func errNoImages() error { return errkind.InvalidArgument("unrecognized image format") }

// Load reads a docker-archive or OCI layout, in any of the known compressions, and makes its images. A broken archive leaves
// nothing behind.
//
// Errors: ErrInvalidArgument.
func (s *Service) Load(ctx context.Context, r io.Reader, o LoadOptions, progress ProgressFunc) error {
	plain, err := decompress(r)
	if err != nil {
		return errkind.InvalidArgument("%w", err)
	}
	defer plain.Close()
	return s.leased(ctx, func(ctx context.Context) error {
		a := &archiveReader{s: s, files: map[string]ocispec.Descriptor{}, links: map[string]string{}, docs: map[string][]byte{}}
		if err := a.read(ctx, plain); err != nil {
			return err
		}
		fsx.Step("load.content")
		entries, err := a.entries(ctx)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := s.loadOne(ctx, e, o, progress); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) loadOne(ctx context.Context, e loaded, o LoadOptions, progress ProgressFunc) error {
	note := func(ProgressKind, ocispec.Descriptor, int64) {}
	if !o.Quiet {
		rows := make(chan Progress)
		done := make(chan struct{})
		go func() { // layers are unpacked side by side, rows come one by one
			defer close(done)
			for r := range rows {
				progress(r)
			}
		}()
		defer func() { close(rows); <-done }()
		note = func(_ ProgressKind, d ocispec.Descriptor, n int64) {
			rows <- Progress{ID: ids.Short(d.Digest.Encoded()), Status: "Loading layer", Current: n, Total: d.Size, Layer: true}
		}
	}
	err := s.adoptNoting(ctx, e.target, o.Platform, note)
	if errdefs.IsNotFound(err) && o.Platform != nil {
		return errkind.NotFound("requested platform(s) ([%s]) not found in %s: %w", platforms.Format(*o.Platform), e.target.Digest, err)
	}
	if err != nil {
		return err
	}
	fsx.Step("load.unpacked")
	names := e.names
	if len(names) == 0 {
		names = []string{dangling(e.target.Digest)}
	}
	for _, name := range names {
		if err := s.put(ctx, name, e.target); err != nil {
			return err
		}
		fsx.Step("load.named")
		text := "Loaded image ID: " + e.target.Digest.String()
		if !strings.HasPrefix(name, danglingPrefix) {
			text = "Loaded image: " + familiarName(name)
		}
		progress(Progress{Stream: text + "\n"})
	}
	s.publish("load", e.target.Digest.String(), e.target.Digest.String())
	return nil
}

// loaded is an image of an archive.
type loaded struct {
	names  []string // normalised
	target ocispec.Descriptor
}

// archiveReader takes an archive apart: blobs go into the store as they come, documents are kept.
type archiveReader struct {
	s     *Service
	files map[string]ocispec.Descriptor
	links map[string]string
	docs  map[string][]byte
}

// read takes everything in. Names are only ever compared, never used as paths.
func (a *archiveReader) read(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(bufio.NewReaderSize(r, 1<<20))
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errkind.InvalidArgument("%w", err)
		}
		if n >= maxArchiveEntries {
			return errkind.InvalidArgument("archive has more than %d entries", maxArchiveEntries)
		}
		if len(h.Name) > 4<<10 || len(h.Linkname) > 4<<10 {
			return errkind.InvalidArgument("archive has a name longer than 4096 bytes")
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch h.Typeflag {
		case tar.TypeSymlink:
			a.links[name] = strings.TrimPrefix(path.Join("/", path.Dir(name), h.Linkname), "/")
		case tar.TypeLink:
			a.links[name] = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		case tar.TypeReg:
			if err := a.file(ctx, name, h.Size, tr); err != nil {
				return err
			}
		}
	}
}

func (a *archiveReader) file(ctx context.Context, name string, size int64, r io.Reader) error {
	switch name {
	case "manifest.json", "index.json", ocispec.ImageLayoutFile, "repositories":
		if size > maxDocument {
			return errkind.InvalidArgument("%s has %d bytes, more than %d", name, size, maxDocument)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return errkind.InvalidArgument("%w", err)
		}
		a.docs[name] = b
		return nil
	}
	var want digest.Digest
	if rest, ok := strings.CutPrefix(name, "blobs/"); ok {
		want = digest.Digest(strings.Replace(rest, "/", ":", 1))
		if err := want.Validate(); err != nil {
			return errkind.InvalidArgument("archive entry %q: %w", clipped(name), err)
		}
	}
	d, err := a.s.ingestFile(ctx, r, size, want)
	if err != nil {
		return err
	}
	a.files[name] = d
	return nil
}

func clipped(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// ingestFile stores a file of known size; want is what its name promises, or "". What the store has is not written again.
func (s *Service) ingestFile(ctx context.Context, r io.Reader, size int64, want digest.Digest) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{Digest: want, Size: size}
	if want != "" {
		if info, err := s.content.Info(ctx, want); err == nil && info.Size == size {
			return d, s.hold(ctx, leases.Resource{ID: want.String(), Type: "content"})
		}
	}
	ref := "load-" + ids.New()
	w, err := content.OpenWriter(ctx, s.content, content.WithRef(ref), content.WithDescriptor(ocispec.Descriptor{Size: size}))
	if err != nil {
		return d, err
	}
	defer w.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return d, errkind.InvalidArgument("%w", err)
	}
	d.Digest = w.Digest()
	if want != "" && d.Digest != want {
		if want.Algorithm() != digest.SHA256 {
			return d, errkind.InvalidArgument("blob %s: unsupported digest", want)
		}
		return d, errkind.InvalidArgument("blob %s has other bytes: %s", want, d.Digest)
	}
	err = w.Commit(ctx, size, d.Digest)
	if errdefs.IsAlreadyExists(err) {
		return d, s.hold(ctx, leases.Resource{ID: d.Digest.String(), Type: "content"})
	}
	return d, err
}

// entries are the images of the archive: as index.json has them, or as manifest.json does.
func (a *archiveReader) entries(ctx context.Context) ([]loaded, error) {
	if raw, ok := a.docs["index.json"]; ok && a.docs[ocispec.ImageLayoutFile] != nil {
		return a.layout(raw)
	}
	if raw, ok := a.docs["manifest.json"]; ok {
		return a.legacy(ctx, raw)
	}
	return nil, errNoImages()
}

func (a *archiveReader) layout(raw []byte) ([]loaded, error) {
	var idx ocispec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return nil, errkind.InvalidArgument("index.json: %w", err)
	}
	var out []loaded
	for _, m := range idx.Manifests {
		if err := m.Digest.Validate(); err != nil {
			return nil, errkind.InvalidArgument("index.json: descriptor %q: %w", clipped(string(m.Digest)), err)
		}
		e := loaded{target: ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}}
		name := m.Annotations[images.AnnotationImageName]
		if ref := m.Annotations[ocispec.AnnotationRefName]; name == "" && strings.ContainsAny(ref, ":/") {
			name = ref // other tools put the whole name there; a mere tag names nothing
		}
		if name != "" {
			n, err := parseRef(name)
			if err != nil {
				return nil, err
			}
			e.names = []string{n.String()}
		}
		out = append(out, e)
	}
	return out, nil
}

// find follows links of the archive to a stored file.
func (a *archiveReader) find(name string) (ocispec.Descriptor, bool) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	for range 16 {
		if d, ok := a.files[name]; ok {
			return d, true
		}
		to, ok := a.links[name]
		if !ok {
			break
		}
		name = to
	}
	return ocispec.Descriptor{}, false
}

func (a *archiveReader) legacy(ctx context.Context, raw []byte) ([]loaded, error) {
	var list []legacyImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errkind.InvalidArgument("manifest.json: %w", err)
	}
	var out []loaded
	for _, i := range list {
		config, ok := a.find(i.Config)
		if !ok {
			return nil, errkind.InvalidArgument("image config %q not found", clipped(i.Config))
		}
		config.MediaType = images.MediaTypeDockerSchema2Config
		if len(i.Layers) > maxLayers {
			return nil, errkind.InvalidArgument("manifest.json has %d layers, more than %d", len(i.Layers), maxLayers)
		}
		layers := []ocispec.Descriptor{}
		for _, name := range i.Layers {
			l, ok := a.find(name)
			if !ok {
				return nil, errkind.InvalidArgument("layer %q not found", clipped(name))
			}
			var err error
			if l.MediaType, err = a.s.layerType(ctx, l); err != nil {
				return nil, err
			}
			layers = append(layers, l)
		}
		// The order of the fields is that of every tool which makes such a manifest: its digest is the image's id.
		target, err := a.s.writeJSON(ctx, images.MediaTypeDockerSchema2Manifest, nil, struct {
			SchemaVersion int                  `json:"schemaVersion"`
			MediaType     string               `json:"mediaType"`
			Config        ocispec.Descriptor   `json:"config"`
			Layers        []ocispec.Descriptor `json:"layers"`
		}{2, images.MediaTypeDockerSchema2Manifest, config, layers})
		if err != nil {
			return nil, err
		}
		e := loaded{target: target}
		for _, t := range i.RepoTags {
			n, err := reference.ParseNormalizedNamed(t)
			if err != nil {
				return nil, errkind.InvalidArgument("invalid tag %q: %w", clipped(t), err)
			}
			e.names = append(e.names, reference.TagNameOnly(n).String())
		}
		out = append(out, e)
	}
	return out, nil
}

// layerType tells from its first bytes what a layer is.
func (s *Service) layerType(ctx context.Context, d ocispec.Descriptor) (string, error) {
	ra, err := s.content.ReaderAt(ctx, d)
	if err != nil {
		return "", err
	}
	defer ra.Close()
	head := make([]byte, 4)
	n, err := ra.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch string(head[:n]) {
	case "\x28\xb5\x2f\xfd":
		return images.MediaTypeDockerSchema2LayerZstd, nil
	}
	if n > 2 && head[0] == 0x1f && head[1] == 0x8b {
		return images.MediaTypeDockerSchema2LayerGzip, nil
	}
	return images.MediaTypeDockerSchema2Layer, nil
}

// adopt checks a target, labels its children so that garbage collection keeps them, and unpacks the host's platform.
func (s *Service) adopt(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) error {
	return s.adoptNoting(ctx, target, p, func(ProgressKind, ocispec.Descriptor, int64) {})
}

func (s *Service) adoptNoting(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform, note Note) error {
	if err := images.Dispatch(ctx, images.SetChildrenLabels(s.content, present(s.content, images.ChildrenHandler(s.content))), nil, target); err != nil {
		if errdefs.IsNotFound(err) {
			return errkind.InvalidArgument("incomplete image: %w", err)
		}
		return fmt.Errorf("image %s: %w", target.Digest, err)
	}
	img, err := s.read(ctx, target, p)
	if err != nil {
		return err
	}
	_, m, err := s.manifest(ctx, img.Manifest, anyPlatform)
	if err != nil {
		return err
	}
	if err := checkManifest(m); err != nil {
		return err
	}
	return s.unpackNoting(ctx, img, note)
}

// present leaves out children whose content is not here: the other platforms of an index.
func present(cs content.Store, h images.HandlerFunc) images.HandlerFunc {
	return func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		kids, err := h(ctx, d)
		if err != nil {
			return nil, err
		}
		var out []ocispec.Descriptor
		for _, k := range kids {
			if _, err := cs.Info(ctx, k.Digest); err == nil {
				out = append(out, k)
			}
		}
		return out, nil
	}
}
