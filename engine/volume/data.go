package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	contfs "github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/event"
)

// Populate fills an empty volume with what an image has at the place where the volume is mounted: contents, owner and mode.
// root is a mounted root file system that no process uses yet; a path that is not there changes nothing.
func (m *Manager) Populate(ctx context.Context, name, root, path string) (err error) {
	v, err := m.Get(name)
	if err != nil {
		return err
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	// The image chose every link on the way: none may lead out of it.
	fd, err := unix.Openat2(dir, strings.TrimPrefix(path, "/"), &unix.OpenHow{Flags: unix.O_DIRECTORY | unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if v.mounts() {
		p := m.place(name)
		if err := p.acquire(ctx); err != nil {
			return err
		}
		defer p.release()
		if err := v.mount(); err != nil {
			return err
		}
		if len(p.users) == 0 {
			defer func() { err = errors.Join(err, v.unmount()) }()
		}
	}
	have, err := os.ReadDir(v.Mountpoint)
	if err != nil || len(have) > 0 {
		return err
	}
	if err := contfs.CopyDir(v.Mountpoint, fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	return nil
}

// Prune removes the volumes that no container uses and that want accepts. Returns their names and the bytes freed.
func (m *Manager) Prune(ctx context.Context, want func(*Volume) bool) (names []string, bytes int64, err error) {
	all, err := m.List()
	if err != nil {
		return nil, 0, err
	}
	for _, v := range all {
		if ctx.Err() != nil {
			return names, bytes, context.Cause(ctx)
		}
		// One with a file system of its own holds somebody else's data, as dockerd sees it.
		if v.mounts() || !want(v) || m.Users(v.Name) > 0 {
			continue
		}
		n := size(v.Mountpoint)
		rerr := m.Remove(ctx, v.Name, false)
		switch {
		case rerr == nil:
			names, bytes = append(names, v.Name), bytes+n
		case errdefs.IsConflict(rerr), errdefs.IsNotFound(rerr): // used or removed by somebody else meanwhile
		default:
			err = errors.Join(err, rerr)
		}
	}
	if m.o.Publish != nil {
		m.o.Publish(event.Event{Type: event.Volume, Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(bytes, 10)}, Time: time.Now().UTC()})
	}
	return names, bytes, err
}

// Users counts the containers that use a volume.
func (m *Manager) Users(name string) int {
	if m.o.InUse == nil {
		return 0
	}
	return len(m.o.InUse(name))
}

// Size is what the files of a volume take, in bytes.
func (m *Manager) Size(v *Volume) int64 { return size(v.Mountpoint) }

// size sums the files below dir; what goes away during the walk does not count.
func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() {
			n += i.Size()
		}
		return nil
	}) // the callback returns no error
	return n
}
