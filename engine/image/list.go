package image

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ListOptions of List; the zero value lists everything.
type ListOptions struct {
	Dangling      *bool    // images without a tag, or with one
	References    []string // patterns of names; one must match, and only names that do are shown
	Before, Since string   // images made before or after this one
	Until         time.Time
	Labels        func(map[string]string) bool
	SharedSize    bool // fill Summary.Shared
	Manifests     bool // fill Summary.Manifests
}

// List returns images, newest first.
//
// Errors: ErrNotFound for an image in Before or Since.
func (s *Service) List(ctx context.Context, o ListOptions) ([]Summary, error) {
	ctx = ns(ctx)
	var before, since time.Time
	for ref, t := range map[string]*time.Time{o.Before: &before, o.Since: &since} {
		if ref == "" {
			continue
		}
		img, err := s.Resolve(ctx, ref, nil)
		if err != nil {
			return nil, err
		}
		if img.Created != nil {
			*t = *img.Created
		}
	}
	all, err := s.images.List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest][]images.Image{}
	for _, i := range all {
		byID[i.Target.Digest] = append(byID[i.Target.Digest], i)
	}
	out := make([]Summary, 0, len(byID))
	used := map[string]int{} // images by layer
	chains := map[digest.Digest][]string{}
	for id, names := range byID {
		img, err := s.Resolve(ctx, id.String(), nil)
		var sum Summary
		if err == nil {
			sum, err = s.summary(ctx, names, img)
		}
		if errdefs.IsNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		for i := range img.Layers {
			c := identity.ChainID(img.Layers[:i+1]).String()
			used[c]++
			chains[id] = append(chains[id], c)
		}
		if o.Dangling != nil && *o.Dangling != (len(sum.Tags) == 0) || o.Labels != nil && !o.Labels(sum.Labels) || o.Before != "" && !sum.Created.Before(before) ||
			o.Since != "" && !sum.Created.After(since) || !o.Until.IsZero() && !sum.Created.Before(o.Until) {
			continue
		}
		if len(o.References) > 0 {
			sum.Tags = slices.DeleteFunc(sum.Tags, func(t string) bool { return !matches(o.References, t) })
			if len(sum.Tags) == 0 && !slices.ContainsFunc(sum.Digests, func(d string) bool { return matches(o.References, d) }) {
				continue
			}
		}
		if o.Manifests {
			if sum.Manifests, err = s.manifests(ctx, sum.Target); err != nil {
				return nil, err
			}
		}
		out = append(out, sum)
	}
	if o.SharedSize {
		for i := range out {
			for _, c := range chains[out[i].ID] {
				if u, err := s.sn.Usage(ctx, c); err == nil && used[c] > 1 {
					out[i].Shared += u.Size
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Summary) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out, nil
}

// matches compares a familiar name with patterns, as a whole and without tag or digest, short and in full.
func matches(patterns []string, familiar string) bool {
	n, err := reference.ParseNormalizedNamed(familiar)
	if err != nil {
		return false
	}
	forms := []string{familiar, reference.FamiliarName(n), n.String(), n.Name()}
	return slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(forms, func(f string) bool {
			ok, _ := path.Match(p, f) // what is no pattern matches nothing
			return ok
		})
	})
}

func (s *Service) summary(ctx context.Context, names []images.Image, img *Image) (Summary, error) {
	target := names[0].Target
	sum := Summary{ID: target.Digest, Target: target, Labels: img.Config.Labels, Platform: img.Platform, Comment: img.Comment, Author: img.Author, Tags: []string{}, Digests: []string{}}
	if img.Created != nil {
		sum.Created = *img.Created
	}
	if info, err := s.content.Info(ctx, img.Manifest.Digest); err == nil {
		sum.Parent = info.Labels[labelParent]
	}
	for _, i := range names {
		n, err := reference.ParseNormalizedNamed(i.Name)
		if err != nil || strings.HasPrefix(i.Name, danglingPrefix) {
			continue
		}
		if _, ok := n.(reference.Tagged); ok {
			sum.Tags = append(sum.Tags, reference.FamiliarString(n))
		}
		if d := reference.FamiliarName(n) + "@" + target.Digest.String(); !slices.Contains(sum.Digests, d) {
			sum.Digests = append(sum.Digests, d)
		}
	}
	slices.Sort(sum.Tags)
	slices.Sort(sum.Digests)
	var err error
	sum.Size, err = s.size(ctx, target)
	return sum, err
}

// size is compressed blobs and unpacked snapshots of all platforms that are here, as the containerd store counts.
func (s *Service) size(ctx context.Context, target ocispec.Descriptor) (int64, error) {
	s.mu.Lock()
	total, known := s.mu.sizes[target.Digest]
	s.mu.Unlock()
	if known {
		return total, nil
	}
	ms, err := s.manifests(ctx, target)
	if err != nil {
		return 0, err
	}
	if images.IsIndexType(target.MediaType) {
		total = target.Size
	}
	for _, m := range ms {
		total += m.Content + m.Unpacked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sizes[target.Digest] = total
	return total, nil
}

// Manifest is one manifest of a target: a platform of the image, or an attestation about one.
type Manifest struct {
	Target    ocispec.Descriptor
	Available bool // all of its content is here
	Content   int64
	Unpacked  int64
	Platform  ocispec.Platform
	For       digest.Digest // of an attestation: what it is about
	Image     bool
}

// manifests lists what is in a target, in its order.
func (s *Service) manifests(ctx context.Context, target ocispec.Descriptor) ([]Manifest, error) {
	if !images.IsIndexType(target.MediaType) {
		m, err := s.describe(ctx, target)
		return []Manifest{m}, err
	}
	raw, err := s.document(ctx, target)
	if err != nil {
		return nil, err
	}
	var idx ocispec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return nil, err
	}
	var out []Manifest
	for _, d := range idx.Manifests {
		if images.IsIndexType(d.MediaType) {
			continue // nobody makes these; they have no platform
		}
		m, err := s.describe(ctx, d)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func (s *Service) describe(ctx context.Context, d ocispec.Descriptor) (Manifest, error) {
	m := Manifest{Target: d, Image: d.Annotations["vnd.docker.reference.type"] == "", For: digest.Digest(d.Annotations["vnd.docker.reference.digest"])}
	if d.Platform != nil {
		m.Platform = *d.Platform
	}
	raw, err := s.document(ctx, d)
	if errdefs.IsNotFound(err) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	var doc ocispec.Manifest
	if err := json.Unmarshal(raw, &doc); err != nil {
		return m, err
	}
	m.Available, m.Content = true, d.Size
	for _, b := range append([]ocispec.Descriptor{doc.Config}, doc.Layers...) {
		if info, err := s.content.Info(ctx, b.Digest); err == nil {
			m.Content += info.Size
		} else if !images.IsNonDistributable(b.MediaType) {
			m.Available = false
		}
	}
	raw, err = s.document(ctx, doc.Config)
	if err != nil || !m.Image {
		return m, nil //nolint:nilerr // without its config there is no more to tell
	}
	var cfg struct {
		ocispec.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return m, nil //nolint:nilerr // as above
	}
	if d.Platform == nil {
		m.Platform = cfg.Platform
	}
	for i := range cfg.RootFS.DiffIDs {
		if u, err := s.sn.Usage(ctx, identity.ChainID(cfg.RootFS.DiffIDs[:i+1]).String()); err == nil {
			m.Unpacked += u.Size
		}
	}
	return m, nil
}

// Manifests lists the manifests of an image.
func (s *Service) Manifests(ctx context.Context, ref string) ([]Manifest, error) {
	_, target, err := s.lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.manifests(ns(ctx), target)
}
