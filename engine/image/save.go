package image

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
)

// saved is an image with the name it is saved under; "" for none.
type saved struct {
	name   string // normalised
	target ocispec.Descriptor
}

// Save writes images as an OCI layout with the manifest.json that older readers want. A name without a tag stands for all
// tags of the repository; an id for an image without a name. begin is called when all is found, and gives the destination.
//
// Errors before begin: ErrNotFound.
func (s *Service) Save(ctx context.Context, refs []string, p *ocispec.Platform, begin func() io.Writer) error {
	return s.leased(ctx, func(ctx context.Context) error {
		var list []saved
		for _, r := range refs {
			found, err := s.toSave(ctx, r)
			if err != nil {
				return err
			}
			list = append(list, found...)
		}
		w := &layoutWriter{s: s, blobs: map[digest.Digest]ocispec.Descriptor{}, index: ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}}
		for _, v := range list {
			if err := s.hold(ctx, leases.Resource{ID: v.target.Digest.String(), Type: "content"}); err != nil {
				return err
			}
			if err := w.add(ctx, v, p); err != nil {
				return err
			}
		}
		buf := bufio.NewWriterSize(begin(), 1<<20)
		if err := w.write(ctx, buf); err != nil {
			return err
		}
		for _, v := range list {
			s.publish("save", v.target.Digest.String(), v.target.Digest.String())
		}
		return buf.Flush()
	})
}

func (s *Service) toSave(ctx context.Context, ref string) ([]saved, error) {
	name, target, err := s.lookup(ctx, ref)
	n, perr := reference.ParseNormalizedNamed(ref)
	if perr == nil && reference.IsNameOnly(n) && (err != nil || name != "") {
		all, lerr := s.images.List(ctx)
		if lerr != nil {
			return nil, lerr
		}
		var out []saved
		for _, i := range all {
			in, err := reference.ParseNormalizedNamed(i.Name)
			if _, tagged := in.(reference.NamedTagged); err == nil && tagged && in.Name() == n.Name() {
				out = append(out, saved{i.Name, i.Target})
			}
		}
		if len(out) > 0 {
			slices.SortFunc(out, func(a, b saved) int { return cmp.Compare(a.name, b.name) })
			return out, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return []saved{{name, target}}, nil
}

// layoutWriter collects what goes into an archive.
type layoutWriter struct {
	s     *Service
	index ocispec.Index
	blobs map[digest.Digest]ocispec.Descriptor
	old   []legacyImage // manifest.json
}

// legacyImage is an entry of manifest.json. Source: the format that `docker save` has written since 1.10.
type legacyImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobPath(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

func (w *layoutWriter) add(ctx context.Context, v saved, p *ocispec.Platform) error {
	target := v.target
	match := platforms.Default()
	if p != nil {
		match = platforms.OnlyStrict(platforms.Normalize(*p))
	}
	d, m, err := w.s.manifest(ctx, target, match)
	if err == nil && p != nil {
		err = w.s.providesPlatform(ctx, m, *p)
	}
	if p != nil && errdefs.IsNotFound(err) {
		return errkind.NotFound("no suitable export target found: image with reference %s was found but does not provide the specified platform (%s)", familiar(v), platforms.Format(*p))
	}
	if errdefs.IsNotFound(err) {
		d, m, err = w.s.manifest(ctx, target, platforms.All)
	}
	if err != nil {
		return err
	}
	if p != nil {
		target = d
	}
	if err := w.collect(ctx, target); err != nil {
		return err
	}
	entry := ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	old := legacyImage{Config: blobPath(m.Config.Digest), Layers: []string{}}
	for _, l := range m.Layers {
		old.Layers = append(old.Layers, blobPath(l.Digest))
	}
	if n, err := reference.ParseNormalizedNamed(v.name); v.name != "" && err == nil {
		if t, ok := n.(reference.NamedTagged); ok {
			old.RepoTags = []string{reference.FamiliarString(t)}
			entry.Annotations = map[string]string{images.AnnotationImageName: v.name, ocispec.AnnotationRefName: t.Tag()}
		}
	}
	w.index.Manifests = append(w.index.Manifests, entry)
	for i := range w.old {
		if w.old[i].Config == old.Config && slices.Equal(w.old[i].Layers, old.Layers) {
			w.old[i].RepoTags = append(w.old[i].RepoTags, old.RepoTags...)
			return nil
		}
	}
	w.old = append(w.old, old)
	return nil
}

func familiar(v saved) string {
	if n, err := reference.ParseNormalizedNamed(v.name); err == nil && v.name != "" {
		return reference.FamiliarString(n)
	}
	return v.target.Digest.String()
}

// collect notes a blob and those it refers to, as far as they are here: other platforms may not be.
func (w *layoutWriter) collect(ctx context.Context, d ocispec.Descriptor) error {
	if _, ok := w.blobs[d.Digest]; ok {
		return nil
	}
	if _, err := w.s.content.Info(ctx, d.Digest); err != nil {
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
	w.blobs[d.Digest] = d
	if !images.IsIndexType(d.MediaType) && !images.IsManifestType(d.MediaType) {
		return nil
	}
	kids, err := images.Children(ctx, w.s.content, d)
	if err != nil {
		return err
	}
	for _, k := range kids {
		if err := w.collect(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (w *layoutWriter) write(ctx context.Context, out io.Writer) error {
	tw := tar.NewWriter(out)
	if len(w.blobs) > 0 {
		for _, d := range []string{"blobs/", "blobs/sha256/"} {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}); err != nil {
				return err
			}
		}
	}
	keys := slices.Sorted(maps.Keys(w.blobs))
	buf := make([]byte, 1<<20)
	for _, k := range keys {
		if err := w.blob(ctx, tw, w.blobs[k], buf); err != nil {
			return err
		}
	}
	docs := []struct {
		name string
		mode int64
		v    any
	}{{"index.json", 0o644, w.index}, {"manifest.json", 0o644, w.old}, {ocispec.ImageLayoutFile, 0o444, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}}
	for _, d := range docs {
		if d.name == "manifest.json" && len(w.old) == 0 {
			continue
		}
		b, err := json.Marshal(d.v)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: d.name, Mode: d.mode, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := tw.Write(b); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (w *layoutWriter) blob(ctx context.Context, tw *tar.Writer, d ocispec.Descriptor, buf []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	ra, err := w.s.content.ReaderAt(ctx, d)
	if err != nil {
		return err
	}
	defer ra.Close()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: blobPath(d.Digest), Mode: 0o444, Size: ra.Size()}); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{tw}, struct{ io.Reader }{io.NewSectionReader(ra, 0, ra.Size())}, buf)
	return err
}

// providesPlatform checks what the config says: a single manifest tells its platform nowhere else.
func (s *Service) providesPlatform(ctx context.Context, m *ocispec.Manifest, want ocispec.Platform) error {
	raw, err := s.document(ctx, m.Config)
	if err != nil {
		return err
	}
	var p ocispec.Platform
	if err := json.Unmarshal(raw, &p); err != nil {
		return errkind.InvalidArgument("config %s: %w", m.Config.Digest, err)
	}
	if !platforms.OnlyStrict(platforms.Normalize(want)).Match(platforms.Normalize(p)) {
		return errkind.NotFound("platform %s", platforms.Format(want))
	}
	return nil
}
