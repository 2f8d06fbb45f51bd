package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// window is how much is on its way inside the kernel between two connections.
const window = 1 << 20

// relay copies the container's output to the client until it ends. Between two plain sockets the bytes stay in the kernel.
func relay(dst net.Conn, p Peer) error {
	to, toOK := dst.(syscall.Conn)
	from := socketOf(p)
	if toOK && from != nil {
		if moved, err := splice(to, from); err != nil {
			return err
		} else if moved {
			_, err = p.Read(make([]byte, 1)) // the stream's end may have to wait for more than the socket's
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{p}, *buf)
	return err
}

// socketOf is the socket behind a stream, if all that the stream yields comes from it; else nil.
func socketOf(p Peer) syscall.Conn {
	switch s := p.(type) {
	case *net.UnixConn:
		return s
	case interface{ Socket() *net.UnixConn }:
		if c := s.Socket(); c != nil {
			return c
		}
	}
	return nil
}

// splice moves bytes through a pipe of the kernel. moved is false if nothing was moved because these sockets cannot do it.
func splice(dst, src syscall.Conn) (moved bool, err error) {
	in, err := src.SyscallConn()
	if err != nil {
		return false, nil //nolint:nilerr // copying tells
	}
	out, err := dst.SyscallConn()
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return false, nil //nolint:nilerr // out of descriptors: copying needs none
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, window) // a smaller one works too
	for {
		n, err := one(in.Read, func(fd int) (int64, error) {
			return unix.Splice(fd, nil, p[1], nil, window, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		})
		if errors.Is(err, unix.EINVAL) && !moved {
			return false, nil
		}
		if err != nil || n == 0 {
			return true, err
		}
		moved = true
		for n > 0 {
			m, err := one(out.Write, func(fd int) (int64, error) {
				return unix.Splice(p[0], nil, fd, nil, int(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			})
			if err != nil {
				return true, err
			}
			n -= m
		}
	}
}

// one makes one call as soon as the socket is ready for it.
func one(ready func(func(uintptr) bool) error, call func(fd int) (int64, error)) (n int64, err error) {
	rerr := ready(func(fd uintptr) bool {
		for {
			n, err = call(int(fd))
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if rerr != nil {
		return 0, rerr
	}
	return n, os.NewSyscallError("splice", err)
}
