package rootdir

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root is an open root directory. Safe for concurrent use.
type Root struct{ fd int }

// Open opens the directory at a path of the host; the path is trusted, what is below it is not.
func Open(host string) (*Root, error) {
	fd, err := unix.Open(host, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: host, Err: err}
	}
	return &Root{fd}, nil
}

// Close frees it.
func (r *Root) Close() error { return unix.Close(r.fd) }

// Info describes one file.
type Info struct {
	Name    string // last element as asked
	Size    int64
	Mode    os.FileMode
	ModTime time.Time
	Target  string // of a link: where it leads in the end, absolute inside the root, also if nothing is there
}

// follows reports whether a path asks for what its last element points to.
func follows(p string) bool { return strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") }

// open resolves p below the root.
func (r *Root) open(p string, flags int) (int, error) {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		p = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 16 { // EAGAIN: something was renamed during the walk
		fd, err := unix.Openat2(r.fd, p, &how)
		if !errors.Is(err, unix.EAGAIN) {
			if err != nil {
				return -1, &os.PathError{Op: "open", Path: "/" + p, Err: err}
			}
			return fd, nil
		}
	}
	return -1, &os.PathError{Op: "open", Path: "/" + p, Err: unix.EAGAIN}
}

// parent opens the directory that holds the last element of p, and names that element; "." for the root itself and for a
// path that asks to be followed.
func (r *Root) parent(p string) (fd int, name string, err error) {
	clean := path.Clean("/" + p)
	if clean == "/" || follows(Clean(p)) {
		fd, err = r.open(clean, unix.O_PATH|unix.O_DIRECTORY)
		return fd, ".", err
	}
	fd, err = r.open(path.Dir(clean), unix.O_PATH|unix.O_DIRECTORY)
	return fd, path.Base(clean), err
}

// Stat describes the file at p; a link is not followed unless p ends with a slash or "/.".
func (r *Root) Stat(p string) (*Info, error) {
	dir, name, err := r.parent(p)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &os.PathError{Op: "stat", Path: p, Err: err}
	}
	i := &Info{Name: path.Base(Clean(p)), Size: st.Size, Mode: mode(st.Mode), ModTime: time.Unix(st.Mtim.Unix())}
	if i.Mode&os.ModeSymlink != 0 {
		i.Target = r.resolve(path.Clean("/" + p))
	}
	return i, nil
}

// resolve is where a path leads when every link on the way is followed, as far as there are any. For show: what it tells may
// be old by the time it returns.
func (r *Root) resolve(p string) string {
	at, rest := "/", strings.Split(strings.TrimPrefix(p, "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := path.Join(at, name)
		to := ""
		if dir, err := r.open(at, unix.O_PATH|unix.O_DIRECTORY); err == nil {
			to, _ = readlink(dir, path.Base(next)) // not a link, or not there
			_ = unix.Close(dir)                    // only looked at
		}
		if to == "" || name == ".." || name == "." {
			at = next
			continue
		}
		if links++; links > 255 {
			return next
		}
		if path.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(path.Clean(to), "/"), "/"), rest...)
	}
	return at
}

func readlink(dir int, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, b)
	if err != nil {
		return "", fmt.Errorf("readlink %s: %w", name, err)
	}
	return string(b[:n]), nil
}

// mode turns the kernel's bits into Go's.
func mode(m uint32) os.FileMode {
	out := os.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		out |= os.ModeDir
	case unix.S_IFLNK:
		out |= os.ModeSymlink
	case unix.S_IFCHR:
		out |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFBLK:
		out |= os.ModeDevice
	case unix.S_IFIFO:
		out |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		out |= os.ModeSocket
	}
	for bit, f := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if m&bit != 0 {
			out |= f
		}
	}
	return out
}
