package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
)

// resolvePoints gives every mount point of a container that starts a source that can be mounted: missing directories of binds are
// made, parts of volumes and images are mounted below the bundle, where RemoveBundle finds them.
func (m *Manager) resolvePoints(ctx context.Context, s *Snapshot, bundle string) ([]MountPoint, error) {
	points := append([]MountPoint{}, s.Spec.Storage.Points...)
	for i := range points {
		p := &points[i]
		if err := m.resolvePoint(ctx, s, p, filepath.Join(bundle, "mounts", strconv.Itoa(i))); err != nil {
			return nil, err
		}
		if err := checkPropagation(*p); err != nil {
			if !p.OwnPropagation {
				return nil, errkind.Internal("%s", err)
			}
			p.Propagation = "rprivate" // the host's mounts are private anyway
		}
	}
	return points, nil
}

func (m *Manager) resolvePoint(ctx context.Context, s *Snapshot, p *MountPoint, at string) error {
	switch p.Type {
	case "bind":
		if p.SkipMountpointCreation {
			return nil
		}
		if _, err := os.Stat(p.Source); err == nil {
			return nil // a file too
		}
		if err := os.MkdirAll(p.Source, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("error while creating mount source path '%s': %w", p.Source, err)
		}
	case "volume":
		if p.Subpath != "" {
			if err := mountPart(p.Source, p.Subpath, at); err != nil {
				return err
			}
			p.Source = at
		}
	case "image":
		img, err := m.d.Images.Resolve(ctx, p.Source, nil)
		if err != nil {
			return err
		}
		tree, err := m.d.Images.ImageTree(ctx, string(s.ID), filepath.Base(at), img)
		if err != nil {
			return fmt.Errorf("image %s: %w", p.Name, err)
		}
		defer tree.Close()
		whole := at + "-tree"
		if err := attach(int(tree.Fd()), whole, true); err != nil {
			return err
		}
		p.Source = whole
		if p.Subpath != "" {
			if err := mountPart(whole, p.Subpath, at); err != nil {
				return err
			}
			p.Source = at
		}
	}
	return nil
}

// mountPart mounts what is at sub below root at a new place. Whoever can write to root may change it meanwhile: the path is
// resolved once, below root, and what was found is mounted by its descriptor.
//
// Errors: ErrNotFound if there is nothing.
func mountPart(root, sub, at string) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, sub, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		path := filepath.Join(root, sub)
		err = fmt.Errorf("cannot access path %s: lstat %s: %w", path, path, err)
		if errors.Is(err, unix.ENOENT) {
			return errkind.NotFound("%s", err)
		}
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	return attach(tree, at, st.Mode&unix.S_IFMT == unix.S_IFDIR)
}

// attach makes the place and moves a detached mount there.
func attach(tree int, at string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	make := func() error { return os.Mkdir(at, 0o700) }
	if !dir {
		make = func() error { return os.WriteFile(at, nil, 0o600) } //nolint:forbidigo // a place to mount on
	}
	if err := make(); err != nil {
		return err
	}
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// checkPropagation refuses a propagation that the source cannot have, in dockerd's words.
func checkPropagation(p MountPoint) error {
	shared := p.Propagation == "shared" || p.Propagation == "rshared"
	if !shared && p.Propagation != "slave" && p.Propagation != "rslave" {
		return nil
	}
	src, err := filepath.EvalSymlinks(p.Source)
	if err != nil {
		return err
	}
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(src))
	if err != nil {
		return err
	}
	var at *mountinfo.Info
	for _, i := range infos {
		if at == nil || len(i.Mountpoint) >= len(at.Mountpoint) {
			at = i
		}
	}
	switch {
	case at == nil:
		return fmt.Errorf("could not find source mount of %s", p.Source)
	case strings.Contains(at.Optional, "shared:"), !shared && strings.Contains(at.Optional, "master:"):
		return nil
	case shared:
		return fmt.Errorf("path %s is mounted on %s but it is not a shared mount", p.Source, at.Mountpoint)
	}
	return fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount", p.Source, at.Mountpoint)
}
