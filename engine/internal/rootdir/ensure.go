package rootdir

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Entry is something that a tree shall have: an empty file, a directory or a link.
type Entry struct {
	Path   string
	Dir    bool
	Target string // of a link
}

// Ensure makes the entries that lead nowhere, with mode 0755; what is there stays as it is. Nobody else may change the tree
// meanwhile.
func (r *Root) Ensure(es []Entry) error {
	for _, e := range es {
		if err := r.ensure(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) ensure(e Entry) error {
	if fd, err := r.open(e.Path, unix.O_PATH); err == nil {
		return unix.Close(fd)
	} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return err
	}
	dir, err := r.mkdirs(path.Dir(e.Path))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	name := path.Base(e.Path)
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) { // a link that leads nowhere
		return &os.PathError{Op: "unlink", Path: e.Path, Err: err}
	}
	switch {
	case e.Dir:
		err = unix.Mkdirat(dir, name, 0o755)
	case e.Target != "":
		err = unix.Symlinkat(e.Target, dir, name)
	default:
		err = unix.Mknodat(dir, name, unix.S_IFREG|0o755, 0)
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: e.Path, Err: err}
	}
	return nil
}
