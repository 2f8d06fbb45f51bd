package container

import (
	"context"
	"io"
	"iter"
	"strconv"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/logs/drivers"
	"github.com/berthd/berth/engine/shim"
)

// lateStream is a client that attached before there was a task: it waits for the next start.
type lateStream struct {
	which shim.Which
	ready chan struct{}
	once  sync.Once
	s     shim.Stream // set before ready is closed; nil if there will be none
}

func newLate(w shim.Which) *lateStream { return &lateStream{which: w, ready: make(chan struct{})} }

// connect joins the task; called between create and start, so nothing the process writes is missed.
func (l *lateStream) connect(ctx context.Context, t shim.Task) {
	select {
	case <-l.ready:
		return // the client left: its end of input must not become the container's
	default:
	}
	s, err := t.Open(ctx, l.which)
	if err != nil {
		l.fail()
		return
	}
	used := false
	l.once.Do(func() { l.s, used = s, true; close(l.ready) })
	if !used {
		_ = s.Close() // the client left meanwhile
	}
}

func (l *lateStream) fail() { l.once.Do(func() { close(l.ready) }) }

func (l *lateStream) wait() shim.Stream { <-l.ready; return l.s }

func (l *lateStream) Read(b []byte) (int, error) {
	if s := l.wait(); s != nil {
		return s.Read(b)
	}
	return 0, io.EOF
}

func (l *lateStream) Write(b []byte) (int, error) {
	if s := l.wait(); s != nil {
		return s.Write(b)
	}
	return 0, io.ErrClosedPipe
}

func (l *lateStream) CloseWrite() error {
	if s := l.wait(); s != nil {
		return s.CloseWrite()
	}
	return nil
}

func (l *lateStream) Close() error {
	l.fail()
	if l.s != nil {
		return l.s.Close()
	}
	return nil
}

// Attach connects a client to a container's streams: at once if it runs, at the next start otherwise.
//
// Errors: ErrConflict for a paused or restarting container.
func (m *Manager) Attach(ctx context.Context, ref string, o AttachOptions) (*Streams, error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	s := e.now.Load()
	switch s.State.Phase {
	case Paused:
		return nil, errkind.Conflict("container %s is paused, unpause the container before attach", ref)
	case Restarting:
		return nil, errkind.Conflict("container %s is restarting, wait until the container is running", ref)
	}
	p := s.Spec.Process
	st := &Streams{TTY: p.TTY, StdinOpen: p.OpenStdin, StdinOnce: p.StdinOnce, Detached: func() { m.publish(e.now.Load(), "detach") }}
	w := o.Which
	w.Replay = o.Logs
	if !o.Live {
		return st, nil // nothing but the log, which the caller reads
	}
	if task := e.attachable(); task != nil {
		st.Stream, err = task.Open(ctx, w)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
	}
	if st.Stream == nil || err != nil { // it does not run, or not any more
		l := newLate(w)
		e.mu.Lock()
		e.mu.pending = append(e.mu.pending, l)
		e.mu.Unlock()
		st.Stream = l
	}
	m.publish(s, "attach")
	return st, nil
}

// attachable is the task whose streams a client can join; nil once its exit is committed, though it may still be cleaned up.
func (e *entry) attachable() shim.Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.mu.run; r != nil {
		select {
		case <-r.exited:
			return nil
		default:
		}
	}
	return e.mu.task
}

// LogReader is an open log. TTY says how its records are framed for clients.
type LogReader struct {
	TTY     bool
	Records iter.Seq2[logs.Record, error]
}

// Logs opens the log of a container; it works whether it runs or not. Following ends with the container's next exit.
func (m *Manager) Logs(ctx context.Context, ref string, o LogOptions) (*LogReader, error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	s := e.now.Load()
	if s.State.Phase == Removing || s.State.Phase == Dead {
		return nil, errkind.Conflict("can not get logs from container which is dead or marked for removal")
	}
	ended := make(chan struct{})
	if _, r, ok := e.live(); ok && r != nil {
		ended = r.exited
	} else {
		close(ended)
	}
	if off, _ := strconv.ParseBool(s.Spec.Log.Options["cache-disabled"]); off && drivers.Remote(s.Spec.Log.Driver) {
		return nil, errkind.NotImplemented("configured logging driver does not support reading")
	}
	cfg, path := m.logFile(s)
	seq, err := logs.Read(ctx, cfg, path, logs.ReadOptions{
		Stdout: o.Stdout, Stderr: o.Stderr, Follow: o.Follow, Tail: o.Tail, Since: o.Since, Until: o.Until,
	}, ended)
	if err != nil {
		return nil, err
	}
	if cfg.Driver == logs.Local { // its records hold no attributes: they are the container's
		attrs, err := drivers.Attrs(logInfo(s))
		if err != nil {
			return nil, err
		}
		seq = withAttrs(seq, attrs)
	}
	return &LogReader{TTY: s.Spec.Process.TTY, Records: seq}, nil
}

func withAttrs(seq iter.Seq2[logs.Record, error], attrs map[string]string) iter.Seq2[logs.Record, error] {
	return func(yield func(logs.Record, error) bool) {
		for r, err := range seq {
			r.Attrs = attrs
			if !yield(r, err) {
				return
			}
		}
	}
}

// Dir is the container's own directory, for inspect.
func (m *Manager) Dir(id ID) string { return m.dir(id) }
