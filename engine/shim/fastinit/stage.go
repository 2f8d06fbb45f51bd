//go:build cgo && linux

package fastinit

// #include "stage.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim/internal/proc"
)

// stage is a process that carries out a plan.
type stage struct {
	child
	control *os.File
	console *os.File
	forks   bool // the process will be a child of the one launched; its pid has not been told yet
}

// launch starts a stage. flags are for clone; group is a cgroup of version 2 to be born in, or nil; target is passed on as
// descriptor 5, or nil.
func launch(p *plan, s proc.Stdio, flags uintptr, group, target *os.File) (_ *stage, err error) {
	code, err := planFile(p)
	if err != nil {
		return nil, err
	}
	defer code.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, err
	}
	st := &stage{control: os.NewFile(uintptr(pair[0]), "control"), forks: p.forks} // non-blocking: waiting costs no thread
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	stdio := [3]*os.File{s.Stdin, s.Stdout, s.Stderr}
	if s.TTY {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(err, st.control.Close())
		}
		defer null.Close()
		stdio = [3]*os.File{null, null, null}
	}
	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: flags}}
	for _, f := range append(stdio[:], theirs, code) {
		attr.Files = append(attr.Files, f.Fd())
	}
	if target != nil {
		attr.Files = append(attr.Files, target.Fd())
	}
	if group != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(group.Fd())
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"berth-shim", "stage"}, attr)
	runtime.KeepAlive(stdio)
	runtime.KeepAlive(group)
	if err == nil {
		err = st.watch(pid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unable to start init: %w", err), st.control.Close())
	}
	return st, nil
}

func planFile(p *plan) (*os.File, error) {
	fd, err := unix.MemfdCreate("plan", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "plan")
	if _, err := f.Write(p.b); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ready returns when the process is about to be executed, or waits for go. The stage is gone after an error.
func (st *stage) ready() error {
	err := st.follow()
	if err == nil {
		return nil
	}
	_ = st.signal(syscall.SIGKILL) // it may be gone already
	_, _ = st.wait()               // reaped; why it ended is in err
	if st.console != nil {
		_ = st.console.Close() // nobody will use it
	}
	return errors.Join(err, st.control.Close())
}

// follow reads messages until it is known how the set-up ended, and which process it is that was set up: the child's last word
// may arrive before its parent tells its pid.
func (st *stage) follow() error {
	rc, err := st.control.SyscallConn()
	if err != nil {
		return err
	}
	outcome := errors.New("the process ended while it was being set up")
	for known := false; !known || st.forks; {
		var m C.struct_message
		buf := unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m))
		oob := make([]byte, unix.CmsgSpace(4))
		var n, on int
		var rerr error
		err := rc.Read(func(fd uintptr) bool {
			n, on, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err = errors.Join(err, rerr); err != nil {
			return err
		}
		if n < int(unsafe.Offsetof(m.text)) {
			return outcome // nobody is left at the other end
		}
		switch m.kind {
		case C.MSG_READY:
			known, outcome = true, nil
		case C.MSG_ERROR:
			known, outcome = true, failure(&m, string(buf[unsafe.Offsetof(m.text):n]))
		case C.MSG_PID: // of a child of this process, as the stage was: it takes its place
			_, _ = st.wait() // the first one has nothing to tell
			if err := st.watch(int(m.value)); err != nil {
				return err
			}
			st.forks = false
		case C.MSG_CONSOLE:
			if st.console, err = proc.Console(oob[:on]); err != nil {
				return err
			}
		}
	}
	return outcome
}

// failure puts an error of the stage into libcontainer's words; clients match them.
func failure(m *C.struct_message, text string) error {
	errno := syscall.Errno(m.value)
	switch m.cause {
	case C.CAUSE_STAT:
		return fmt.Errorf("exec: %q: stat %s: %w", text, text, errno)
	case C.CAUSE_DIRECTORY, C.CAUSE_ACCESS:
		return fmt.Errorf("exec: %q: %w", text, errno)
	case C.CAUSE_PATH:
		return fmt.Errorf("exec: %q: executable file not found in $PATH", text)
	case C.CAUSE_RELATIVE:
		return fmt.Errorf("exec: %q: cannot run executable found relative to current directory", text)
	}
	if errno == 0 {
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", text, errno)
}
