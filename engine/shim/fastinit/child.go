//go:build cgo && linux

package fastinit

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process whose parent this is. Waiting for it costs no thread.
type child struct {
	pid   int
	pidfd *os.File
}

// watch takes a new child; an earlier one must have been waited for.
func (c *child) watch(pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	c.pid, c.pidfd = pid, os.NewFile(uintptr(fd), "pidfd")
	return nil
}

// wait reaps it. Only once for each.
func (c *child) wait() (ws syscall.WaitStatus, err error) {
	rc, err := c.pidfd.SyscallConn()
	if err != nil {
		return 0, err
	}
	var werr error
	err = rc.Read(func(uintptr) bool {
		var pid int
		for {
			pid, werr = syscall.Wait4(c.pid, &ws, syscall.WNOHANG, nil)
			if !errors.Is(werr, syscall.EINTR) {
				break
			}
		}
		return pid != 0 || werr != nil
	})
	return ws, errors.Join(err, werr, c.pidfd.Close())
}

// signal never reaches another process: the descriptor names this one, also after its end.
func (c *child) signal(sig syscall.Signal) error {
	rc, err := c.pidfd.SyscallConn()
	if err != nil {
		return os.ErrProcessDone
	}
	var serr error
	err = rc.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(serr, syscall.ESRCH) || err != nil {
		return os.ErrProcessDone
	}
	return serr
}
