package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
)

// LoadOptions of Load.
type LoadOptions struct {
	Quiet    bool
	Platform *ocispec.Platform
}

// Load reads a docker-archive or OCI layout and makes its images. A broken archive leaves nothing behind.
func (s *Service) Load(ctx context.Context, r io.Reader, o LoadOptions, progress ProgressFunc) error {
	plain, err := decompress(r)
	if err != nil {
		return errkind.InvalidArgument("unrecognized image format: %w", err)
	}
	defer plain.Close()
	return s.leased(ctx, func(ctx context.Context) error {
		index, err := archive.ImportIndex(ctx, s.content, plain)
		if err != nil {
			return errkind.InvalidArgument("unrecognized image format: %w", err)
		}
		raw, err := s.document(ctx, index)
		if err != nil {
			return err
		}
		var idx ocispec.Index
		if err := json.Unmarshal(raw, &idx); err != nil {
			return errkind.InvalidArgument("unrecognized image format: %w", err)
		}
		for _, m := range idx.Manifests {
			if err := s.adopt(ctx, m, o.Platform); err != nil {
				return err
			}
			name := m.Annotations[images.AnnotationImageName]
			m.Annotations = nil
			m.Platform = nil
			if name == "" {
				if err := s.put(ctx, dangling(m.Digest), m); err != nil {
					return err
				}
				progress(Progress{Stream: "Loaded image ID: " + m.Digest.String() + "\n"})
				continue
			}
			n, err := parseRef(name)
			if err != nil {
				return err
			}
			if err := s.put(ctx, n.String(), m); err != nil {
				return err
			}
			progress(Progress{Stream: "Loaded image: " + reference.FamiliarString(n) + "\n"})
			s.publish("load", m.Digest.String(), m.Digest.String())
		}
		return nil
	})
}

// dangling names a target that has no name of its own.
func dangling(d digest.Digest) string { return "moby-dangling@" + d.String() }

// adopt checks a target, labels its children so that garbage collection keeps them, and unpacks the host's platform.
func (s *Service) adopt(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) error {
	if err := images.Dispatch(ctx, images.SetChildrenLabels(s.content, present(s.content, images.ChildrenHandler(s.content))), nil, target); err != nil {
		return err
	}
	img, err := s.read(ctx, target, p)
	if err != nil {
		return err
	}
	return s.unpack(ctx, img)
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

// put makes name point at target. The target that loses its last name stays as a dangling image.
func (s *Service) put(ctx context.Context, name string, target ocispec.Descriptor) error {
	old, err := s.images.Get(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		_, err = s.images.Create(ctx, images.Image{Name: name, Target: target})
	case err == nil && old.Target.Digest == target.Digest:
		return nil
	case err == nil:
		if _, err = s.images.Update(ctx, images.Image{Name: name, Target: target}, "target"); err == nil {
			err = s.keepDangling(ctx, old.Target)
		}
	}
	if err != nil {
		return fmt.Errorf("name %s: %w", name, err)
	}
	s.forget(target.Digest)
	if name != dangling(target.Digest) {
		if derr := s.images.Delete(ctx, dangling(target.Digest)); derr != nil && !errdefs.IsNotFound(derr) {
			return derr
		}
	}
	return nil
}

func (s *Service) keepDangling(ctx context.Context, target ocispec.Descriptor) error {
	all, err := s.images.List(ctx, "target.digest=="+target.Digest.String())
	if err != nil || len(all) > 0 {
		return err
	}
	_, err = s.images.Create(ctx, images.Image{Name: dangling(target.Digest), Target: target})
	return err
}

// ImportOptions of Import.
type ImportOptions struct {
	Repo, Tag, Message string
	Changes            Config
	Platform           *ocispec.Platform
}

// Import makes an image of one layer from a root file system archive.
func (s *Service) Import(ctx context.Context, r io.Reader, o ImportOptions) (id digest.Digest, err error) {
	var name reference.Named
	if o.Repo != "" {
		ref := o.Repo
		if o.Tag != "" {
			ref += ":" + o.Tag
		}
		if name, err = parseRef(ref); err != nil {
			return "", err
		}
	}
	plain, err := decompress(r)
	if err != nil {
		return "", errkind.InvalidArgument("%w", err)
	}
	defer plain.Close()
	err = s.leased(ctx, func(ctx context.Context) error {
		layer, err := s.ingest(ctx, plain, ocispec.MediaTypeImageLayer)
		if err != nil {
			return err
		}
		now := s.o.Now().UTC()
		p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		if o.Platform != nil {
			p = *o.Platform
		}
		comment := o.Message
		if comment == "" {
			comment = "Imported from -"
		}
		config, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, nil, map[string]any{
			"created": now, "architecture": p.Architecture, "os": p.OS, "variant": p.Variant, "comment": o.Message, "config": o.Changes,
			"rootfs":  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
			"history": []ocispec.History{{Created: &now, Comment: comment}},
		})
		if err != nil {
			return err
		}
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
		target, err := s.writeJSON(ctx, m.MediaType, map[string]string{
			"containerd.io/gc.ref.content.config": config.Digest.String(), "containerd.io/gc.ref.content.l.0": layer.Digest.String(),
		}, m)
		if err != nil {
			return err
		}
		if err := s.adopt(ctx, target, nil); err != nil {
			return err
		}
		id = target.Digest
		key := dangling(id)
		if name != nil {
			key = name.String()
		}
		return s.put(ctx, key, target)
	})
	if err == nil {
		s.publish("import", id.String(), id.String())
	}
	return id, err
}

func (s *Service) writeJSON(ctx context.Context, mediaType string, labels map[string]string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	err = content.WriteBlob(ctx, s.content, "put-"+d.Digest.String(), bytes.NewReader(b), d, content.WithLabels(labels))
	return d, err
}

// ingest stores a stream of unknown length and returns what it was.
func (s *Service) ingest(ctx context.Context, r io.Reader, mediaType string) (ocispec.Descriptor, error) {
	w, err := content.OpenWriter(ctx, s.content, content.WithRef("ingest-"+digest.FromString(s.o.Now().String()).Encoded()))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Close()
	n, err := io.Copy(w, r)
	if err != nil {
		return ocispec.Descriptor{}, errkind.InvalidArgument("%w", err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: w.Digest(), Size: n}
	if err := w.Commit(ctx, n, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return d, err
	}
	return d, nil
}
