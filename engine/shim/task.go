package shim

import (
	"context"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// task is a Task behind a shim's socket; proc a Process.
type task struct {
	client *Client
	g      *group
	id     string
	pid    int
	once   sync.Once
}

var _ Task = (*task)(nil)

func (t *task) call(ctx context.Context, r Request) (*Response, error) {
	r.ID = t.id
	return call(ctx, t.g.sock, r)
}

func (t *task) do(ctx context.Context, r Request) error {
	_, err := t.call(ctx, r)
	return err
}

func (t *task) ID() string { return t.id }
func (t *task) Pid() int   { return t.pid }

func (t *task) State(ctx context.Context) (State, error) {
	r, err := t.call(ctx, Request{Op: OpState})
	if err != nil {
		return State{}, err
	}
	return *r.State, nil
}

func (t *task) Start(ctx context.Context) error { return t.do(ctx, Request{Op: OpStart}) }

func (t *task) Wait(ctx context.Context) (Exit, error) {
	r, err := t.call(ctx, Request{Op: OpWait})
	if err != nil {
		return Exit{}, err
	}
	return *r.Exit, nil
}

func (t *task) Kill(ctx context.Context, sig syscall.Signal) error {
	return t.do(ctx, Request{Op: OpKill, Signal: int(sig)})
}

func (t *task) KillAll(ctx context.Context) error {
	return t.do(ctx, Request{Op: OpKill, Signal: int(syscall.SIGKILL), All: true})
}

func (t *task) Exec(ctx context.Context, execID string, p ExecSpec) (Process, error) {
	if err := t.do(ctx, Request{Op: OpExec, Exec: execID, Process: &p}); err != nil {
		return nil, err
	}
	return &proc{t: t, id: execID}, nil
}

func (t *task) Process(ctx context.Context, execID string) (Process, error) {
	p := &proc{t: t, id: execID}
	_, err := p.State(ctx)
	return p, err
}

func (t *task) Open(ctx context.Context, w Which) (Stream, error) {
	return open(ctx, t.g.sock, Request{Op: OpOpen, ID: t.id, Which: &w})
}

func (t *task) Pause(ctx context.Context) error  { return t.do(ctx, Request{Op: OpPause}) }
func (t *task) Resume(ctx context.Context) error { return t.do(ctx, Request{Op: OpResume}) }

func (t *task) Update(ctx context.Context, r *specs.LinuxResources) error {
	return t.do(ctx, Request{Op: OpUpdate, Resources: r})
}

func (t *task) Resize(ctx context.Context, rows, cols uint16) error {
	return t.do(ctx, Request{Op: OpResize, Rows: rows, Cols: cols})
}

func (t *task) Pids(ctx context.Context) ([]int, error) {
	r, err := t.call(ctx, Request{Op: OpPids})
	if err != nil {
		return nil, err
	}
	return r.Pids, nil
}

func (t *task) Delete(ctx context.Context) (Exit, error) {
	r, err := t.call(ctx, Request{Op: OpDelete})
	if err != nil && !isDialError(err) {
		return Exit{}, err
	}
	t.once.Do(func() { t.client.release(t.g) })
	if r == nil || r.Exit == nil {
		return Exit{}, nil
	}
	return *r.Exit, nil
}

type proc struct {
	t  *task
	id string
}

var _ Process = (*proc)(nil)

func (p *proc) ID() string { return p.id }

func (p *proc) Start(ctx context.Context) (int, error) {
	r, err := p.t.call(ctx, Request{Op: OpStart, Exec: p.id})
	if err != nil {
		return 0, err
	}
	return r.Pid, nil
}

func (p *proc) Wait(ctx context.Context) (Exit, error) {
	r, err := p.t.call(ctx, Request{Op: OpWait, Exec: p.id})
	if err != nil {
		return Exit{}, err
	}
	return *r.Exit, nil
}

func (p *proc) Kill(ctx context.Context, sig syscall.Signal) error {
	return p.t.do(ctx, Request{Op: OpKill, Exec: p.id, Signal: int(sig)})
}

func (p *proc) Resize(ctx context.Context, rows, cols uint16) error {
	return p.t.do(ctx, Request{Op: OpResize, Exec: p.id, Rows: rows, Cols: cols})
}

func (p *proc) Open(ctx context.Context, w Which) (Stream, error) {
	return open(ctx, p.t.g.sock, Request{Op: OpOpen, ID: p.t.id, Exec: p.id, Which: &w})
}

func (p *proc) State(ctx context.Context) (State, error) {
	r, err := p.t.call(ctx, Request{Op: OpState, Exec: p.id})
	if err != nil {
		return State{}, err
	}
	return *r.State, nil
}

func (p *proc) Delete(ctx context.Context) error {
	return p.t.do(ctx, Request{Op: OpDelete, Exec: p.id})
}
