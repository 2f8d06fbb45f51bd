package container

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/shim"
)

// keepExecs is how long an exec that ended can be inspected.
const keepExecs = 5 * time.Minute

// execution is one exec process.
type execution struct {
	id    string
	entry *entry
	o     ExecOptions
	done  chan struct{} // the exit code is set

	mu      sync.Mutex
	started bool
	running bool
	code    *int
	pid     int
	proc    shim.Process
}

// ExecCreate registers a process to run in a running container.
//
// Errors: ErrConflict if the container does not run or is paused.
func (m *Manager) ExecCreate(_ context.Context, ref string, o ExecOptions) (string, error) {
	e, err := m.find(ref)
	if err != nil {
		return "", err
	}
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return "", errkind.InvalidArgument("No exec command specified")
	}
	s := e.now.Load()
	switch s.State.Phase {
	case Running:
	case Paused:
		return "", errkind.Conflict("Container %s is paused, unpause the container before exec", ref)
	case Restarting:
		return "", errkind.Conflict("Container %s is restarting, wait until the container is running", e.id)
	default:
		return "", errkind.Conflict("container %s is not running", e.id)
	}
	x := &execution{id: ids.New(), entry: e, o: o, done: make(chan struct{})}
	m.mu.Lock()
	m.mu.execs[x.id] = x
	m.mu.Unlock()
	m.publish(s, "exec_create: "+strings.Join(o.Argv, " "), "execID", x.id)
	return x.id, nil
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
// known. A process that cannot be executed is a *shim.StartError.
func (m *Manager) ExecStart(ctx context.Context, id string, o ExecStartOptions) (*Streams, error) {
	x, err := m.exec(id)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	x.mu.Lock()
	if x.started {
		x.mu.Unlock()
		return nil, errkind.Conflict("exec command %s has already run", id)
	}
	x.started = true
	x.mu.Unlock()
	t, _, ok := x.entry.live()
	s := x.entry.now.Load()
	if !ok {
		return nil, errkind.Conflict("container %s is not running", x.entry.id)
	}
	opt := x.o
	opt.TTY = o.TTY || opt.TTY && o.Detach
	if o.ConsoleSize != [2]uint{} {
		opt.ConsoleSize = o.ConsoleSize
	}
	fail := func(err error) (*Streams, error) {
		x.end(failureCode(err))
		return nil, err
	}
	spec, err := m.d.Specs.ExecProcess(s, filepath.Join(m.d.Runtime.BundleDir(string(x.entry.id)), "rootfs"), opt)
	if err != nil {
		return fail(err)
	}
	p, err := t.Exec(ctx, x.id, shim.ExecSpec{Process: spec, Stdin: x.o.AttachStdin})
	if err != nil {
		return fail(err)
	}
	var st *Streams
	if !o.Detach {
		stream, err := p.Open(ctx, shim.Which{Stdin: x.o.AttachStdin, Stdout: x.o.AttachStdout, Stderr: x.o.AttachStderr})
		if err != nil {
			return fail(err)
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
		return fail(err)
	}
	x.mu.Lock()
	x.running, x.pid, x.proc = true, pid, p
	x.mu.Unlock()
	m.publish(s, "exec_start: "+strings.Join(x.o.Argv, " "), "execID", x.id)
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
	x.end(exit.Code)
	m.publish(x.entry.now.Load(), "exec_die", "execID", x.id, "exitCode", strconv.Itoa(exit.Code))
	_ = p.Delete(m.life) // goes with the task otherwise
	time.AfterFunc(keepExecs, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.mu.execs, x.id)
	})
}

func (x *execution) end(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running, x.code = false, &code
	close(x.done)
}

// execStream delays the end of the stream until the exit code can be inspected: clients ask right after it.
type execStream struct {
	shim.Stream
	done <-chan struct{}
}

func (s *execStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	if err != nil && n == 0 {
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

// ExecResize sets the size of an exec's terminal.
func (m *Manager) ExecResize(ctx context.Context, id string, rows, cols uint16) error {
	x, err := m.exec(id)
	if err != nil {
		return err
	}
	x.mu.Lock()
	p := x.proc
	x.mu.Unlock()
	if p == nil {
		return errkind.Conflict("exec %s is not running", id)
	}
	return p.Resize(ctx, rows, cols)
}

// ExecIDs lists the running execs of a container; nil when there are none.
func (m *Manager) ExecIDs(id ID) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, x := range m.mu.execs {
		x.mu.Lock()
		if x.entry.id == id && x.running {
			out = append(out, x.id)
		}
		x.mu.Unlock()
	}
	return out
}
