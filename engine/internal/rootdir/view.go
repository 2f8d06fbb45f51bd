package rootdir

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a file or directory of the host that is seen inside a View.
type Mount struct {
	Source   string // on the host; trusted
	Target   string // inside the view
	ReadOnly bool
}

// Copies are detached copies of mounts, outermost first.
type Copies struct {
	fds    []int
	mounts []Mount
}

// CopyMounts copies what is at the sources; those that are gone are left out. It may wait for as long as a file system does
// that does not answer.
func CopyMounts(ms []Mount) (_ *Copies, err error) {
	c := &Copies{}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for _, m := range slices.SortedStableFunc(slices.Values(ms), func(a, b Mount) int { return strings.Compare(path.Clean(a.Target), path.Clean(b.Target)) }) {
		fd, err := clone(unix.AT_FDCWD, m.Source, unix.AT_RECURSIVE)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.fds, c.mounts = append(c.fds, fd), append(c.mounts, m)
		if err := restrict(fd, m.ReadOnly); err != nil {
			return nil, fmt.Errorf("view: %s: %w", m.Source, err)
		}
	}
	return c, nil
}

// Close gives them up; one that a view has got stays there.
func (c *Copies) Close() {
	for _, fd := range c.fds {
		_ = unix.Close(fd) // nothing was written through it
	}
}

// ViewOptions of NewView.
type ViewOptions struct {
	ReadOnly bool    // the tree itself; mounts say for themselves
	Mounts   *Copies // nil: none; still the caller's to close
	// Make creates the mount points and directories that are not there. Only for a tree in which no process runs.
	Make bool
	Dirs []string // with Make
}

// View is a Root put together from a tree and mounts in a mount namespace of its own, where nothing else is: it neither sees
// nor pins any other mount of the host, and what is mounted on the host or by a container later does not appear in it.
// Nothing of it outlives the process.
type View struct {
	*Root
	ns   int // keeps the namespace
	root int // mount id of the tree
}

// CloneTree copies the mount at dir, without what is mounted below it. The copy is attached nowhere: closing it ends it.
func CloneTree(dir string) (fd int, err error) { return clone(unix.AT_FDCWD, dir, 0) }

func clone(at int, name string, flags uint) (int, error) {
	fd, err := unix.OpenTree(at, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: name, Err: err}
	}
	return fd, nil
}

// Attach mounts a copy at a directory of the host and closes it.
func Attach(tree int, dir string) error {
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: dir, Err: err}
	}
	return nil
}

// guard keeps devices from being opened and programs from being run through a view.
const guard = unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC

// restrict sets mount attributes of a copy.
func restrict(tree int, readOnly bool) error {
	a := unix.MountAttr{Attr_set: guard}
	if readOnly {
		a.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &a)
}

// elsewhere runs f on a thread of its own, which ends afterwards: f may give it another mount namespace.
func elsewhere(f func() error) error {
	ch := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			ch <- f()
			return // still locked: the thread goes
		}
		// The first thread stands for the whole process in /proc. It is held here, so that f gets another one.
		ch <- elsewhere(f)
		runtime.UnlockOSThread()
	}()
	return <-ch
}

// NewView puts a view together; tree is a copy that CloneTree or Clone made and belongs to the view from now on. Mounts
// without a mount point are left out when Make is not set.
func NewView(tree int, o ViewOptions) (_ *View, err error) {
	defer unix.Close(tree)
	if err := restrict(tree, false); err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	if o.Mounts == nil {
		o.Mounts = &Copies{}
	}
	v := &View{ns: -1}
	defer func() {
		if err != nil {
			_ = v.Close() // nothing was written through it
		}
	}()
	err = elsewhere(func() error {
		if err := v.enter(tree); err != nil {
			return err
		}
		if o.Make {
			for _, d := range o.Dirs {
				if err := v.Ensure([]Entry{{Path: d, Dir: true}}); err != nil {
					return err
				}
			}
		}
		for i, m := range o.Mounts.mounts {
			if err := v.mount(o.Mounts.fds[i], m, o.Make); err != nil {
				return err
			}
		}
		if !o.ReadOnly {
			return nil
		}
		return unix.MountSetattr(v.fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	})
	return v, err
}

// enter gives the calling thread a namespace in which the tree is the root and nothing else exists.
func (v *View) enter(tree int) (err error) {
	step := func(what string, err error) error {
		if err != nil {
			return fmt.Errorf("view: %s: %w", what, err)
		}
		return nil
	}
	if err := step("unshare", unix.Unshare(unix.CLONE_NEWNS)); err != nil {
		return err
	}
	if v.ns, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return step("namespace", err)
	}
	// Any directory serves to attach it: only this thread sees what happens there.
	const at = "/proc"
	if err := errors.Join(
		step("make private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")),
		step("attach", unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)),
	); err != nil {
		return err
	}
	fd, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return step("open", err)
	}
	v.Root = &Root{fd}
	if v.root, err = mountID(fd, ""); err != nil {
		return err
	}
	if err := unix.Fchdir(fd); err != nil {
		return step("chdir", err)
	}
	switch err := unix.PivotRoot(".", "."); {
	case errors.Is(err, unix.EINVAL):
		return nil // the host runs from its initial ram disk, which cannot be left; the view works all the same
	case err != nil:
		return step("pivot", err)
	}
	return step("detach the host", unix.Unmount(".", unix.MNT_DETACH))
}

func (v *View) mount(tree int, m Mount, create bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	target := path.Clean("/" + m.Target)
	fd, err := v.open(target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) && create {
		if err := v.Ensure([]Entry{{Path: target, Dir: dir}}); err != nil {
			return err
		}
		fd, err = v.open(target, unix.O_PATH)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.MoveMount(tree, "", fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if errors.Is(err, unix.ENOTDIR) {
		return nil // a file cannot be seen on a directory nor the other way round
	}
	if err != nil {
		return fmt.Errorf("view: %s: %w", m.Target, err)
	}
	return nil
}

func mountID(at int, name string) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(at, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	return int(st.Mnt_id), nil
}

// Writable tells whether the directory at p can be written: nil, or in which of the two ways it is read-only.
func (v *View) Writable(p string) error {
	fd, err := v.open(p, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	id, err := mountID(fd, "")
	if err != nil {
		return err
	}
	if id == v.root {
		return ErrReadOnlyTree
	}
	return ErrReadOnlyMount
}

// What Writable finds.
var (
	ErrReadOnlyTree  = errors.New("the tree is read-only")
	ErrReadOnlyMount = errors.New("the mount is read-only")
)

// Clone copies the view's tree once more, as CloneTree does; the view's restrictions are not copied.
func (v *View) Clone() (tree int, err error) {
	err = elsewhere(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(v.ns, unix.CLONE_NEWNS); err != nil {
			return err
		}
		tree, err = clone(v.fd, "", unix.AT_EMPTY_PATH)
		return err
	})
	if err == nil {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: guard | unix.MOUNT_ATTR_RDONLY})
	}
	return tree, err
}

// Host is a path by which this process reaches the view's root; it is valid until Close.
func (v *View) Host() string { return fmt.Sprintf("/proc/self/fd/%d", v.fd) }

// Close ends the view.
func (v *View) Close() error {
	var err error
	if v.Root != nil {
		err = v.Root.Close()
	}
	if v.ns >= 0 {
		err = errors.Join(err, unix.Close(v.ns))
	}
	return err
}
