package container

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/shim"
)

const (
	keepExecs  = 5 * time.Minute  // how long an exec that ended can be inspected
	resizeWait = 10 * time.Second // how long a resize waits for its exec to start
)

// ErrExecRan tells that an exec was started before.
var ErrExecRan = errors.New("has already run")

// execution is one exec process.
type execution struct {
	id    string
	entry *entry
	o     ExecOptions
	up    chan struct{} // closed when it runs, or cannot
	done  chan struct{} // closed when the exit code is set

	mu      sync.Mutex
	started bool
	running bool
	code    *int
	pid     int
	proc    shim.Process
}

// ExecCreate registers a process to run in a running container.
//
// Errors: ErrConflict if the container does not run or is paused; ErrInvalidArgument for an unknown user.
func (m *Manager) ExecCreate(_ context.Context, ref string, o ExecOptions) (string, error) {
	e, err := m.find(ref)
	if err != nil {
		return "", err
	}
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return "", errkind.InvalidArgument("No exec command specified")
	}
	s, err := e.executable(ref)
	if err != nil {
		return "", err
	}
	// What is wrong with it is said now; a start looks again, since the container may have changed its files.
	if _, err := m.d.Specs.ExecProcess(s, m.rootfs(e.id), o); err != nil {
		return "", errkind.With(errdefs.ErrInvalidArgument, err)
	}
	x := &execution{id: ids.New(), entry: e, o: o, up: make(chan struct{}), done: make(chan struct{})}
	m.mu.Lock()
	m.mu.execs[x.id] = x
	m.mu.Unlock()
	m.publish(s, x.action("exec_create"), "execID", x.id)
	return x.id, nil
}

// executable refuses execs in containers that do not run; word is what the user called it.
func (e *entry) executable(word string) (*Snapshot, error) {
	s := e.now.Load()
	switch s.State.Phase {
	case Running:
		return s, nil
	case Paused:
		return nil, errkind.Conflict("Container %s is paused, unpause the container before exec", word)
	case Restarting:
		return nil, errkind.Conflict("Container %s is restarting, wait until the container is running", e.id)
	}
	return nil, errkind.Conflict("container %s is not running", e.id)
}

// action is the word of an event: it holds the command line, with a blank after the program in any case.
func (x *execution) action(word string) string {
	return word + ": " + x.o.Argv[0] + " " + strings.Join(x.o.Argv[1:], " ")
}

func (m *Manager) rootfs(id ID) string {
	return filepath.Join(m.d.Runtime.BundleDir(string(id)), "rootfs")
}

func (m *Manager) exec(id string) (*execution, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.mu.execs[id]
	if x == nil {
		return nil, errkind.NotFound("No such exec instance: %s", id)
	}
	return x, nil
}

// ExecStart runs an exec. Without Detach the streams are connected before the process runs; they end after its exit code is
// known.
//
// Errors: ErrNotFound; ErrConflict if the container does not run or is paused, and ErrExecRan within one for a second start;
// *shim.StartError for a process that cannot be executed.
func (m *Manager) ExecStart(ctx context.Context, id string, o ExecStartOptions) (*Streams, error) {
	x, err := m.exec(id)
	if err != nil {
		return nil, err
	}
	s, err := x.entry.executable(string(x.entry.id))
	if err != nil {
		return nil, err
	}
	t, _, ok := x.entry.live()
	if !ok {
		return nil, errkind.Conflict("container %s is not running", x.entry.id)
	}
	x.mu.Lock()
	ran := x.started
	x.started = true
	x.mu.Unlock()
	if ran {
		return nil, errkind.Conflict("exec command %s %w", id, ErrExecRan)
	}
	m.publish(s, x.action("exec_start"), "execID", x.id)
	st, err := m.runExec(context.WithoutCancel(ctx), x, t, s, o)
	if err != nil {
		code := failureCode(err)
		if code == 128 {
			code = 126 // dockerd's for every exec that could not begin
		}
		m.endExec(x, code)
	}
	return st, err
}

func (m *Manager) runExec(ctx context.Context, x *execution, t shim.Task, s *Snapshot, o ExecStartOptions) (*Streams, error) {
	opt := x.o
	if o.ConsoleSize != [2]uint{} {
		opt.ConsoleSize = o.ConsoleSize
	}
	if links, lerr := m.resolveLinks(s); lerr == nil { // one that has ended gives nothing
		opt.LinkEnv = linkEnv(s.Name, links)
	}
	spec, err := m.d.Specs.ExecProcess(s, m.rootfs(x.entry.id), opt)
	if err != nil {
		return nil, err
	}
	p, err := t.Exec(ctx, x.id, shim.ExecSpec{Process: spec, Stdin: x.o.AttachStdin})
	if err != nil {
		return nil, err
	}
	var st *Streams
	if !o.Detach {
		stream, err := p.Open(ctx, shim.Which{Stdin: x.o.AttachStdin, Stdout: x.o.AttachStdout, Stderr: x.o.AttachStderr})
		if err != nil {
			_ = p.Delete(ctx) // it never ran
			return nil, err
		}
		st = &Streams{Stream: &execStream{stream, x.done}, TTY: opt.TTY, StdinOpen: x.o.AttachStdin, StdinOnce: true, Detached: func() {
			m.publish(x.entry.now.Load(), "exec_detach", "execID", x.id)
		}}
	}
	pid, err := p.Start(ctx)
	if err != nil {
		_ = p.Delete(ctx) // it never ran
		if st != nil {
			_ = st.Close() // nothing came
		}
		return nil, err
	}
	fsx.Step("exec.started")
	x.mu.Lock()
	x.running, x.pid, x.proc = true, pid, p
	x.mu.Unlock()
	close(x.up)
	m.wg.Add(1)
	go m.reapExec(x, p)
	return st, nil
}

func (m *Manager) reapExec(x *execution, p shim.Process) {
	defer m.wg.Done()
	exit, err := p.Wait(m.life)
	if m.life.Err() != nil {
		return
	}
	if err != nil {
		exit.Code = 255
	}
	m.endExec(x, exit.Code)
	m.publish(x.entry.now.Load(), "exec_die", "execID", x.id, "exitCode", strconv.Itoa(exit.Code))
	_ = p.Delete(m.life) // goes with the task otherwise
}

// endExec notes how an exec ended, for a while.
func (m *Manager) endExec(x *execution, code int) {
	x.mu.Lock()
	x.running, x.code, x.proc = false, &code, nil
	x.mu.Unlock()
	select {
	case <-x.up:
	default:
		close(x.up)
	}
	close(x.done)
	time.AfterFunc(keepExecs, func() { m.forgetExec(x) })
}

func (m *Manager) forgetExec(x *execution) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.execs, x.id)
}

// dropExecs forgets the execs of a container that ended before they were started.
func (m *Manager) dropExecs(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, x := range m.mu.execs {
		if x.entry != e {
			continue
		}
		x.mu.Lock()
		if !x.started {
			delete(m.mu.execs, id)
		}
		x.mu.Unlock()
	}
}

// execStream delays the end of the stream until the exit code can be inspected: clients ask right after it.
type execStream struct {
	shim.Stream
	done <-chan struct{}
}

func (s *execStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	if errors.Is(err, io.EOF) { // not when the client closed it: the process runs on
		<-s.done
	}
	return n, err
}

// ExecGet shows an exec.
func (m *Manager) ExecGet(id string) (*Exec, error) {
	x, err := m.exec(id)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return &Exec{ID: x.id, Container: x.entry.id, Options: x.o, Running: x.running, ExitCode: x.code, Pid: x.pid}, nil
}

// ExecResize sets the size of an exec's terminal, if need be once it has started.
//
// Errors: ErrNotFound, also for an exec that ended; an error of no kind if it does not start within ten seconds.
func (m *Manager) ExecResize(ctx context.Context, id string, rows, cols uint16) error {
	x, err := m.exec(id)
	if err != nil {
		return err
	}
	select {
	case <-x.up:
	case <-time.After(resizeWait):
		return errors.New("timeout waiting for exec session ready")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	x.mu.Lock()
	p := x.proc
	x.mu.Unlock()
	if p == nil {
		return errkind.NotFound("no such exec")
	}
	return p.Resize(ctx, rows, cols)
}

// ExecIDs lists the execs of a container that did not end yet, by id; nil when there are none.
func (m *Manager) ExecIDs(id ID) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, x := range m.mu.execs {
		x.mu.Lock()
		if x.entry.id == id && x.code == nil {
			out = append(out, x.id)
		}
		x.mu.Unlock()
	}
	slices.Sort(out)
	return out
}
