package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/rootdir"
)

// maxOptions is what mount(2) takes as one string: a page, with room for its end.
const maxOptions = 4000

// overlayMount is a mount's directories, taken out of the snapshotter's options.
type overlayMount struct {
	lower       []string // top first
	upper, work string
	flags       []string // the others
}

// parseOverlay returns nil for a plain directory.
func parseOverlay(ms []mount.Mount) *overlayMount {
	if len(ms) != 1 || ms[0].Type != "overlay" {
		return nil
	}
	o := &overlayMount{}
	for _, f := range ms[0].Options {
		switch k, v, _ := strings.Cut(f, "="); k {
		case "lowerdir":
			o.lower = strings.Split(v, ":")
		case "upperdir":
			o.upper = v
		case "workdir":
			o.work = v
		default:
			o.flags = append(o.flags, f)
		}
	}
	return o
}

// plainDir is the directory of a mount that is no overlay.
func plainDir(ms []mount.Mount) (string, error) {
	if len(ms) != 1 || ms[0].Type != "bind" {
		return "", fmt.Errorf("unexpected mounts %v", ms)
	}
	return ms[0].Source, nil
}

// noRedirect: an upper directory must tell by itself what changed. Where the kernel redirects by default, it is told not to.
var noRedirect = sync.OnceValue(func() []string {
	b, err := os.ReadFile("/sys/module/overlay/parameters/redirect_dir")
	if err == nil && strings.HasPrefix(string(b), "Y") {
		return []string{"redirect_dir=off"}
	}
	return nil
})

// mountAt mounts a snapshot at target. A list of layers too long for mount(2) goes one by one where the kernel takes that.
func mountAt(ms []mount.Mount, target string) error {
	o := parseOverlay(ms)
	if o == nil {
		return mount.All(ms, target)
	}
	flags := slices.Concat(o.flags, noRedirect())
	all := slices.Concat(flags, []string{"workdir=" + o.work, "upperdir=" + o.upper, "lowerdir=" + strings.Join(o.lower, ":")})
	if o.upper == "" {
		all = append(slices.Clone(flags), "ro", "lowerdir="+strings.Join(o.lower, ":"))
	}
	if data := strings.Join(all, ","); len(data) < maxOptions {
		short := []mount.Mount{{Type: "overlay", Source: "overlay", Options: all}}
		return mount.All(short, target)
	}
	fd, err := detached(o, flags, o.upper == "")
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EINVAL) {
		// Older kernels: relative names make the string shorter.
		return mount.All([]mount.Mount{{Type: "overlay", Source: "overlay", Options: all}}, target)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// detached makes an overlay that is attached nowhere: closing it ends it, also if this process is killed.
func detached(o *overlayMount, flags []string, readOnly bool) (int, error) {
	step := func(what string, err error) error {
		if err != nil {
			return fmt.Errorf("overlay: %s: %w", what, err)
		}
		return nil
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, step("open", err)
	}
	defer unix.Close(fs)
	set := [][2]string{{"source", "overlay"}}
	for _, l := range o.lower {
		set = append(set, [2]string{"lowerdir+", l})
	}
	if o.upper != "" {
		set = append(set, [2]string{"upperdir", o.upper}, [2]string{"workdir", o.work})
	}
	for _, f := range flags {
		k, v, ok := strings.Cut(f, "=")
		if ok {
			set = append(set, [2]string{k, v})
			continue
		}
		if err := unix.FsconfigSetFlag(fs, k); err != nil {
			return -1, step(k, err)
		}
	}
	for _, kv := range set {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return -1, step(kv[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, step("create", err)
	}
	attrs := 0
	if readOnly {
		attrs = unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	return fd, step("mount", err)
}

// tree opens a snapshot as a mount that is attached nowhere.
func (s *Service) tree(ms []mount.Mount, readOnly bool) (*os.File, error) {
	o := parseOverlay(ms)
	if o == nil {
		dir, err := plainDir(ms)
		if err != nil {
			return nil, err
		}
		return cloneTree(dir, readOnly)
	}
	if readOnly && o.upper != "" {
		o = &overlayMount{lower: append([]string{o.upper}, o.lower...), flags: o.flags}
	}
	flags := o.flags
	if o.upper != "" {
		flags = slices.Concat(flags, noRedirect())
	}
	if len(o.lower) == 1 && o.upper == "" {
		return cloneTree(o.lower[0], readOnly)
	}
	fd, err := detached(o, flags, readOnly)
	if err == nil {
		return os.NewFile(uintptr(fd), "overlay"), nil
	}
	// Older kernels: mounted in a directory of ours for a moment, copied from there.
	dir, terr := os.MkdirTemp(filepath.Join(s.o.Root, "tmp"), "tree-")
	if terr != nil {
		return nil, errors.Join(err, terr)
	}
	defer os.Remove(dir) //nolint:errcheck // swept at start
	options := append(slices.Clone(flags), "lowerdir="+strings.Join(o.lower, ":"))
	if o.upper != "" {
		options = append(options, "upperdir="+o.upper, "workdir="+o.work)
	}
	if err := mount.All([]mount.Mount{{Type: "overlay", Source: "overlay", Options: options}}, dir); err != nil {
		return nil, err
	}
	f, err := cloneTree(dir, readOnly)
	return f, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}

// cloneTree copies the mount at dir; the copy is attached nowhere.
func cloneTree(dir string, readOnly bool) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	if readOnly {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// Tree opens the root file system of a container that does not run, read-only: a mount that is attached nowhere and ends when
// the file is closed. Of a running container its own mount is to be read.
//
// Errors: ErrNotFound.
func (s *Service) Tree(ctx context.Context, id string) (*os.File, error) {
	ms, err := s.Mounts(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.tree(ms, true)
}

// layersOf opens what a container wrote and the tree below that; both are to be closed. overlay is false where the container
// has a whole copy, which must be compared then.
func (s *Service) layersOf(ctx context.Context, id string) (upper, lower *rootdir.Root, err error) {
	ms, err := s.Mounts(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	o := parseOverlay(ms)
	if o == nil {
		return nil, nil, errNoUpper
	}
	if upper, err = rootdir.Open(o.upper); err != nil {
		return nil, nil, err
	}
	f, err := s.tree([]mount.Mount{{Type: "overlay", Options: append([]string{"lowerdir=" + strings.Join(o.lower, ":")}, o.flags...)}}, true)
	if err == nil {
		lower, err = rootdir.FromFile(f)
	}
	if err != nil {
		return nil, nil, errors.Join(err, upper.Close())
	}
	return upper, lower, nil
}

// errNoUpper: the snapshotter keeps whole copies.
var errNoUpper = errors.New("no upper directory")
