package rootdir

import (
	"archive/tar"
	"bufio"
	"bytes"
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

// Limits on what one layer may hold. Far above what real images have; a bomb is stopped by them.
const (
	maxEntries   = 10_000_000
	maxName      = 4 << 10
	maxXattr     = 64 << 10
	maxUnpacked  = 1 << 40
	whiteout     = ".wh."
	opaqueMarker = ".wh..wh..opq"
	xattrPrefix  = "SCHILY.xattr."
	layerBuffer  = 256 << 10
)

// LayerOptions of ApplyLayer.
type LayerOptions struct {
	// Overlay: the layer lies alone in the root, and what it deletes becomes overlay's own marks. Otherwise the root holds
	// the layers below too, and what it deletes goes.
	Overlay bool
	// Xattr is the name space of overlay's marks: "trusted" or "user"; "" = trusted.
	Xattr string
}

// ApplyLayer unpacks an image layer into the root. Nobody else may change the tree meanwhile. No entry gets out of the root;
// runs of zeros become holes.
//
// Errors: ErrInvalidArgument for an archive that is broken, too large or that asks for what is refused.
func (r *Root) ApplyLayer(ctx context.Context, src io.Reader, o LayerOptions) (err error) {
	if o.Xattr == "" {
		o.Xattr = "trusted"
	}
	l := &layer{Root: r, o: o, fd: -1, buf: make([]byte, layerBuffer)}
	if !o.Overlay {
		l.mine = map[string]struct{}{}
	}
	defer func() { l.leave() }()
	tr := tar.NewReader(bufio.NewReaderSize(src, layerBuffer))
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errkind.InvalidArgument("archive: %w", err)
		}
		if n >= maxEntries {
			return errkind.InvalidArgument("archive has more than %d entries", maxEntries)
		}
		if err := l.add(h, tr); err != nil {
			return fmt.Errorf("%s: %w", clip(h.Name), err)
		}
	}
	return l.stampDirs()
}

// clip keeps a hostile name from filling logs.
func clip(s string) string {
	if len(s) > 256 {
		return s[:256] + "…"
	}
	return s
}

type layer struct {
	*Root
	o     LayerOptions
	at    string // the directory that fd is
	fd    int
	buf   []byte
	bytes int64
	dirs  []dirTime
	mine  map[string]struct{} // what this layer made; nil with Overlay, where everything is
}

// dirTime: a directory's time changes again with every entry made in it, so it is set at the end.
type dirTime struct {
	path string
	t    time.Time
}

func (l *layer) leave() {
	if l.fd >= 0 {
		_ = unix.Close(l.fd) // names were made through it, no data
		l.fd, l.at = -1, ""
	}
}

// enter opens the directory, making what is missing; most entries follow one another in the same one.
func (l *layer) enter(dir string) (int, error) {
	if l.fd >= 0 && l.at == dir {
		return l.fd, nil
	}
	l.leave()
	fd, err := l.mkdirs(dir)
	if errors.Is(err, unix.ENOTDIR) {
		return -1, errkind.InvalidArgument("a parent is no directory")
	}
	if err != nil {
		return -1, err
	}
	l.fd, l.at = fd, dir
	return fd, nil
}

func (l *layer) add(h *tar.Header, body io.Reader) error {
	if len(h.Name) > maxName || len(h.Linkname) > maxName {
		return errkind.InvalidArgument("name longer than %d bytes", maxName)
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case '\x00':
		h.Typeflag = tar.TypeReg
	}
	p := path.Clean("/" + h.Name)
	if p == "/" {
		if h.Typeflag != tar.TypeDir {
			return errkind.InvalidArgument("the root is no directory")
		}
		fd, err := l.enter("/")
		if err != nil {
			return err
		}
		return l.dress(fd, ".", "/", h)
	}
	base := path.Base(p)
	if strings.HasPrefix(base, whiteout) {
		return l.whiteout(p, base)
	}
	dir, err := l.enter(path.Dir(p))
	if err != nil {
		return err
	}
	opaque, merge, err := l.clear(dir, base, p, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	if !merge {
		if err := l.create(dir, base, h, body); err != nil {
			return err
		}
	}
	if l.mine != nil {
		l.mine[p] = struct{}{}
	}
	if opaque {
		if err := l.mark(dir, base); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return nil // attributes are those of the file it names
	}
	return l.dress(dir, base, p, h)
}

// clear makes room for an entry. opaque: a directory comes where the layer deleted one before; merge: it is there already.
func (l *layer) clear(dir int, name, p string, isDir bool) (opaque, merge bool, err error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		if isDir {
			return false, true, nil
		}
		l.leaveBelow(p)
		return false, false, removeTree(dir, name)
	}
	mark := l.o.Overlay && kind == unix.S_IFCHR && st.Rdev == 0
	return mark && isDir, false, unix.Unlinkat(dir, name, 0)
}

// leaveBelow forgets the open directory if it goes.
func (l *layer) leaveBelow(p string) {
	if l.at == p || strings.HasPrefix(l.at, p+"/") {
		l.leave()
	}
}

// whiteout deletes what the layers below have: one name, or everything in a directory.
func (l *layer) whiteout(p, base string) error {
	dir, err := l.enter(path.Dir(p))
	if err != nil {
		return err
	}
	if base == opaqueMarker {
		if l.o.Overlay {
			return l.mark(dir, ".")
		}
		return l.empty(dir, path.Dir(p))
	}
	if strings.HasPrefix(base, whiteout+whiteout) {
		return nil // marks of other union file systems; they mean nothing here
	}
	name := base[len(whiteout):]
	if name == "" || name == "." || name == ".." {
		return errkind.InvalidArgument("invalid whiteout")
	}
	target := path.Join(path.Dir(p), name)
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
		if l.o.Overlay {
			return unix.Mknodat(dir, name, unix.S_IFCHR, 0)
		}
		return nil
	case err != nil:
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if l.o.Overlay { // the layer's own file stays; of a directory only what is below goes
		if isDir {
			return l.mark(dir, name)
		}
		return nil
	}
	if _, own := l.mine[target]; own && !isDir {
		return nil
	} else if own {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return l.empty(fd, target)
	}
	if isDir {
		return removeTree(dir, name)
	}
	return unix.Unlinkat(dir, name, 0)
}

// empty removes what the layers below put into a directory.
func (l *layer) empty(dir int, p string) error {
	names, err := readNames(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		child := path.Join(p, n)
		var st unix.Stat_t
		if err := unix.Fstatat(dir, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		_, own := l.mine[child]
		switch {
		case own && isDir:
			fd, err := unix.Openat(dir, n, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = l.empty(fd, child)
			_ = unix.Close(fd) // only walked
			if err != nil {
				return err
			}
		case own:
		case isDir:
			err = removeTree(dir, n)
		default:
			err = unix.Unlinkat(dir, n, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readNames lists a directory by a descriptor that may be a mere path.
func readNames(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

// mark makes a directory opaque: what is in the layers below it is not seen.
func (l *layer) mark(dir int, name string) error {
	return onPath(dir, name, func(self string) error {
		return unix.Setxattr(self, l.o.Xattr+".overlay.opaque", []byte("y"), 0)
	})
}

// onPath gives f a name in /proc that leads to this very file, without following links.
func onPath(dir int, name string, f func(self string) error) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func (l *layer) create(dir int, name string, h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return l.write(dir, name, h, body)
	case tar.TypeLink:
		from, old, err := l.parent(path.Clean("/" + h.Linkname))
		if err != nil {
			return errkind.InvalidArgument("hard link to %q: %w", clip(h.Linkname), err)
		}
		defer unix.Close(from)
		if err := unix.Linkat(from, old, dir, name, 0); err != nil { // no AT_SYMLINK_FOLLOW: a link is linked itself
			return errkind.InvalidArgument("hard link to %q: %w", clip(h.Linkname), err)
		}
		return nil
	case tar.TypeDir:
		return unix.Mkdirat(dir, name, uint32(h.Mode&0o777))
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, dir, name)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		return unix.Mknodat(dir, name, kind|uint32(h.Mode&0o777), int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	}
	return errkind.InvalidArgument("unhandled kind of entry %q", string(rune(h.Typeflag)))
}

func (l *layer) write(dir int, name string, h *tar.Header, body io.Reader) error {
	if l.bytes += h.Size; l.bytes > maxUnpacked {
		return errkind.InvalidArgument("archive unpacks to more than %d bytes", int64(maxUnpacked))
	}
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(h.Mode&0o777))
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	err = l.copy(f, body)
	return errors.Join(err, f.Close())
}

var zero [4096]byte

// copy writes a body; whole buffers of zeros are skipped, which leaves holes.
func (l *layer) copy(f *os.File, body io.Reader) error {
	var size, hole int64
	for {
		n, err := io.ReadFull(body, l.buf)
		b := l.buf[:n]
		if n == len(l.buf) && allZero(b) {
			if _, serr := f.Seek(int64(n), io.SeekCurrent); serr != nil {
				return serr
			}
			hole = 1
		} else if n > 0 {
			if _, werr := f.Write(b); werr != nil {
				return werr
			}
			hole = 0
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // a body cut short is noticed by the reader's next entry
		}
		if err != nil {
			return errkind.InvalidArgument("archive: %w", err)
		}
	}
	if hole != 0 {
		return f.Truncate(size)
	}
	return nil
}

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zero))
		if !bytes.Equal(b[:n], zero[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// dress sets owner, mode, extended attributes and time, in the order in which none undoes another.
func (l *layer) dress(dir int, name, p string, h *tar.Header) error {
	if err := unix.Fchownat(dir, name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(dir, name, uint32(h.Mode&0o7777), 0); err != nil {
			return err
		}
	}
	if err := l.xattrs(dir, name, h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		l.dirs = append(l.dirs, dirTime{p, h.ModTime})
		return nil
	}
	return touch(dir, name, h.ModTime)
}

func (l *layer) xattrs(dir int, name string, h *tar.Header) error {
	for k, v := range h.PAXRecords {
		attr, ok := strings.CutPrefix(k, xattrPrefix)
		// Overlay's own attributes would lead it elsewhere; an image has no say in them.
		if !ok || strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.") {
			continue
		}
		if len(v) > maxXattr || len(attr) > 255 {
			return errkind.InvalidArgument("extended attribute longer than %d bytes", maxXattr)
		}
		err := onPath(dir, name, func(self string) error { return unix.Setxattr(self, attr, []byte(v), 0) })
		// Some file systems and some kinds of file take none; nor does a link.
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("attribute %s: %w", clip(attr), err)
		}
	}
	return nil
}

func (l *layer) stampDirs() error {
	for i := len(l.dirs) - 1; i >= 0; i-- {
		d := l.dirs[i]
		fd, err := l.open(d.path, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue // a later entry replaced it
		}
		if err != nil {
			return err
		}
		err = touch(fd, ".", d.t)
		_ = unix.Close(fd) // nothing was written through it
		if err != nil {
			return err
		}
	}
	return nil
}
