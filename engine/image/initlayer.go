package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"

	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/rootdir"
)

// Between an image's layers and what a container writes lies a layer of mount points, so that neither a commit nor the list
// of changes shows them. All containers of an image share it: it is made with the first one and goes with the image.

// initKey names the layer of mount points on top of an image's layers.
func initKey(img *Image) string {
	if len(img.Layers) == 0 {
		return "init/scratch"
	}
	return "init/" + identity.ChainID(img.Layers).Encoded()
}

// initEntries is what dockerd puts there. Source: its init layer; an export of a container of an empty image shows it.
var initEntries = []rootdir.Entry{
	{Path: "/.dockerenv"}, {Path: "/dev/console"}, {Path: "/dev/pts", Dir: true}, {Path: "/dev/shm", Dir: true}, {Path: "/etc/hostname"}, {Path: "/etc/hosts"},
	{Path: "/etc/mtab", Target: "/proc/mounts"}, {Path: "/etc/resolv.conf"}, {Path: "/proc", Dir: true}, {Path: "/sys", Dir: true},
}

// makeInit makes the layer of mount points if it is not there.
func (s *Service) makeInit(ctx context.Context, img *Image) error {
	key := initKey(img)
	_, err, _ := s.inits.Do(key, func() (any, error) {
		if _, err := s.sn.Stat(ctx, key); err == nil || !errdefs.IsNotFound(err) {
			return nil, err
		}
		if len(img.Layers) > 0 {
			if err := s.unpack(ctx, img); err != nil {
				return nil, err
			}
		}
		return nil, s.fillInit(ctx, key, img)
	})
	return err
}

func (s *Service) fillInit(ctx context.Context, key string, img *Image) (err error) {
	parent := ""
	if len(img.Layers) > 0 {
		parent = identity.ChainID(img.Layers).String()
	}
	tmp := "extract/" + ids.New()
	ms, err := s.sn.Prepare(ctx, tmp, parent)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.sn.Remove(ctx, tmp))
		}
	}()
	f, err := s.tree(ms, false)
	if err != nil {
		return err
	}
	root, err := rootdir.FromFile(f)
	if err != nil {
		return err
	}
	err = root.Ensure(initEntries)
	if err = errors.Join(err, root.Close()); err != nil {
		return fmt.Errorf("mount points: %w", err)
	}
	err = s.sn.Commit(ctx, key, tmp)
	if errdefs.IsAlreadyExists(err) {
		err = s.sn.Remove(ctx, tmp)
	}
	if err != nil {
		return err
	}
	return s.keepSnapshots(ctx, img)
}
