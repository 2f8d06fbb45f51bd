package image

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// ListOptions of List.
type ListOptions struct{ All bool }

// List returns all images, newest first.
func (s *Service) List(ctx context.Context, _ ListOptions) ([]Summary, error) {
	ctx = ns(ctx)
	all, err := s.images.List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest][]images.Image{}
	for _, i := range all {
		byID[i.Target.Digest] = append(byID[i.Target.Digest], i)
	}
	out := make([]Summary, 0, len(byID))
	for _, names := range byID {
		sum, _, err := s.summary(ctx, names)
		if errdefs.IsNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, sum)
	}
	slices.SortFunc(out, func(a, b Summary) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return out, nil
}

func (s *Service) summary(ctx context.Context, names []images.Image) (Summary, *Image, error) {
	target := names[0].Target
	img, err := s.Resolve(ctx, target.Digest.String(), nil)
	if err != nil {
		return Summary{}, nil, err
	}
	sum := Summary{ID: target.Digest, Target: target, Labels: img.Config.Labels, Platform: img.Platform, Comment: img.Comment, Author: img.Author, Tags: []string{}, Digests: []string{}}
	if img.Created != nil {
		sum.Created = *img.Created
	}
	if info, err := s.content.Info(ctx, img.Manifest.Digest); err == nil {
		sum.Parent = info.Labels[labelParent]
	}
	for _, i := range names {
		n, err := reference.ParseNormalizedNamed(i.Name)
		if err != nil || strings.HasPrefix(i.Name, "moby-dangling@") {
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
	sum.Size, err = s.size(ctx, img)
	return sum, img, err
}

// size is compressed blobs and unpacked snapshots together, as the containerd store counts.
func (s *Service) size(ctx context.Context, img *Image) (int64, error) {
	_, m, err := s.manifest(ctx, img.Manifest, anyPlatform)
	if err != nil {
		return 0, err
	}
	total := img.Manifest.Size + m.Config.Size
	for i, l := range m.Layers {
		total += l.Size
		if u, err := s.sn.Usage(ctx, identity.ChainID(img.Layers[:i+1]).String()); err == nil {
			total += u.Size
		}
	}
	return total, nil
}

// Inspect returns everything about one image.
func (s *Service) Inspect(ctx context.Context, ref string, p *ocispec.Platform) (*Details, error) {
	img, err := s.Resolve(ctx, ref, p)
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
	sum, _, err := s.summary(ns(ctx), names)
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
func (s *Service) History(ctx context.Context, ref string) ([]HistoryEntry, error) {
	d, err := s.Inspect(ctx, ref, nil)
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

// Tag gives an image a further name.
func (s *Service) Tag(ctx context.Context, src, repo, tag string) error {
	ref := repo
	if tag != "" {
		ref += ":" + tag
	}
	n, err := parseRef(ref)
	if err != nil {
		return err
	}
	if _, ok := n.(reference.Digested); ok {
		return errkind.InvalidArgument("refusing to create a tag with a digest reference")
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

// DeleteOptions of Delete.
type DeleteOptions struct{ Force, NoPrune bool }

// Delete removes a name, and the image with its last name. Conflicts with containers are ErrConflict.
func (s *Service) Delete(ctx context.Context, ref string, o DeleteOptions) ([]Deleted, error) {
	name, target, err := s.lookup(ctx, ref)
	if err != nil {
		return nil, err
	}
	ctx = ns(context.WithoutCancel(ctx))
	all, err := s.images.List(ctx, "target.digest=="+target.Digest.String())
	if err != nil {
		return nil, err
	}
	var doomed []images.Image
	if name != "" {
		doomed = slices.DeleteFunc(slices.Clone(all), func(i images.Image) bool { return i.Name != name })
	} else {
		doomed = all
	}
	last := len(doomed) == len(all)
	if name == "" && !o.Force && repositories(all) > 1 {
		return nil, errkind.Conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(target.Digest))
	}
	subject := short(target.Digest)
	if name != "" {
		n, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, err
		}
		subject = reference.FamiliarString(n)
	}
	keep := false
	if last {
		for _, u := range s.users() {
			img, err := s.Resolve(ctx, u.Ref, nil)
			if u.Ref != target.Digest.String() && (err != nil || img.ID != target.Digest) {
				continue
			}
			switch {
			case u.Running && name == "":
				return nil, errkind.Conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", subject, ids.Short(u.ContainerID))
			case !o.Force && u.Running:
				return nil, errkind.Conflict("conflict: unable to delete %s (must be forced) - container %s is using its referenced image %s", subject, ids.Short(u.ContainerID), short(target.Digest))
			case !o.Force:
				return nil, errkind.Conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", subject, ids.Short(u.ContainerID))
			}
			keep = u.Running || name != ""
		}
	}
	var out []Deleted
	for _, i := range doomed {
		if err := s.images.Delete(ctx, i.Name); err != nil && !errdefs.IsNotFound(err) {
			return out, err
		}
		if !strings.HasPrefix(i.Name, "moby-dangling@") {
			n, err := reference.ParseNormalizedNamed(i.Name)
			if err != nil {
				return out, err
			}
			out = append(out, Deleted{Untagged: reference.FamiliarString(n)})
			s.publish("untag", target.Digest.String(), reference.FamiliarString(n))
		}
	}
	s.forget(target.Digest)
	if !last {
		return out, nil
	}
	if keep {
		return out, s.keepDangling(ctx, target)
	}
	if err := s.collect(ctx); err != nil {
		return out, err
	}
	s.publish("delete", target.Digest.String(), target.Digest.String())
	return append(out, Deleted{Deleted: target.Digest.String()}), nil
}

func short(d digest.Digest) string { return ids.Short(d.Encoded()) }

func repositories(all []images.Image) int {
	seen := map[string]bool{}
	for _, i := range all {
		if n, err := reference.ParseNormalizedNamed(i.Name); err == nil && !strings.HasPrefix(i.Name, "moby-dangling@") {
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
