package buildkit

import (
	"context"
	"maps"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/worker/base"
	"github.com/opencontainers/go-digest"
)

// nameStore is the engine's image names for BuildKit, whose contexts carry no namespace.
type nameStore struct {
	store     images.Store
	namespace string
	named     func(name string, id digest.Digest, fresh bool)
}

var _ images.Store = (*nameStore)(nil)

func (s *nameStore) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.namespace)
}

func (s *nameStore) Get(ctx context.Context, name string) (images.Image, error) {
	return s.store.Get(s.in(ctx), name)
}

func (s *nameStore) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return s.store.List(s.in(ctx), filters...)
}

func (s *nameStore) Create(ctx context.Context, i images.Image) (images.Image, error) {
	out, err := s.store.Create(s.in(ctx), i)
	if err == nil {
		s.named(i.Name, i.Target.Digest, true)
	}
	return out, err
}

// Update moves a name. What it pointed at stays in the store under a name of its own, as an untagged image.
func (s *nameStore) Update(ctx context.Context, i images.Image, fields ...string) (images.Image, error) {
	ctx = s.in(ctx)
	old, err := s.store.Get(ctx, i.Name)
	if err != nil {
		return images.Image{}, err
	}
	if old.Target.Digest != i.Target.Digest && !strings.HasPrefix(i.Name, danglingPrefix) {
		if err := s.keep(ctx, old); err != nil {
			return images.Image{}, err
		}
	}
	out, err := s.store.Update(ctx, i, fields...)
	if err == nil {
		s.named(i.Name, i.Target.Digest, false)
	}
	return out, err
}

// keep gives an image that loses its last name a dangling one.
func (s *nameStore) keep(ctx context.Context, old images.Image) error {
	all, err := s.store.List(ctx, "target.digest=="+old.Target.Digest.String())
	if err != nil || len(all) > 1 {
		return err
	}
	_, err = s.store.Create(ctx, images.Image{Name: danglingPrefix + "@" + old.Target.Digest.String(), Target: old.Target})
	return err
}

func (s *nameStore) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	return s.store.Delete(s.in(ctx), name, opts...)
}

// danglingPrefix names images without a tag; engine/image knows it too.
const danglingPrefix = "moby-dangling"

// storeWorker adds the exporter that clients of a Docker daemon ask for: into this engine's image store.
type storeWorker struct{ *base.Worker }

// Exporter implements worker.Worker.
func (w *storeWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != "moby" {
		return w.Worker.Exporter(name, sm)
	}
	e, err := w.Worker.Exporter(client.ExporterImage, sm)
	return &storeExporter{e}, err
}

type storeExporter struct{ exporter.Exporter }

// Resolve fills in what "into the image store" means: unpacked, named as this engine names images.
func (e *storeExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	a := maps.Clone(attrs)
	if a == nil {
		a = map[string]string{}
	}
	a[string(exptypes.OptKeyUnpack)], a[string(exptypes.OptKeyDanglingPrefix)], a[string(exptypes.OptKeyDanglingEmptyOnly)] = "true", danglingPrefix, "true"
	if a["name"] != "" {
		var names []string
		for n := range strings.SplitSeq(a["name"], ",") {
			ref, err := reference.ParseNormalizedNamed(n)
			if err != nil {
				return nil, err
			}
			names = append(names, reference.TagNameOnly(ref).String())
		}
		a["name"] = strings.Join(names, ",")
	}
	return e.Exporter.Resolve(ctx, id, a)
}
