package logs

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// packed ends the names of compressed files.
const packed = ".gz"

// pack compresses a file and puts the result in its place. The result remembers which file it was made from, so that a
// follower that was reading it finds its successor.
func pack(path string) (err error) {
	src, err := os.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, dst.Close()); err != nil {
			_ = os.Remove(dst.Name()) // the error that matters is err
		}
	}()
	z, err := gzip.NewWriterLevel(dst, gzip.BestSpeed)
	if err != nil {
		return err
	}
	z.Extra = binary.BigEndian.AppendUint64(nil, inode(st))
	if _, err := io.Copy(z, src); err != nil {
		return err
	}
	if err := errors.Join(z.Close(), os.Chtimes(dst.Name(), st.ModTime(), st.ModTime()), dst.Chmod(0o640)); err != nil {
		return err
	}
	if err := os.Rename(dst.Name(), path+packed); err != nil {
		return err
	}
	return os.Remove(path)
}

func inode(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}

// identity tells log files apart. Inodes are used again, so the time of the last change, which a compressed file keeps,
// belongs to it; it holds for files that are not written any more.
type identity struct {
	inode   uint64
	changed int64 // nanoseconds
}

func identify(st os.FileInfo) identity { return identity{inode(st), st.ModTime().UnixNano()} }

// identityAt is that of the file at path or, if it is compressed, of the one it was made from.
func identityAt(path string) identity {
	if st, err := os.Stat(path); err == nil {
		return identify(st)
	}
	f, err := os.Open(path + packed)
	if err != nil {
		return identity{}
	}
	defer f.Close()
	return identityOf(f)
}

// identityOf is that of an open file; an unreadable one is like no other.
func identityOf(f *os.File) identity {
	st, err := f.Stat()
	if err != nil {
		return identity{}
	}
	if filepath.Ext(f.Name()) != packed {
		return identify(st)
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(io.NewSectionReader(f, 0, 512), 512))
	if err != nil || len(z.Extra) != 8 {
		return identity{}
	}
	return identity{binary.BigEndian.Uint64(z.Extra), st.ModTime().UnixNano()}
}

// openOld opens the i-th older file as it lies there. Who must not see a rotation half done holds a lock.
func openOld(path string, i int) (*os.File, error) {
	f, err := os.Open(rotated(path, i))
	if !errors.Is(err, os.ErrNotExist) || i == 0 {
		return f, err
	}
	return os.Open(rotated(path, i) + packed)
}

// plain is what openOld gave, uncompressed: of a compressed file an unlinked copy is made. f is closed when it is replaced.
func plain(f *os.File) (_ *os.File, err error) {
	if filepath.Ext(f.Name()) != packed {
		return f, nil
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	fd, err := unix.Open(filepath.Dir(f.Name()), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	out := os.NewFile(uintptr(fd), "log")
	if _, err = io.Copy(out, z); err == nil { //nolint:gosec // our own file, of bounded size
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// lockPatience is how long a rotation waits for readers. They hold their lock only to open files; one that is stopped in the
// middle of that must not stop the container.
const lockPatience = time.Second

// lock keeps rotations and readers of the log at path apart: exclusive for the one, shared for the others.
func lock(path string, exclusive bool) (unlock func(), err error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		if err = unix.Flock(fd, how|unix.LOCK_NB); err == nil || time.Now().After(end) {
			return func() { _ = unix.Close(fd) }, nil // the lock goes with it
		}
	}
}
