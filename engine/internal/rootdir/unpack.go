package rootdir

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
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
// Errors: os.ErrNotExist and unix.ENOTDIR for p; ErrInvalidArgument for a broken archive.
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
	tr := tar.NewReader(src)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errkind.InvalidArgument("archive: %w", err)
		}
		name := path.Join(p, path.Clean("/"+h.Name))
		if path.Clean("/"+h.Name) == "/" {
			continue // the directory itself is there
		}
		if err := r.entry(name, p, h, tr, o); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
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

func (r *Root) entry(p, base string, h *tar.Header, body io.Reader, o UnpackOptions) error {
	dir, err := r.mkdirs(path.Dir(p))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name := path.Base(p)
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return err
	default:
		was, is := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
		if o.KeepKind && was && !is {
			return errkind.InvalidArgument("cannot overwrite directory %q with non-directory %q", p, path.Clean("/"+h.Name))
		}
		if o.KeepKind && !was && is {
			return errkind.InvalidArgument("cannot overwrite non-directory %q with directory %q", p, path.Clean("/"+h.Name))
		}
		if was && is {
			return r.finish(dir, name, h, o)
		}
		if was {
			if err := removeTree(dir, name); err != nil {
				return err
			}
		} else if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if err := r.make(dir, name, base, h, body); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return nil // the file it names has its own entry
	}
	return r.finish(dir, name, h, o)
}

func (r *Root) make(dir int, name, base string, h *tar.Header, body io.Reader) error {
	perm := uint32(h.Mode & 0o777)
	switch h.Typeflag {
	case tar.TypeDir:
		return unix.Mkdirat(dir, name, perm)
	case tar.TypeReg:
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		if _, err := io.Copy(f, body); err != nil {
			return errors.Join(errkind.InvalidArgument("archive: %w", err), f.Close())
		}
		return f.Close()
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, dir, name)
	case tar.TypeLink:
		from, old, err := r.parent(path.Join(base, path.Clean("/"+h.Linkname)))
		if err != nil {
			return err
		}
		defer unix.Close(from)
		return unix.Linkat(from, old, dir, name, 0) // no AT_SYMLINK_FOLLOW: a link is linked itself
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		return unix.Mknodat(dir, name, kind|perm, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	}
	return errkind.InvalidArgument("unhandled kind of entry %q", string(h.Typeflag))
}

// finish sets owner, mode, capabilities and time, in the order in which none undoes another.
func (r *Root) finish(dir int, name string, h *tar.Header, o UnpackOptions) error {
	uid, gid := h.Uid, h.Gid
	if o.Owner != nil {
		uid, gid = o.Owner[0], o.Owner[1]
	}
	if err := unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
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
		self := fmt.Sprintf("/proc/self/fd/%d", fd)
		if err := unix.Chmod(self, uint32(h.Mode&0o7777)); err != nil {
			return err
		}
		if c := h.PAXRecords["SCHILY.xattr.security.capability"]; c != "" && h.Typeflag == tar.TypeReg {
			if err := unix.Setxattr(self, "security.capability", []byte(c), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
				return err
			}
		}
	}
	return touch(dir, name, h.ModTime)
}

func touch(dir int, name string, t time.Time) error {
	if t.IsZero() {
		return nil
	}
	ts := []unix.Timespec{unix.NsecToTimespec(t.UnixNano()), unix.NsecToTimespec(t.UnixNano())}
	return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)
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
	case c == "/":
		return c
	case strings.HasSuffix(p, "/."):
		return c + "/."
	case strings.HasSuffix(p, "/"):
		return c + "/"
	}
	return c
}
