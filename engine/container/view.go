package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/rootdir"
	"github.com/berthd/berth/engine/shim"
)

// mountRootfs mounts the root file system of a starting container at target, which it makes. While somebody looks at it
// already, it is the same mount once more: two overlays on one upper directory would not know of each other.
func (m *Manager) mountRootfs(ctx context.Context, e *entry, target string) error {
	e.fs <- struct{}{}
	defer func() { <-e.fs }()
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	if len(e.views) > 0 {
		tree, err := e.views[0].Clone()
		if err != nil {
			return err
		}
		return rootdir.Attach(tree, target)
	}
	if err := m.d.Images.MountRootfs(ctx, string(e.id), target); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	return nil
}

func (m *Manager) removeBundle(e *entry) error {
	e.fs <- struct{}{}
	defer func() { <-e.fs }()
	return shim.RemoveBundle(m.d.Runtime.BundleDir(string(e.id)))
}

// tree copies the mount of a container's root file system, mounted for a moment if it is not; the caller holds e.fs.
func (m *Manager) tree(ctx context.Context, e *entry) (fd int, err error) {
	bundle := m.d.Runtime.BundleDir(string(e.id))
	rootfs := filepath.Join(bundle, "rootfs")
	if mounted(rootfs) {
		return rootdir.CloneTree(rootfs)
	}
	if len(e.views) > 0 {
		return e.views[0].Clone()
	}
	if err := os.MkdirAll(rootfs, 0o700); err != nil {
		return -1, err
	}
	// What is left of it after a crash is swept with the bundle.
	defer func() { err = errors.Join(err, shim.RemoveBundle(bundle)) }()
	if err := m.d.Images.MountRootfs(ctx, string(e.id), rootfs); err != nil {
		return -1, fmt.Errorf("mount root file system: %w", err)
	}
	return rootdir.CloneTree(rootfs)
}

// mounted reports whether dir is where something is mounted.
func mounted(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// view opens the files of a container as they are when nothing of them is hidden by a running process: its root file system
// and, unless bare, its volumes and binds, but no proc, no tmpfs, and nothing that was mounted from inside. It works in every
// phase and holds no operation up. The caller calls done.
func (m *Manager) view(ctx context.Context, e *entry, bare bool) (v *rootdir.View, done func(), err error) {
	s := e.now.Load()
	if s.State.Phase == Removing || s.State.Phase == Dead {
		return nil, nil, errkind.Conflict("container %s is marked for removal", s.ID)
	}
	o := rootdir.ViewOptions{ReadOnly: s.Spec.Security.ReadonlyRootfs}
	if !bare {
		if o.Mounts, err = rootdir.CopyMounts(m.visible(s)); err != nil {
			return nil, nil, err
		}
		defer o.Mounts.Close()
		o.Make = !s.State.Phase.Live() && s.State.Phase != Starting
		if w := s.Spec.Process.WorkingDir; w != "" {
			o.Dirs = []string{w}
		}
	}
	e.fs <- struct{}{}
	tree, err := m.tree(ctx, e)
	if err != nil {
		<-e.fs
		return nil, nil, err
	}
	// Put together before e.fs is free again: a start meanwhile has to find the view.
	v, err = rootdir.NewView(tree, o)
	if err == nil {
		e.views = append(e.views, v)
	}
	<-e.fs
	if err != nil {
		return nil, nil, err
	}
	return v, func() {
		e.fs <- struct{}{}
		e.views = slices.DeleteFunc(e.views, func(o *rootdir.View) bool { return o == v })
		<-e.fs
		_ = v.Close() // nothing is buffered in it
	}, nil
}

// visible is what is mounted over the root file system of a container as far as copies see it.
func (m *Manager) visible(s *Snapshot) (out []rootdir.Mount) {
	over := map[string]bool{}
	for _, p := range s.Spec.Storage.Points {
		over[path.Clean(p.Destination)] = true
		if p.Type == "bind" || p.Type == "volume" {
			out = append(out, rootdir.Mount{Source: p.Source, Target: p.Destination, ReadOnly: !p.RW})
		}
	}
	for _, f := range []string{"hosts", "hostname", "resolv.conf"} {
		if t := "/etc/" + f; !over[t] && !s.State.StartedAt.IsZero() {
			out = append(out, rootdir.Mount{Source: filepath.Join(m.dir(s.ID), f), Target: t, ReadOnly: s.Spec.Security.ReadonlyRootfs})
		}
	}
	return out
}
