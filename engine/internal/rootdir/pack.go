package rootdir

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pack writes the file or tree at p as a tar archive. Its entries are named as the last element of p is spelled: "/d/." gives
// "./" and what is below it, "/" gives "/". What vanishes during the walk is left out, sockets too.
func (r *Root) Pack(ctx context.Context, p string, w io.Writer) error {
	dir, name, err := r.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	k := newPacker(ctx, w)
	if err := k.add(dir, name, path.Base(Clean(p)), false); err != nil {
		return err
	}
	return k.tw.Close()
}

// PackAll writes everything below the root, but not the root itself; names have no prefix.
func (r *Root) PackAll(ctx context.Context, w io.Writer) error {
	k := newPacker(ctx, w)
	if err := k.below(r.fd, ".", ""); err != nil {
		return err
	}
	return k.tw.Close()
}

type packer struct {
	ctx   context.Context
	tw    *tar.Writer
	links map[[2]uint64]string // first name of a file with several
	buf   []byte
}

func newPacker(ctx context.Context, w io.Writer) *packer {
	return &packer{ctx: ctx, tw: tar.NewWriter(w), links: map[[2]uint64]string{}, buf: make([]byte, copyBuffer)}
}

// copyBuffer is how much of a file goes through at once.
const copyBuffer = 256 << 10

// add writes one file and what is below it. lax leaves out what is not there.
func (k *packer) add(dir int, name, as string, lax bool) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if lax && errors.Is(err, unix.ENOENT) {
			return nil
		}
		return &os.PathError{Op: "stat", Path: as, Err: err}
	}
	h := &tar.Header{Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	h.ModTime = h.ModTime.Truncate(time.Second) // whole seconds keep the archive readable by old tars
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return k.directory(dir, name, as, h)
	case unix.S_IFLNK:
		to, err := readlink(dir, name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, to
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFREG:
		return k.regular(dir, name, h, &st)
	default:
		return nil // a socket has no form in an archive
	}
	return k.tw.WriteHeader(h)
}

func (k *packer) directory(dir int, name, as string, h *tar.Header) error {
	h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(as, "/")+"/"
	if err := k.tw.WriteHeader(h); err != nil {
		return err
	}
	return k.below(dir, name, h.Name)
}

// below writes the entries of a directory; prefix ends with a slash or is empty.
func (k *packer) below(dir int, name, prefix string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: prefix, Err: err}
	}
	f := os.NewFile(uintptr(fd), prefix)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := k.add(fd, n, prefix+n, true); err != nil {
			return err
		}
	}
	return nil
}

func (k *packer) regular(dir int, name string, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := k.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return k.tw.WriteHeader(h)
		}
		k.links[id] = h.Name
	}
	// Not blocking: it may have become a pipe since it was looked at.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return &os.PathError{Op: "open", Path: h.Name, Err: err}
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s changed while it was read", h.Name)
	}
	h.Size = now.Size
	if c := capability(fd); c != "" {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": c}
	}
	if err := k.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{k.tw}, io.LimitReader(f, h.Size), k.buf)
	if err == nil && n < h.Size { // it shrank; the promised length is kept
		_, err = io.CopyN(k.tw, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func capability(fd int) string {
	b := make([]byte, 64)
	n, err := unix.Fgetxattr(fd, "security.capability", b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}
