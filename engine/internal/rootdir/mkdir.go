package rootdir

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// MkdirAll makes the directory at p and those above it, with permission bits perm; what it makes belongs to uid and gid. What is
// there already stays as it is.
//
// Errors: unix.ENOTDIR if something else is in the way.
func (r *Root) MkdirAll(p string, perm uint32, uid, gid int) error {
	clean := path.Clean("/" + p)
	fd, err := r.open(clean, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.ENOENT) || clean == "/" {
		return err
	}
	if err := r.MkdirAll(path.Dir(clean), perm, uid, gid); err != nil {
		return err
	}
	up, err := r.open(path.Dir(clean), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(up)
	name := path.Base(clean)
	if err := unix.Mkdirat(up, name, perm); err != nil {
		return &os.PathError{Op: "mkdir", Path: clean, Err: err}
	}
	return unix.Fchownat(up, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// OpenFile opens the regular file at p for reading; links are followed inside the root.
//
// Errors: os.ErrNotExist; anything that is no regular file is refused without being opened for good.
func (r *Root) OpenFile(p string) (*os.File, error) {
	fd, err := r.open(p, unix.O_RDONLY|unix.O_NONBLOCK) // a pipe must not block
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), p)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: p, Err: unix.EINVAL}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
