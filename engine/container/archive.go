package container

import (
	"context"
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/rootdir"
)

// FileInfo describes a file in a container.
type FileInfo = rootdir.Info

// PutOptions of PutArchive.
type PutOptions struct {
	// KeepKind refuses to replace a directory by something else and the other way round.
	KeepKind bool
	// OwnedByUser gives everything to the container's user, if it has one.
	OwnedByUser bool
}

// StatPath describes the file at a path of a container; a link is not followed unless the path ends with a slash or "/.".
//
// Errors: ErrNotFound "Could not find the file …"; ErrInternal for a path through something that is no directory.
func (m *Manager) StatPath(ctx context.Context, ref, p string) (i *FileInfo, err error) {
	err = m.look(ctx, ref, func(_ *entry, v *rootdir.View) error {
		i, err = v.Stat(p)
		return about(err, ref, p)
	})
	return i, err
}

// GetArchive calls head with the description of the file at a path and writes the file or tree to the writer that head
// returns, as a tar archive whose entries start with the last element of the path. It follows links as StatPath does.
func (m *Manager) GetArchive(ctx context.Context, ref, p string, head func(*FileInfo) io.Writer) error {
	return m.look(ctx, ref, func(e *entry, v *rootdir.View) error {
		i, err := v.Stat(p)
		if err != nil {
			return about(err, ref, p)
		}
		if err := v.Pack(ctx, p, head(i)); err != nil {
			return err
		}
		m.publish(e.now.Load(), "archive-path")
		return nil
	})
}

// PutArchive extracts a tar archive, compressed or not, below the directory at a path of a container.
//
// Errors: as StatPath; ErrInvalidArgument if it is no directory or cannot be written to; ErrInternal for what is wrong with the
// archive: what came before in it has been extracted then.
func (m *Manager) PutArchive(ctx context.Context, ref, p string, src io.Reader, o PutOptions) error {
	return m.look(ctx, ref, func(e *entry, v *rootdir.View) error {
		dir := rootdir.Clean(p)
		i, err := v.Stat(dir)
		if err == nil && i.Mode&os.ModeSymlink != 0 {
			dir = rootdir.Clean(p + "/") // a link is followed here in every spelling
			i, err = v.Stat(dir)
		}
		if err != nil {
			return about(err, ref, p)
		}
		if !i.Mode.IsDir() {
			return errkind.InvalidArgument("extraction point is not a directory")
		}
		switch err := v.Writable(dir); {
		case errors.Is(err, rootdir.ErrReadOnlyTree):
			return errkind.InvalidArgument("container rootfs is marked read-only")
		case errors.Is(err, rootdir.ErrReadOnlyMount):
			return errkind.InvalidArgument("mounted volume is marked read-only")
		case err != nil:
			return err
		}
		s := e.now.Load()
		uo := rootdir.UnpackOptions{KeepKind: o.KeepKind}
		if user := s.Spec.Process.User; o.OwnedByUser && user != "" {
			pr, err := m.d.Specs.ExecProcess(s, v.Host(), ExecOptions{Argv: []string{"true"}, User: user})
			if err != nil {
				return err
			}
			uo.Owner = &[2]int{int(pr.User.UID), int(pr.User.GID)}
		}
		plain, err := image.Decompress(src)
		if errors.Is(err, io.EOF) {
			plain, err = io.NopCloser(src), nil // an empty body is an empty archive
		}
		if err != nil {
			return err
		}
		defer plain.Close()
		if err := v.Unpack(ctx, path.Clean(dir), plain, uo); err != nil {
			return err
		}
		m.publish(s, "extract-to-dir")
		return nil
	})
}

// look runs f on a container's files.
func (m *Manager) look(ctx context.Context, ref string, f func(*entry, *rootdir.View) error) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	v, done, err := m.view(ctx, e, false)
	if err != nil {
		return err
	}
	defer done()
	return f(e, v)
}

// about puts an error about a path into dockerd's words.
func about(err error, ref, p string) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return errkind.NotFound("Could not find the file %s in container %s", p, ref)
	case errors.Is(err, unix.ENOTDIR):
		return errkind.Internal("lstat %s: not a directory", p)
	}
	return err
}
