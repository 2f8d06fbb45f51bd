package rootdir

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
)

// UnpackOptions of Unpack.
type UnpackOptions struct {
	// KeepKind refuses to replace a directory by something else and the other way round.
	KeepKind bool
	// Owner, if not nil, owns everything that is made; otherwise the archive says.
	Owner *[2]int
}

// Unpack extracts a tar archive below the directory at p, which must be there. No entry gets out of the root, whatever names
// and links the archive and the tree have.
//
// Errors: os.ErrNotExist and unix.ENOTDIR for p. What an archive does wrong is the sender's fault, but clients know it as
// ErrInternal.
func (r *Root) Unpack(ctx context.Context, p string, src io.Reader, o UnpackOptions) error {
	at, err := r.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	_ = unix.Close(at) // entries are resolved one by one: the tree may change meanwhile
	type stamp struct {
		path string
		t    time.Time
	}
	var dirs []stamp // their times change again with every entry below
	u := unpacker{Root: r, base: p, o: o, buf: make([]byte, copyBuffer)}
	tr := tar.NewReader(bufio.NewReaderSize(src, copyBuffer))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errkind.Internal("%w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // a remark about the archive
		}
		if outside(h.Name) {
			return errkind.Internal("invalid entry name %q", h.Name)
		}
		name := path.Join(p, path.Clean("/"+h.Name))
		if path.Clean("/"+h.Name) == "/" {
			continue // the directory itself is there
		}
		if err := u.entry(name, h, tr); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, stamp{name, h.ModTime})
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		dir, name, err := r.parent(dirs[i].path)
		if err != nil {
			continue // somebody moved it away
		}
		_ = touch(dir, name, dirs[i].t) // as above
		_ = unix.Close(dir)             // nothing was written through it
	}
	return nil
}

// mkdirs makes the directories of p that are not there and opens the last one.
func (r *Root) mkdirs(p string) (int, error) {
	fd, err := r.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil || !errors.Is(err, unix.ENOENT) || path.Clean("/"+p) == "/" {
		return fd, err
	}
	up, err := r.mkdirs(path.Dir(path.Clean("/" + p)))
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	if err := unix.Mkdirat(up, path.Base(p), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, &os.PathError{Op: "mkdir", Path: p, Err: err}
	}
	return r.open(p, unix.O_PATH|unix.O_DIRECTORY)
}

// outside reports whether a relative name leads above where it starts.
func outside(name string) bool {
	c := path.Clean(strings.TrimLeft(name, "/"))
	return c == ".." || strings.HasPrefix(c, "../")
}

type unpacker struct {
	*Root
	base string // where the archive goes
	o    UnpackOptions
	buf  []byte
}

func (u *unpacker) entry(p string, h *tar.Header, body io.Reader) error {
	dir, err := u.mkdirs(path.Dir(p))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name := path.Base(p)
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return &os.PathError{Op: "lstat", Path: p, Err: err}
	default:
		was, is := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
		if u.o.KeepKind && was && !is {
			return errkind.Internal("cannot overwrite directory %q with non-directory %q", strings.Trim(h.Name, "/"), u.base)
		}
		if u.o.KeepKind && !was && is {
			return errkind.Internal("cannot overwrite non-directory %q with directory %q", strings.Trim(h.Name, "/"), u.base)
		}
		if was && is {
			return u.finish(dir, name, p, h)
		}
		if busy(dir, name) {
			return &os.PathError{Op: "unlinkat", Path: p, Err: unix.EBUSY}
		}
		if was {
			if err := removeTree(dir, name); err != nil {
				return &os.PathError{Op: "unlinkat", Path: p, Err: err}
			}
		} else if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "unlinkat", Path: p, Err: err}
		}
	}
	if err := u.make(dir, name, p, h, body); err != nil {
		return err
	}
	return u.finish(dir, name, p, h)
}

func (u *unpacker) make(dir int, name, p string, h *tar.Header, body io.Reader) error {
	perm := uint32(h.Mode & 0o777)
	fail := func(op string, err error) error {
		if err == nil {
			return nil
		}
		return &os.PathError{Op: op, Path: p, Err: err}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return fail("mkdir", unix.Mkdirat(dir, name, perm))
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if err != nil {
			return fail("open", err)
		}
		f := os.NewFile(uintptr(fd), p)
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{body}, u.buf)
		if err = errors.Join(err, f.Close()); err != nil {
			return errkind.Internal("%w", err)
		}
		return nil
	case tar.TypeSymlink:
		// It could lead nowhere outside anyway; it is refused because clients know it so.
		if !path.IsAbs(h.Linkname) && u.leaves(path.Join(path.Dir(p), h.Linkname)) {
			return errkind.Internal("invalid symlink %q -> %q", p, h.Linkname)
		}
		return fail("symlink", unix.Symlinkat(h.Linkname, dir, name))
	case tar.TypeLink:
		old := path.Join("/", u.base, h.Linkname)
		if u.leaves(old) {
			return errkind.Internal("invalid hardlink %q -> %q", old, h.Linkname)
		}
		from, last, err := u.parent(old)
		if err != nil {
			return &os.LinkError{Op: "link", Old: old, New: p, Err: errors.Unwrap(err)}
		}
		defer unix.Close(from)
		// Without AT_SYMLINK_FOLLOW: a link is linked itself.
		if err := unix.Linkat(from, last, dir, name, 0); err != nil {
			return &os.LinkError{Op: "link", Old: old, New: p, Err: err}
		}
		return nil
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		return fail("mknod", unix.Mknodat(dir, name, kind|perm, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))))
	}
	return errkind.Internal("unhandled tar header type %d", h.Typeflag)
}

// leaves reports whether a clean path is not below where the archive goes.
func (u *unpacker) leaves(p string) bool {
	base := strings.TrimSuffix(path.Clean("/"+u.base), "/")
	return p != base && !strings.HasPrefix(p, base+"/")
}

// finish sets owner, mode, attributes and time, in the order in which none undoes another.
func (u *unpacker) finish(dir int, name, p string, h *tar.Header) error {
	uid, gid := h.Uid, h.Gid
	if u.o.Owner != nil {
		uid, gid = u.o.Owner[0], u.o.Owner[1]
	}
	if err := unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "lchown", Path: p, Err: err}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := restore(dir, name, h); err != nil {
			return &os.PathError{Op: "attributes", Path: p, Err: err}
		}
	}
	return touch(dir, name, h.ModTime)
}

func restore(dir int, name string, h *tar.Header) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil // exchanged meanwhile: not ours any more
	}
	// A descriptor of a path takes no fchmod; its name in /proc leads to this very file.
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := unix.Chmod(self, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		// Of the others some belong to the file system itself: an archive must not set them.
		attr, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || attr != "security.capability" && !strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "system.posix_acl_") {
			continue
		}
		err := unix.Setxattr(self, attr, []byte(v), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	return nil
}

func touch(dir int, name string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	ts := []unix.Timespec{unix.NsecToTimespec(t.UnixNano()), unix.NsecToTimespec(t.UnixNano())}
	return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// busy reports whether something is mounted at name. The kernel refuses to remove a mount point only in the namespace of who
// asks; in all others, the container's among them, what is mounted there would silently go.
func busy(dir int, name string) bool {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// removeTree deletes a directory without ever following a link.
func removeTree(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if busy(fd, n) {
			return unix.EBUSY
		}
		err := unix.Unlinkat(fd, n, 0)
		if errors.Is(err, unix.EISDIR) {
			err = removeTree(fd, n)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// Clean is the absolute spelling of a user's path, with a trailing slash or "/." kept.
func Clean(p string) string {
	c := path.Clean("/" + p)
	switch {
	case path.Base(p) == "." && p != "":
		return strings.TrimSuffix(c, "/") + "/."
	case c != "/" && strings.HasSuffix(p, "/"):
		return c + "/"
	}
	return c
}
