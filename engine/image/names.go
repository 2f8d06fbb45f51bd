package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// danglingPrefix begins the names of targets that have none of their own. Source: what dockerd calls them.
const danglingPrefix = "moby-dangling@"

func dangling(d digest.Digest) string { return danglingPrefix + d.String() }

// put makes name point at target. The target that loses its last name stays as a dangling image.
func (s *Service) put(ctx context.Context, name string, target ocispec.Descriptor) error {
	old, err := s.images.Get(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		_, err = s.images.Create(ctx, images.Image{Name: name, Target: target})
	case err == nil && old.Target.Digest == target.Digest:
		s.forget(target.Digest) // another platform of it may have come
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
	return s.nameDangling(ctx, target)
}

// nameDangling keeps a target that has no name.
func (s *Service) nameDangling(ctx context.Context, target ocispec.Descriptor) error {
	_, err := s.images.Create(ctx, images.Image{Name: dangling(target.Digest), Target: target})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}
