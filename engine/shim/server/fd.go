package server

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func readFD(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

func again(err error) bool { return errors.Is(err, syscall.EAGAIN) }

// pipe returns a pipe whose shim side is non-blocking, so that waiting costs no thread, and whose other side is blocking,
// as programs expect.
func pipe(shimReads bool) (ours, theirs *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	o, t := p[1], p[0]
	if shimReads {
		o, t = p[0], p[1]
	}
	if err := unix.SetNonblock(o, true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(o), "pipe"), os.NewFile(uintptr(t), "pipe"), nil
}

func closeAll(fs ...*os.File) {
	for _, f := range fs {
		if f != nil {
			_ = f.Close() // either handed over or of no more use
		}
	}
}
