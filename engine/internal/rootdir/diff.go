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

// FromFile makes a Root of an open directory, which belongs to the root from then on.
func FromFile(f *os.File) (*Root, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	return &Root{fd}, nil
}

// ErrRedirected says that an upper directory refers to files below it in ways that a layer cannot express; the two trees
// have to be compared then.
var ErrRedirected = errors.New("the upper directory redirects")

// WriteLayer writes the upper directory of an overlay, which the root is, as an image layer: overlay's marks become
// whiteouts. The tree may change meanwhile; what vanishes is left out. Names are sorted, times are whole seconds.
//
// Errors: ErrRedirected.
func (r *Root) WriteLayer(ctx context.Context, w io.Writer) error {
	u := &upper{ctx: ctx, tw: tar.NewWriter(w), links: map[[2]uint64]string{}, buf: make([]byte, layerBuffer)}
	if err := u.below(r.fd, ""); err != nil {
		return err
	}
	return u.tw.Close()
}

type upper struct {
	ctx   context.Context
	tw    *tar.Writer
	links map[[2]uint64]string // first name of a file with several
	buf   []byte
}

func (u *upper) below(dir int, prefix string) error {
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := u.ctx.Err(); err != nil {
			return context.Cause(u.ctx)
		}
		if err := u.add(dir, n, prefix+n); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", prefix+n, err)
		}
	}
	return nil
}

func (u *upper) add(dir int, name, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	h := &tar.Header{Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: time.Unix(st.Mtim.Sec, 0)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return u.directory(dir, name, h)
	case unix.S_IFLNK:
		to, err := readlink(dir, name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, to
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return u.tw.WriteHeader(&tar.Header{Name: path.Join(path.Dir(as), whiteout+name), Typeflag: tar.TypeReg, ModTime: h.ModTime})
		}
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFREG:
		return u.regular(dir, name, h, &st)
	default:
		return nil // a socket has no form in an archive
	}
	h.Devmajor, h.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	return u.tw.WriteHeader(h)
}

func (u *upper) directory(dir int, name string, h *tar.Header) error {
	h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	opaque, err := attributes(fd, h)
	if err != nil {
		return err
	}
	if err := u.tw.WriteHeader(h); err != nil {
		return err
	}
	if opaque {
		if err := u.tw.WriteHeader(&tar.Header{Name: h.Name + opaqueMarker, Typeflag: tar.TypeReg, ModTime: h.ModTime}); err != nil {
			return err
		}
	}
	return u.below(fd, h.Name)
}

func (u *upper) regular(dir int, name string, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := u.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return u.tw.WriteHeader(h)
		}
		u.links[id] = h.Name
	}
	// Not blocking: it may have become a pipe since it was looked at.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := unix.Fstat(fd, st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("changed while it was read")
	}
	h.Size = st.Size
	if _, err := attributes(fd, h); err != nil {
		return err
	}
	if err := u.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{u.tw}, io.LimitReader(struct{ io.Reader }{f}, h.Size), u.buf)
	if err == nil && n < h.Size { // it shrank; the promised length is kept
		_, err = io.CopyN(u.tw, zeros{}, h.Size-n)
	}
	return err
}

// attributes puts a file's extended attributes into its header. Overlay's own are read, not copied.
func attributes(fd int, h *tar.Header) (opaque bool, err error) {
	names := make([]byte, 4<<10)
	n, err := unix.Flistxattr(fd, names)
	if errors.Is(err, unix.ERANGE) {
		names = make([]byte, maxXattr)
		n, err = unix.Flistxattr(fd, names)
	}
	if errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, k := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if k == "" {
			continue
		}
		own, overlay := strings.CutPrefix(k, "trusted.overlay.")
		if !overlay {
			own, overlay = strings.CutPrefix(k, "user.overlay.")
		}
		if overlay && own != "opaque" && own != "redirect" && own != "metacopy" {
			continue // origin, impure, nlink: bookkeeping
		}
		v, err := xattr(fd, k)
		if err != nil {
			return false, err
		}
		switch {
		case overlay && own != "opaque":
			return false, ErrRedirected
		case overlay:
			opaque = opaque || v == "y"
		default:
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[xattrPrefix+k] = v
		}
	}
	return opaque, nil
}

func xattr(fd int, k string) (string, error) {
	b := make([]byte, 256)
	n, err := unix.Fgetxattr(fd, k, b)
	if errors.Is(err, unix.ERANGE) {
		b = make([]byte, maxXattr)
		n, err = unix.Fgetxattr(fd, k, b)
	}
	if errors.Is(err, unix.ENODATA) {
		return "", nil // gone meanwhile
	}
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}
