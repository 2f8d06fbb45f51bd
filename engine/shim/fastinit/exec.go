//go:build cgo && linux

package fastinit

import (
	"fmt"
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/internal/proc"
)

// Target is a running container, whichever backend started it. It stays that container when the pid means another process.
type Target struct {
	o     TargetOptions
	pidfd *os.File // of init
}

// TargetOptions describe a container for execs.
type TargetOptions struct {
	ID          string
	Pid         int               // of init, in the host's namespace: a child of this process that has not been reaped
	Groups      map[string]string // cgroup paths by controller; "" is the unified hierarchy
	Filter      *Filter
	OOMScoreAdj *int // nil: the shim's own
}

// NewTarget takes hold of a container.
func NewTarget(o TargetOptions) (*Target, error) {
	fd, err := unix.PidfdOpen(o.Pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Target{o, os.NewFile(uintptr(fd), "target")}, nil
}

// Close lets go of it; processes are not touched.
func (t *Target) Close() error { return t.pidfd.Close() }

// Process is an exec.
type Process struct{ st *stage }

// Exec runs a further process in a container: in its cgroups, its namespaces and under its filter.
//
// Errors: one for which IsUncovered holds; otherwise *shim.StartError.
func (t *Target) Exec(ps *specs.Process, s proc.Stdio) (*Process, *os.File, error) {
	if !kernelHas() || coveredProcess(ps) != nil {
		return nil, nil, errUncovered
	}
	prog, err := t.o.Filter.program()
	if err != nil {
		return nil, nil, startError(shim.ExecFailed, err)
	}
	p, err := t.plan(ps, prog)
	if err != nil {
		return nil, nil, startError(shim.ExecFailed, err)
	}
	// What was read by pid was the container's if it still lives.
	if err := unix.PidfdSendSignal(int(t.pidfd.Fd()), 0, nil, 0); err != nil {
		return nil, nil, startError(shim.ExecFailed, fmt.Errorf("cannot exec in a stopped container: %w", err))
	}
	born, err := unified(t.o.Groups)
	if err != nil {
		return nil, nil, startError(shim.ExecFailed, err)
	}
	defer closeFile(born)
	st, err := launch(p, s, 0, born, t.pidfd)
	if err != nil {
		return nil, nil, startError(shim.ExecFailed, err)
	}
	if err := st.ready(); err != nil {
		return nil, nil, startError(shim.ExecFailed, starting(err))
	}
	_ = st.control.Close() // it has said all
	return &Process{st}, st.console, nil
}

// targetFD is the descriptor that launch gives the target's pidfd.
const targetFD = 5

func (t *Target) plan(ps *specs.Process, prog *program) (*plan, error) {
	p := &plan{}
	p.op(opTasks, tasksFiles(t.o.Groups))
	if t.o.OOMScoreAdj != nil {
		p.op(opOOMAdj, *t.o.OOMScoreAdj)
	}
	// Joining a namespace one is in already is harmless, so the container's own need not be told apart from shared ones.
	p.op(opSetnsFD, unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWPID|unix.CLONE_NEWNET|unix.CLONE_NEWCGROUP, targetFD)
	p.op(opFork)
	p.op(opKeyring, "_ses."+t.o.ID, uint32(0))
	p.console(ps, false)
	p.op(opUmask, ^uint32(0))
	if ps.User.Umask != nil {
		p.op(opUmask, *ps.User.Umask)
	}
	return p, p.process(ps, prog, fmt.Sprintf("/proc/%d/root", t.o.Pid), false)
}

// Pid in the host's namespace.
func (p *Process) Pid() int { return p.st.pid }

// Wait reaps it.
func (p *Process) Wait() (syscall.WaitStatus, error) { return p.st.wait() }

// Signal sends sig to it.
func (p *Process) Signal(sig syscall.Signal) error { return p.st.signal(sig) }
