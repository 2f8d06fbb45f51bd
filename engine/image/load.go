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
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

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
		a := newArchiveReader(ctx, s)
		defer a.close(ctx)
		err := a.read(ctx, plain)
		if err = errors.Join(err, a.work.Wait()); err != nil {
			return err
		}
		fsx.Step("load.content")
		entries, err := a.entries(ctx)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := s.loadOne(ctx, e, a.early, o, progress); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) loadOne(ctx context.Context, e loaded, early map[digest.Digest]string, o LoadOptions, progress ProgressFunc) error {
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
	err := s.adoptNoting(ctx, e.target, o.Platform, early, note)
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

	// Blobs reach the disk, and plain layers are unpacked, while the next ones are read.
	work  *errgroup.Group
	mu    sync.Mutex
	early map[digest.Digest]string // snapshots of layers by digest
	buf   []byte
}

func newArchiveReader(ctx context.Context, s *Service) *archiveReader {
	a := &archiveReader{s: s, files: map[string]ocispec.Descriptor{}, links: map[string]string{}, docs: map[string][]byte{}, early: map[digest.Digest]string{}}
	a.work, _ = errgroup.WithContext(ctx)
	a.work.SetLimit(parallelUnpacks)
	return a
}

// close removes the snapshots that no image took.
func (a *archiveReader) close(ctx context.Context) {
	_ = a.work.Wait() // its error was told
	for _, k := range a.early {
		_ = a.s.sn.Remove(context.WithoutCancel(ctx), k) // collected with the lease otherwise
	}
}

// settle ends the storing of a blob: it reaches the disk, and if it looks like a layer it is unpacked.
func (a *archiveReader) settle(ctx context.Context, w content.Writer, d ocispec.Descriptor, isTar bool) error {
	err := w.Commit(ctx, d.Size, d.Digest)
	err = errors.Join(err, w.Close())
	if errdefs.IsAlreadyExists(err) {
		return a.s.hold(ctx, leases.Resource{ID: d.Digest.String(), Type: "content"})
	}
	if err != nil || !isTar || a.s.snName != "overlayfs" {
		return err
	}
	key := "extract/" + ids.New()
	ms, err := a.s.sn.Prepare(ctx, key, "")
	if err != nil {
		return err
	}
	dir, err := plainDir(ms)
	if err == nil {
		err = a.s.extract(ctx, d, d.Digest, dir, true, func(ProgressKind, ocispec.Descriptor, int64) {})
	}
	if err != nil { // it need not be a layer; if it is, that is told when it is unpacked as one
		return a.s.sn.Remove(context.WithoutCancel(ctx), key)
	}
	a.mu.Lock()
	old := a.early[d.Digest]
	a.early[d.Digest] = key
	a.mu.Unlock()
	if old != "" { // the same file twice
		return a.s.sn.Remove(ctx, old)
	}
	return nil
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
	d, err := a.ingest(ctx, r, size, want)
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

// tarMagic stands at tarMagicAt in every tar archive of our time.
const (
	tarMagic   = "ustar"
	tarMagicAt = 257
)

// ingest stores a file of known size; want is what its name promises, or "". What the store has is not written again.
func (a *archiveReader) ingest(ctx context.Context, r io.Reader, size int64, want digest.Digest) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{Digest: want, Size: size}
	if want != "" {
		if info, err := a.s.content.Info(ctx, want); err == nil && info.Size == size {
			return d, a.s.hold(ctx, leases.Resource{ID: want.String(), Type: "content"})
		}
	}
	w, err := content.OpenWriter(ctx, a.s.content, content.WithRef("load-"+ids.New()), content.WithDescriptor(ocispec.Descriptor{Size: size}))
	if err != nil {
		return d, err
	}
	if a.buf == nil {
		a.buf = make([]byte, 1<<20)
	}
	isTar, n := false, int64(0)
	for err == nil {
		var k int
		if k, err = io.ReadFull(r, a.buf); k == 0 {
			break
		}
		if n == 0 {
			isTar = k > tarMagicAt+len(tarMagic) && string(a.buf[tarMagicAt:tarMagicAt+len(tarMagic)]) == tarMagic
		}
		n += int64(k)
		if _, werr := w.Write(a.buf[:k]); werr != nil {
			err = werr
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n == size {
		err = nil
	}
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return d, errors.Join(errkind.InvalidArgument("%w", err), w.Close())
	}
	d.Digest = w.Digest()
	if want != "" && d.Digest != want {
		err := errkind.InvalidArgument("blob %s has other bytes: %s", want, d.Digest)
		if want.Algorithm() != digest.SHA256 {
			err = errkind.InvalidArgument("blob %s: unsupported digest", want)
		}
		return d, errors.Join(err, w.Close())
	}
	a.work.Go(func() error { return a.settle(ctx, w, d, isTar) })
	return d, nil
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
	return s.adoptNoting(ctx, target, p, nil, func(ProgressKind, ocispec.Descriptor, int64) {})
}

func (s *Service) adoptNoting(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform, early map[digest.Digest]string, note Note) error {
	img, err := s.keepChildren(ctx, target, p)
	if err != nil {
		return err
	}
	return s.unpackNoting(ctx, img, early, note)
}

// keepChildren labels what a target refers to, so that garbage collection keeps it, and checks the platform's manifest.
func (s *Service) keepChildren(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	if err := images.Dispatch(ctx, images.SetChildrenLabels(s.content, present(s.content, images.ChildrenHandler(s.content))), nil, target); err != nil {
		if errdefs.IsNotFound(err) {
			return nil, errkind.InvalidArgument("incomplete image: %w", err)
		}
		return nil, fmt.Errorf("image %s: %w", target.Digest, err)
	}
	img, err := s.read(ctx, target, p)
	if err != nil {
		return nil, err
	}
	_, m, err := s.manifest(ctx, img.Manifest, anyPlatform)
	if err != nil {
		return nil, err
	}
	return img, checkManifest(m)
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
