//go:build cgo && linux

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/fastinit"
)

// process is init or an exec: its stdio, and its end.
type process struct {
	hub    *hub
	spec   *shim.ExecSpec // of an exec
	exited chan struct{}  // closed when exit is set and the log is complete

	mu      sync.Mutex
	started bool
	failed  bool
	pid     int
	console *os.File
	exit    shim.Exit
	exec    runner
}

type task struct {
	bundle shim.Bundle
	c      container
	target *fastinit.Target // for execs
	init   *process

	// starting is held for reading while an exec starts and for writing by a pause: freezing a process that is half made would
	// leave whoever makes it waiting, and everything else of the container behind it.
	starting sync.RWMutex

	mu     sync.Mutex
	paused bool
	execs  map[string]*process
}

// keepExec is how long an exec that ended stays known when no daemon asks for its end.
const keepExec = time.Minute

// wire makes the descriptors of a process for the given kind of stdio. cleanup closes the child's ends.
func wire(h *hub, stdin, tty bool) (s stdio, pumps func(), cleanup func(), err error) {
	if tty {
		return stdio{TTY: true}, func() {}, func() {}, nil
	}
	var outR, errR, inW *os.File
	defer func() {
		if err != nil {
			closeAll(outR, errR, inW, s.Stdin, s.Stdout, s.Stderr)
		}
	}()
	if outR, s.Stdout, err = pipe(true); err != nil {
		return
	}
	if errR, s.Stderr, err = pipe(true); err != nil {
		return
	}
	if stdin {
		if inW, s.Stdin, err = pipe(false); err != nil {
			return
		}
	} else if s.Stdin, err = os.Open(os.DevNull); err != nil {
		return
	}
	child := s
	h.in.f = inW
	return s, func() {
			h.pumps.Add(2)
			go h.pump(outR, logs.Stdout)
			go h.pump(errR, logs.Stderr)
		}, func() {
			closeAll(child.Stdin, child.Stdout, child.Stderr)
		}, nil
}

func newTask(state string, b shim.Bundle) (_ *task, err error) {
	spec, err := readSpec(filepath.Join(b.Dir, "config.json"))
	if err != nil {
		return nil, err
	}
	log, err := logs.OpenWriter(b.IO.Log, b.IO.LogPath)
	if err != nil {
		return nil, fmt.Errorf("failed to create task for container: failed to initialize logging driver: %w", err)
	}
	h := newHub(b.IO, log)
	s, pumps, cleanup, err := wire(h, b.IO.Stdin, b.IO.TTY)
	if err != nil {
		_ = log.Close() // the error that matters is err
		return nil, err
	}
	c, console, err := createContainer(state, b, spec, s)
	cleanup()
	pumps() // also after a failure: they close our ends
	if err != nil {
		h.finish()
		return nil, err
	}
	p := &process{hub: h, exited: make(chan struct{}), pid: c.Pid(), console: console}
	p.takeConsole(b.IO.Stdin)
	target, err := fastinit.NewTarget(fastinit.TargetOptions{ID: b.ID, Pid: c.Pid(), Groups: c.Groups(), Filter: spec.filter, OOMScoreAdj: spec.Process.OOMScoreAdj})
	if err != nil {
		_ = c.Signal(syscall.SIGKILL) // it was just created
		_, _ = c.Wait()
		h.finish()
		return nil, errors.Join(err, c.Destroy())
	}
	return &task{bundle: b, c: c, target: target, init: p, execs: map[string]*process{}}, nil
}

// takeConsole hands the terminal to the hub: one reader, one writer.
func (p *process) takeConsole(stdin bool) {
	if p.console == nil {
		return
	}
	if stdin {
		if fd, err := unix.FcntlInt(p.console.Fd(), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			_ = unix.SetNonblock(fd, true)
			p.hub.in.f = os.NewFile(uintptr(fd), "console")
		}
	}
	if fd, err := unix.FcntlInt(p.console.Fd(), unix.F_DUPFD_CLOEXEC, 3); err == nil {
		_ = unix.SetNonblock(fd, true)
		p.hub.pumps.Add(1)
		go p.hub.pump(os.NewFile(uintptr(fd), "console"), logs.Stdout)
	}
}

// reapInit waits for init and records its end before anybody is told.
func (t *task) reapInit() {
	st, err := t.c.Wait()
	e := exitOf(st, err)
	e.OOMKilled = t.c.OOMKilled()
	if b, err := json.Marshal(e); err == nil {
		_ = fsx.WriteFile("exit.record", filepath.Join(t.bundle.Dir, "exit.json"), b, 0o600) // Wait still answers
	}
	t.init.end(e)
}

func exitOf(ws syscall.WaitStatus, err error) shim.Exit {
	e := shim.Exit{Code: 255, At: time.Now().UTC()}
	if err != nil {
		return e
	}
	e.Witnessed = true
	if ws.Signaled() {
		e.Signal = int(ws.Signal())
		e.Code = 128 + e.Signal
	} else {
		e.Code = ws.ExitStatus()
	}
	return e
}

// end completes the log, publishes the exit, then lets the clients' streams end.
func (p *process) end(e shim.Exit) {
	p.hub.finish()
	p.mu.Lock()
	p.exit = e
	closeAll(p.console)
	p.console = nil
	p.mu.Unlock()
	close(p.exited)
	p.hub.endStreams()
}

func (p *process) done() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (t *task) process(exec string) (*process, error) {
	if exec == "" {
		return t.init, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.execs[exec]
	if p == nil {
		return nil, errkind.NotFound("exec %s does not exist", exec)
	}
	return p, nil
}

func (t *task) addExec(id string, spec *shim.ExecSpec) error {
	h := newHub(shim.IO{TTY: spec.Process.Terminal, Stdin: spec.Stdin, StdinOnce: true}, nil)
	h.exec = true
	p := &process{hub: h, spec: spec, exited: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.execs[id] != nil {
		return errkind.With(errdefs.ErrAlreadyExists, errkind.Conflict("exec %s exists", id))
	}
	t.execs[id] = p
	return nil
}

// start releases init or runs an exec and returns the pid.
func (t *task) start(p *process) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		return 0, errkind.Conflict("process has already run")
	}
	p.started = true
	if p == t.init {
		if err := t.c.Start(); err != nil {
			return 0, err
		}
		return p.pid, nil
	}
	t.starting.RLock()
	defer t.starting.RUnlock()
	if t.isPaused() {
		return 0, errkind.Conflict("container %s is paused", t.bundle.ID)
	}
	s, pumps, cleanup, err := wire(p.hub, p.spec.Stdin, p.spec.Process.Terminal)
	if err != nil {
		return 0, err
	}
	ep, console, err := t.exec(p.spec.Process, s)
	cleanup()
	pumps()
	if err != nil {
		p.failed = true
		go p.end(shim.Exit{Code: 126, At: time.Now().UTC(), Witnessed: true})
		return 0, err
	}
	p.exec, p.pid, p.console = ep, ep.Pid(), console
	p.takeConsole(p.spec.Stdin)
	go func() {
		st, err := ep.Wait()
		p.end(exitOf(st, err))
		time.AfterFunc(keepExec, func() { t.forget(p) })
	}()
	return p.pid, nil
}

// forget frees an exec that ended.
func (t *task) forget(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.execs {
		if x == p {
			delete(t.execs, id)
		}
	}
}

func (t *task) isPaused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.paused
}

func (t *task) kill(p *process, sig syscall.Signal) error {
	if p.done() {
		return errkind.Conflict("process already finished")
	}
	if p == t.init {
		return t.c.Signal(sig)
	}
	p.mu.Lock()
	ep := p.exec
	p.mu.Unlock()
	if ep == nil {
		return errkind.Conflict("process has not run")
	}
	return ep.Signal(sig)
}

func (p *process) resize(rows, cols uint16) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.console == nil {
		return nil // no terminal: as dockerd, nothing happens
	}
	return unix.IoctlSetWinsize(int(p.console.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

func (t *task) state(p *process) shim.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := shim.State{Status: shim.StatusCreated, Pid: p.pid}
	switch {
	case p.done():
		e := p.exit
		s.Status, s.Exit = shim.StatusStopped, &e
	case p.started:
		s.Status = shim.StatusRunning
		t.mu.Lock()
		if t.paused && p == t.init {
			s.Status = shim.StatusPaused
		}
		t.mu.Unlock()
	}
	return s
}

func (t *task) pause(on bool) error {
	if on {
		t.starting.Lock()
		defer t.starting.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if on {
		err = t.c.Pause()
	} else {
		err = t.c.Resume()
	}
	if err == nil {
		t.paused = on
	}
	return err
}
