package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// maxDocument is the largest manifest, index or config that is read, in bytes.
const maxDocument = 8 << 20

func parseRef(ref string) (reference.Named, error) {
	n, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, errkind.InvalidArgument("%w", err)
	}
	return reference.TagNameOnly(n), nil
}

func notFound(ref string) error {
	if n, err := parseRef(ref); err == nil {
		return errkind.NotFound("No such image: %s", reference.FamiliarString(n))
	}
	return errkind.NotFound("No such image: %s", ref)
}

// lookup finds the target of a reference: full id, name, short id, in this order. name is set if a name was meant.
func (s *Service) lookup(ctx context.Context, ref string) (name string, target ocispec.Descriptor, err error) {
	ctx = ns(ctx)
	if strings.HasPrefix(ref, "sha256:") {
		all, err := s.images.List(ctx, "target.digest~=^"+ref)
		return "", pick(ref, all, &err), err
	}
	n, err := parseRef(ref)
	if err == nil {
		img, err := s.images.Get(ctx, n.String())
		if err == nil {
			return img.Name, img.Target, nil
		}
		if d, ok := n.(reference.Digested); ok {
			all, err := s.images.List(ctx, "target.digest=="+d.Digest().String())
			all = slices.DeleteFunc(all, func(i images.Image) bool { return !strings.HasPrefix(i.Name, n.Name()) })
			return "", pick(ref, all, &err), err
		}
	}
	if ids.IsHex(ref) && len(ref) <= 64 {
		all, lerr := s.images.List(ctx, "target.digest~=^sha256:"+ref)
		if lerr == nil && len(all) > 0 {
			return "", pick(ref, all, &lerr), lerr
		}
	}
	if err != nil {
		return "", ocispec.Descriptor{}, err
	}
	return "", ocispec.Descriptor{}, notFound(ref)
}

func pick(ref string, all []images.Image, err *error) ocispec.Descriptor {
	if *err != nil {
		return ocispec.Descriptor{}
	}
	if len(all) == 0 {
		*err = notFound(ref)
		return ocispec.Descriptor{}
	}
	for _, i := range all[1:] {
		if i.Target.Digest != all[0].Target.Digest {
			*err = errkind.NotFound("ambiguous reference %s", ref)
			return ocispec.Descriptor{}
		}
	}
	return all[0].Target
}

// Resolve finds an image by id, name or short id, for a platform (nil: the host's, or the only one there).
//
// Errors: ErrNotFound with the text "No such image: …"; ErrInvalidArgument for a bad reference.
func (s *Service) Resolve(ctx context.Context, ref string, p *ocispec.Platform) (*Image, error) {
	_, target, err := s.lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	if p == nil {
		s.mu.Lock()
		img := s.mu.byID[target.Digest]
		s.mu.Unlock()
		if img != nil {
			return img, nil
		}
	}
	img, err := s.read(ns(ctx), target, p)
	if errdefs.IsNotFound(err) && p != nil {
		return nil, errkind.NotFound("image with reference %s was found but does not match the specified platform: wanted %s", ref, platforms.Format(*p))
	}
	if err != nil {
		return nil, err
	}
	if p == nil {
		s.mu.Lock()
		s.mu.byID[target.Digest] = img
		s.mu.Unlock()
	}
	return img, nil
}

// read assembles an Image from content.
func (s *Service) read(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	match := platforms.Default()
	if p != nil {
		match = platforms.OnlyStrict(platforms.Normalize(*p))
	}
	desc, m, err := s.manifest(ctx, target, match)
	if err != nil && p == nil && errdefs.IsNotFound(err) {
		desc, m, err = s.manifest(ctx, target, platforms.All)
	}
	if err != nil {
		return nil, err
	}
	raw, err := s.document(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	var cfg struct {
		ocispec.Platform
		Created *time.Time     `json:"created"`
		Author  string         `json:"author"`
		Comment string         `json:"comment"`
		Config  Config         `json:"config"`
		RootFS  ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if p != nil && !match.Match(platforms.Normalize(cfg.Platform)) {
		return nil, errkind.NotFound("platform %s", platforms.Format(*p))
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return nil, errkind.InvalidArgument("manifest %s has %d layers, its config %d", desc.Digest, len(m.Layers), len(cfg.RootFS.DiffIDs))
	}
	return &Image{
		ID: target.Digest, Target: target, Manifest: desc, Platform: cfg.Platform, Config: cfg.Config, Layers: cfg.RootFS.DiffIDs,
		Created: cfg.Created, Author: cfg.Author, Comment: cfg.Comment,
	}, nil
}

// manifest walks an index to the best manifest whose content is here.
func (s *Service) manifest(ctx context.Context, d ocispec.Descriptor, match platforms.MatchComparer) (ocispec.Descriptor, *ocispec.Manifest, error) {
	raw, err := s.document(ctx, d)
	if err != nil {
		return d, nil, err
	}
	var doc struct {
		ocispec.Manifest
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return d, nil, errkind.InvalidArgument("document %s: %w", d.Digest, err)
	}
	if len(doc.Manifests) > 0 && len(doc.Layers) > 0 {
		return d, nil, errkind.InvalidArgument("document %s is manifest and index at once", d.Digest)
	}
	if images.IsManifestType(d.MediaType) {
		return d, &doc.Manifest, nil
	}
	if !images.IsIndexType(d.MediaType) {
		return d, nil, errkind.InvalidArgument("unsupported media type %q", d.MediaType)
	}
	fit := slices.DeleteFunc(slices.Clone(doc.Manifests), func(m ocispec.Descriptor) bool {
		return m.Platform != nil && !match.Match(platforms.Normalize(*m.Platform)) || m.Annotations["vnd.docker.reference.type"] != ""
	})
	slices.SortStableFunc(fit, func(a, b ocispec.Descriptor) int {
		switch {
		case a.Platform == nil || b.Platform == nil:
			return 0
		case match.Less(*a.Platform, *b.Platform):
			return -1
		case match.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	for _, m := range fit {
		if got, man, err := s.manifest(ctx, m, match); err == nil {
			return got, man, nil
		} else if !errdefs.IsNotFound(err) {
			return d, nil, err
		}
	}
	return d, nil, errkind.NotFound("no manifest for the platform in %s", d.Digest)
}

func (s *Service) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, errkind.InvalidArgument("document %s has %d bytes, more than %d", d.Digest, d.Size, maxDocument)
	}
	b, err := content.ReadBlob(ctx, s.content, d)
	if err != nil {
		return nil, err
	}
	if d.Digest.Algorithm().FromBytes(b) != d.Digest {
		return nil, errors.New("content of " + d.Digest.String() + " is damaged")
	}
	return b, nil
}

// forget drops cached images; called when names or content change.
func (s *Service) forget(id digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.byID, id)
	delete(s.mu.sizes, id)
}
