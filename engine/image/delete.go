package image

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// DeleteOptions of Delete.
type DeleteOptions struct{ Force, NoPrune bool }

// removal is what a deletion comes down to.
type removal struct {
	target ocispec.Descriptor
	byName bool
	gone   []images.Image // names that go
	last   bool           // they are all it has
	keep   bool           // the image stays without a name: a container needs it
}

// Delete removes a name, and the image with its last one. An id stands for all names. What only the image had is free when it
// returns.
//
// Errors: ErrNotFound; ErrConflict with containers, or if an id has names in several repositories.
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
	r := &removal{target: target, byName: name != "", gone: all}
	if n, err := reference.ParseNormalizedNamed(ref); name == "" && err == nil {
		if _, ok := n.(reference.Digested); ok { // repo@digest: the names in this repository
			r.gone = slices.DeleteFunc(slices.Clone(all), func(i images.Image) bool { return repository(i.Name) != n.Name() })
			r.byName = len(r.gone) < len(all)
		}
	}
	if name != "" {
		r.gone = slices.DeleteFunc(slices.Clone(all), func(i images.Image) bool { return i.Name != name })
	}
	r.last = len(r.gone) == len(all)
	if err := s.mayDelete(r, all, o.Force); err != nil {
		return nil, err
	}
	return s.remove(ctx, r)
}

// mayDelete checks a removal against repositories and containers. The words are dockerd's.
func (s *Service) mayDelete(r *removal, all []images.Image, force bool) error {
	id := short(r.target.Digest)
	if !r.byName && !force && repositories(all) > 1 {
		return errkind.Conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", id)
	}
	if !r.last {
		return nil
	}
	var stopped string
	for _, u := range s.users() {
		if u.Ref != r.target.Digest.String() {
			continue
		}
		switch {
		case r.byName && !force:
			return errkind.Conflict("conflict: unable to delete %s (must be forced) - container %s is using its referenced image %s", familiarName(r.gone[0].Name), ids.Short(u.ContainerID), id)
		case r.byName:
			r.keep = true
		case u.Running:
			return errkind.Conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", id, ids.Short(u.ContainerID))
		default:
			stopped = u.ContainerID
		}
	}
	if stopped != "" && !force {
		return errkind.Conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", id, ids.Short(stopped))
	}
	return nil
}

func (s *Service) remove(ctx context.Context, r *removal) ([]Deleted, error) {
	var out []Deleted
	if r.keep { // first, so that it is never without a root
		if err := s.nameDangling(ctx, r.target); err != nil {
			return nil, err
		}
	}
	for _, i := range r.gone {
		if r.keep && i.Name == dangling(r.target.Digest) {
			continue
		}
		if err := s.images.Delete(ctx, i.Name); err != nil && !errdefs.IsNotFound(err) {
			return out, err
		}
		if strings.HasPrefix(i.Name, danglingPrefix) {
			continue
		}
		name := familiarName(i.Name)
		out = append(out, Deleted{Untagged: name})
		s.publish("untag", r.target.Digest.String(), name)
	}
	s.forget(r.target.Digest)
	if !r.last || r.keep {
		return out, nil
	}
	if err := s.collect(ctx); err != nil {
		return out, err
	}
	s.publish("delete", r.target.Digest.String(), r.target.Digest.String())
	return append(out, Deleted{Deleted: r.target.Digest.String()}), nil
}

func familiarName(name string) string {
	if n, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(n)
	}
	return name
}

// repository of a stored name; "" for a dangling image.
func repository(name string) string {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil || strings.HasPrefix(name, danglingPrefix) {
		return ""
	}
	return n.Name()
}

// PruneOptions of Prune.
type PruneOptions struct {
	All  bool               // all that no container uses, not only those without a tag
	Want func(Summary) bool // nil = any
}

// Prune removes images that no container uses. The bytes are those that the disk has gained, also from blobs half fetched.
func (s *Service) Prune(ctx context.Context, o PruneOptions) (gone []Deleted, freed int64, err error) {
	before, err := s.Stored(ctx)
	if err != nil {
		return nil, 0, err
	}
	list, err := s.List(ctx, ListOptions{})
	if err != nil {
		return nil, 0, err
	}
	used := map[digest.Digest]bool{}
	for _, u := range s.users() {
		used[digest.Digest(u.Ref)] = true
	}
	for _, i := range list {
		if used[i.ID] || !o.All && len(i.Tags) > 0 || o.Want != nil && !o.Want(i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return gone, 0, context.Cause(ctx)
		}
		all, err := s.images.List(ns(ctx), "target.digest=="+i.ID.String())
		if err != nil {
			return gone, 0, err
		}
		out, err := s.remove(ns(context.WithoutCancel(ctx)), &removal{target: i.Target, gone: all, last: true})
		if err != nil {
			return gone, 0, err
		}
		if len(i.Tags) == 0 {
			gone = append(gone, Deleted{Untagged: i.ID.String()})
		}
		gone = append(gone, out...)
	}
	partial, err := s.dropPartial(ctx)
	if err != nil {
		return gone, 0, err
	}
	if err := s.collect(ctx); err != nil {
		return gone, 0, err
	}
	after, err := s.Stored(ctx)
	freed = max(0, before-after) + partial
	if s.o.Publish != nil {
		s.o.Publish(event.Event{Type: event.Image, Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(freed, 10)}, Time: s.o.Now().UTC()})
	}
	return gone, freed, err
}
