package image

import (
	"context"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

var anyPlatform = platforms.All

// syncFS writes the file system that holds dir to disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func leaseOf(id string) leases.Lease { return leases.Lease{ID: "container/" + id} }

// Prepare makes the writable snapshot of a container. The lease container/<id> keeps it, and the image's content with it: a
// container can be committed when its image has no name any more. Idempotent.
func (s *Service) Prepare(ctx context.Context, id string, img *Image) error {
	ctx = ns(ctx)
	l := leaseOf(id)
	err := s.db.Update(func(tx *bbolt.Tx) error {
		ctx := boltutil.WithTransaction(ctx, tx)
		if _, err := s.leases.Create(ctx, leases.WithID(l.ID)); err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
		return s.leases.AddResource(ctx, l, leases.Resource{ID: img.Manifest.Digest.String(), Type: "content"})
	})
	if err != nil {
		return err
	}
	ctx = leases.WithLease(ctx, l.ID)
	_, err = s.sn.Prepare(ctx, id, initKey(img))
	if errdefs.IsNotFound(err) { // the first container of this image or platform
		if err = s.makeInit(ctx, img); err == nil {
			_, err = s.sn.Prepare(ctx, id, initKey(img))
		}
	}
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Mounts tells how a container's root file system is mounted.
func (s *Service) Mounts(ctx context.Context, id string) ([]mount.Mount, error) {
	return s.sn.Mounts(ns(ctx), id)
}

// MountRootfs mounts it at target.
func (s *Service) MountRootfs(ctx context.Context, id, target string) error {
	ms, err := s.Mounts(ctx, id)
	if err != nil {
		return err
	}
	return mountAt(ms, target)
}

// ImageTree is the root file system of an image, read-only and not attached anywhere, for container id. Its snapshot is kept by
// the container's lease; which tells the images of one container apart. The file is the caller's to close.
func (s *Service) ImageTree(ctx context.Context, id, which string, img *Image) (*os.File, error) {
	ctx = leases.WithLease(ns(ctx), leaseOf(id).ID)
	parent := ""
	if len(img.Layers) > 0 {
		parent = identity.ChainID(img.Layers).String()
	}
	key := id + "-image-" + which
	ms, err := s.sn.View(ctx, key, parent)
	if errdefs.IsNotFound(err) { // a platform that was not unpacked yet
		if err = s.unpack(ctx, img); err == nil {
			ms, err = s.sn.View(ctx, key, parent)
		}
	}
	if errdefs.IsAlreadyExists(err) {
		ms, err = s.sn.Mounts(ctx, key)
	}
	if err != nil {
		return nil, err
	}
	return s.tree(ms, true)
}

// RemoveRootfs removes the snapshots and the lease. No error if absent.
func (s *Service) RemoveRootfs(ctx context.Context, id string) error {
	ctx = ns(ctx)
	keys := []string{id}
	if held, err := s.leases.ListResources(ctx, leaseOf(id)); err == nil {
		for _, r := range held {
			if strings.HasPrefix(r.ID, id+"-image-") {
				keys = append(keys, r.ID)
			}
		}
	}
	for _, key := range keys {
		if err := s.sn.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := s.leases.Delete(ctx, leaseOf(id)); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	s.later()
	return nil
}

// RootfsIDs lists the containers that hold a lease, for sweeps.
func (s *Service) RootfsIDs(ctx context.Context) ([]string, error) {
	all, err := s.leases.List(ns(ctx))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range all {
		if len(l.ID) == len("container/")+64 && l.ID[:len("container/")] == "container/" {
			out = append(out, l.ID[len("container/"):])
		}
	}
	return out, nil
}

// Usage is what a container wrote, in bytes.
func (s *Service) Usage(ctx context.Context, id string) (int64, error) {
	u, err := s.sn.Usage(ns(ctx), id)
	return u.Size, err
}
