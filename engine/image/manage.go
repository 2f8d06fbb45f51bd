package image

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// Inspect returns everything about one image; p chooses the platform, nil the host's.
func (s *Service) Inspect(ctx context.Context, ref string, p *ocispec.Platform) (*Details, error) {
	img, err := s.Resolve(ctx, ref, p)
	if p != nil && errdefs.IsNotFound(err) && !strings.HasPrefix(err.Error(), "No such image") {
		return nil, errkind.NotFound("image with reference %s was found but does not provide the specified platform (%s)", ref, platforms.Format(*p))
	}
	if err != nil {
		return nil, err
	}
	names, err := s.images.List(ns(ctx), "target.digest=="+img.ID.String())
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, notFound(ref)
	}
	sum, err := s.summary(ns(ctx), names, img)
	if err != nil {
		return nil, err
	}
	d := &Details{Summary: sum, Image: img}
	for _, n := range names {
		if n.UpdatedAt.After(d.LastTagged) {
			d.LastTagged = n.UpdatedAt
		}
	}
	return d, nil
}

// History lists the steps of an image's making, newest first.
func (s *Service) History(ctx context.Context, ref string, p *ocispec.Platform) ([]HistoryEntry, error) {
	if p != nil {
		if n, err := parseRef(ref); err == nil {
			ref = reference.FamiliarString(n)
		}
	}
	d, err := s.Inspect(ctx, ref, p)
	if err != nil {
		return nil, err
	}
	ctx = ns(ctx)
	_, m, err := s.manifest(ctx, d.Image.Manifest, anyPlatform)
	if err != nil {
		return nil, err
	}
	raw, err := s.document(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	var cfg ocispec.Image
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return nil, err
	}
	out := make([]HistoryEntry, 0, len(cfg.History))
	layer := 0
	for _, h := range cfg.History {
		e := HistoryEntry{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			e.Created = *h.Created
		}
		if !h.EmptyLayer && layer < len(d.Image.Layers) {
			layer++
			if u, err := s.sn.Usage(ctx, identity.ChainID(d.Image.Layers[:layer]).String()); err == nil {
				e.Size = u.Size
			}
		}
		out = append(out, e)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID = d.ID.String()
		if len(d.Tags) > 0 {
			out[0].Tags = d.Tags
		}
	}
	return out, nil
}

// Tag gives an image a further name. An empty repo does nothing, as dockerd has it.
func (s *Service) Tag(ctx context.Context, src, repo, tag string) error {
	n, err := Name(repo, tag)
	if err != nil || n == nil {
		return err
	}
	if _, ok := n.(reference.Digested); ok {
		return errkind.InvalidArgument("cannot import digest reference")
	}
	_, target, err := s.lookup(ctx, src)
	if err != nil {
		return err
	}
	if err := s.put(ns(ctx), n.String(), target); err != nil {
		return err
	}
	s.publish("tag", target.Digest.String(), reference.FamiliarString(n))
	return nil
}

func short(d digest.Digest) string { return ids.Short(d.Encoded()) }

func repositories(all []images.Image) int {
	seen := map[string]bool{}
	for _, i := range all {
		if n, err := reference.ParseNormalizedNamed(i.Name); err == nil && !strings.HasPrefix(i.Name, danglingPrefix) {
			seen[n.Name()] = true
		}
	}
	return len(seen)
}

// Total is the number of images and the bytes of their content and layers.
func (s *Service) Total(ctx context.Context) (n int, bytes int64, err error) {
	all, err := s.List(ctx, ListOptions{})
	for _, i := range all {
		bytes += i.Size
	}
	return len(all), bytes, err
}
