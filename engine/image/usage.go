package image

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// Stored is what all images take on disk, in bytes: blobs and unpacked layers, each once. Containers' own layers are not
// part of it.
func (s *Service) Stored(ctx context.Context) (total int64, err error) {
	ctx = ns(ctx)
	err = s.content.Walk(ctx, func(i content.Info) error {
		total += i.Size
		return nil
	})
	if err != nil {
		return 0, err
	}
	var names []string
	err = s.sn.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		if i.Kind == snapshots.KindCommitted {
			names = append(names, i.Name)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		if u, err := s.sn.Usage(ctx, n); err == nil { // it may have gone meanwhile
			total += u.Size
		}
	}
	return total, nil
}

// Sizes is what a container wrote, and that with all it stands on, in bytes.
func (s *Service) Sizes(ctx context.Context, id string) (own, whole int64, err error) {
	ctx = ns(ctx)
	for key := id; key != ""; {
		u, err := s.sn.Usage(ctx, key)
		if err != nil {
			return 0, 0, err
		}
		if key == id {
			own = u.Size
		}
		whole += u.Size
		i, err := s.sn.Stat(ctx, key)
		if err != nil {
			return 0, 0, err
		}
		key = i.Parent
	}
	return own, whole, nil
}
