package container

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network"
	"github.com/berthd/berth/engine/shim"
)

// Start runs a container. Returns when its process runs and its network is up.
//
// Errors: ErrNotModified if it runs; ErrConflict if it is paused or being removed; *shim.StartError if the process could not
// be executed: nothing of the attempt is left then, and an AutoRemove container is gone.
func (m *Manager) Start(ctx context.Context, ref string) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	if err := e.acquire(ctx); err != nil {
		return err
	}
	err = m.startHolding(context.WithoutCancel(ctx), e, true)
	e.release()
	if err == nil || !e.now.Load().Spec.AutoRemove {
		return err
	}
	var se *shim.StartError
	if errors.As(err, &se) || e.now.Load().State.ErrorCode != 0 {
		_ = m.remove(context.WithoutCancel(ctx), e, RemoveOptions{Volumes: true}) // what remains is tried again by Recover
	}
	return err
}

// startHolding does the work; the caller holds the slot.
func (m *Manager) startHolding(ctx context.Context, e *entry, byUser bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("starting took more than two minutes"))
	defer cancel()
	switch e.now.Load().State.Phase {
	case Running, Starting:
		return errkind.NotModified("container %s is running", e.id)
	case Paused:
		return errkind.Conflict("cannot start a paused container, try unpause instead")
	case Removing, Dead:
		return errkind.Conflict("container is marked for removal and cannot be started")
	}
	e.mu.Lock()
	last := e.mu.run
	e.mu.Unlock()
	if last != nil {
		<-last.clean // bounded: clean-up has deadlines of its own
	}
	in, err := m.intent(e.now.Load().Spec)
	if err != nil {
		return err
	}
	draw := network.NewDraw(in)
	s, err := m.change(e, func(s *Snapshot) error {
		p, err := s.State.next(trStart)
		if err != nil {
			return err
		}
		s.State.Before, s.State.Phase = s.State.Phase, p
		s.State.Error, s.State.ErrorCode = "", 0
		if byUser {
			s.State.StopRequested, s.State.RestartCount = false, 0
		}
		return nil
	}, func(tx *store.Tx, s *Snapshot) error {
		eps, err := m.d.Networks.Plan(tx, string(e.id), s.Name, in, draw)
		s.Endpoints = eps
		s.Spec = found(s.Spec, eps)
		return setup(err)
	})
	if err != nil {
		m.note(e, err)
		return err
	}
	fsx.Step("start.row")
	task, err := m.launch(ctx, e, s)
	if err != nil {
		m.failed(ctx, e, s, err)
		return err
	}
	fsx.Step("start.started")
	r := &run{exited: make(chan struct{}), clean: make(chan struct{})}
	s, err = m.change(e, func(s *Snapshot) error {
		p, err := s.State.next(trStarted)
		s.State.Phase, s.State.Pid, s.State.StartedAt = p, task.Pid(), time.Now().UTC()
		m.sandbox(s)
		s.State.Exit, s.State.Health = nil, freshHealth(s)
		return err
	}, nil)
	if err != nil {
		_ = task.KillAll(ctx) // the row could not be written: the task must not stay unknown
		m.failed(ctx, e, e.now.Load(), err)
		return err
	}
	e.mu.Lock()
	e.mu.task, e.mu.run = task, r
	if byUser {
		e.mu.backoff = 0
	}
	e.mu.Unlock()
	fsx.Step("start.running")
	m.publishJoined(s)
	m.publish(s, "start")
	m.refreshLinks(s)
	m.follow(e, task, r)
	return nil
}

// follow gives a life its watcher and, if it has a probe, its monitor.
func (m *Manager) follow(e *entry, t shim.Task, r *run) {
	m.wg.Add(1)
	go m.watch(e, t, r)
	m.ship(e, r)
	if probeArgv(e.now.Load().Spec) != nil {
		m.wg.Add(1)
		go m.monitor(e, t, r)
	}
}

// launch makes every effect of a start; after an error failed undoes them.
func (m *Manager) launch(ctx context.Context, e *entry, s *Snapshot) (shim.Task, error) {
	type netResult struct {
		sb  *network.Sandbox
		err error
	}
	join, err := m.resolveJoins(s)
	if err != nil {
		return nil, err
	}
	nets := make(chan netResult, 1)
	go func() {
		if join.netNS != "" {
			nets <- netResult{&network.Sandbox{ContainerID: string(e.id), Path: join.netNS}, nil}
			return
		}
		sb, err := m.d.Networks.Apply(ctx, string(e.id), s.Endpoints)
		nets <- netResult{sb, setup(err)}
	}()
	bundle := m.d.Runtime.BundleDir(string(e.id))
	rootfs := filepath.Join(bundle, "rootfs")
	files, err := func() ([]File, error) {
		if err := m.mountRootfs(ctx, e, rootfs); err != nil {
			return nil, err
		}
		_ = os.Remove(filepath.Join(bundle, "exit.json")) // of an earlier life
		if join.shm == m.shmDir(e.id) {
			if err := mountShm(join.shm, s.Spec.Storage.ShmSize); err != nil {
				return nil, err
			}
		}
		return m.files(s, join)
	}()
	n := <-nets
	fsx.Step("start.effects")
	if err = errors.Join(err, n.err); err != nil {
		return nil, err
	}
	if err := m.mountVolumes(ctx, s); err != nil {
		return nil, err
	}
	points, err := m.resolvePoints(ctx, s, bundle)
	if err != nil {
		return nil, err
	}
	spec, err := m.d.Specs.Build(SpecInput{C: s, Rootfs: rootfs, NetNS: n.sb.Path, PIDNS: join.pidNS, IPCNS: join.ipcNS, Shm: join.shm, Files: files, Points: points, Env: linkEnv(s.Name, join.links)})
	if err != nil {
		// Whatever is wrong in a container's own words, it is not wrong with the request to start it.
		return nil, errkind.Internal("%s", err)
	}
	rt := m.d.Defaults.Runtimes[s.Spec.Runtime]
	if rt.Path != "" {
		spec.Version = shim.RuntimeSpecVersion
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), raw, 0o600); err != nil {
		return nil, err
	}
	fsx.Step("start.bundle")
	p := s.Spec.Process
	stdio := shim.IO{TTY: p.TTY, Stdin: p.OpenStdin, StdinOnce: p.StdinOnce}
	if err := m.logIO(s, &stdio); err != nil {
		return nil, err
	}
	task, err := m.d.Runtime.Launch(ctx, shim.Bundle{ID: string(e.id), Dir: bundle, Runtime: rt, IO: stdio})
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	pending := e.mu.pending
	e.mu.pending = nil
	e.mu.Unlock()
	for _, l := range pending {
		l.connect(ctx, task)
	}
	fsx.Step("start.created")
	if err := task.Start(ctx); err != nil {
		_, derr := task.Delete(ctx)
		return nil, errors.Join(err, derr)
	}
	return task, nil
}

// failed undoes a start and records why it failed.
func (m *Manager) failed(ctx context.Context, e *entry, s *Snapshot, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if t, err := m.d.Runtime.Reattach(ctx, string(e.id)); err == nil {
		_, _ = t.Delete(ctx) // RemoveBundle below tells
	} else if errdefs.IsNotFound(err) {
		_ = m.d.Runtime.Bury(ctx, string(e.id)) // as above
	}
	err := errors.Join(m.d.Networks.Release(ctx, string(e.id), s.Endpoints), m.removeBundle(e), m.unmountVolumes(ctx, s))
	if err != nil {
		m.d.Log.Warn("undoing a failed start", "container", e.id, "error", err)
	}
	m.publishLeft(s)
	e.mu.Lock()
	for _, p := range e.mu.pending {
		p.fail()
	}
	e.mu.pending = nil
	e.mu.Unlock()
	_, err = m.change(e, func(s *Snapshot) error {
		p, err := s.State.next(trStartFailed)
		s.State.Phase, s.Endpoints, s.State.Pid = p, nil, 0
		s.State.Error, s.State.ErrorCode = cause.Error(), failureCode(cause)
		return err
	}, func(tx *store.Tx, _ *Snapshot) error { return m.d.Networks.Forget(tx, string(e.id)) })
	if err != nil {
		m.d.Log.Error("recording a failed start", "container", e.id, "error", err)
	}
}

// note records why a start did not even begin.
func (m *Manager) note(e *entry, cause error) {
	_, err := m.change(e, func(s *Snapshot) error {
		s.State.Error, s.State.ErrorCode = cause.Error(), failureCode(cause)
		return nil
	}, nil)
	if err != nil {
		m.d.Log.Error("recording a failed start", "container", e.id, "error", err)
	}
}

func failureCode(err error) int {
	var se *shim.StartError
	if errors.As(err, &se) {
		switch se.Cause {
		case shim.CauseNotFound:
			return 127
		case shim.CauseNotExecutable:
			return 126
		}
	}
	return 128
}

func (m *Manager) dir(id ID) string { return filepath.Join(m.d.Root, string(id)) }

// watch waits for the end of one life and carries it through.
func (m *Manager) watch(e *entry, t shim.Task, r *run) {
	defer m.wg.Done()
	for {
		exit, err := t.Wait(m.life)
		if m.life.Err() != nil {
			return // the daemon goes, the container stays
		}
		if err == nil {
			m.ended(e, t, r, exit)
			return
		}
		// Silent is not dead: only a shim that is gone ends its containers.
		if _, rerr := m.d.Runtime.Reattach(m.life, string(e.id)); errdefs.IsNotFound(rerr) {
			m.d.Log.Error("the shim of a container is gone", "container", e.id, "error", err)
			m.ended(e, t, r, m.orphaned(e.id))
			return
		}
		select {
		case <-m.life.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// orphaned ends the processes of a container whose shim is gone and tells how it ended, as far as anybody saw it.
func (m *Manager) orphaned(id ID) shim.Exit {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.life), 10*time.Second)
	defer cancel()
	if err := m.d.Runtime.Bury(ctx, string(id)); err != nil {
		m.d.Log.Error("ending a container without a shim", "container", id, "error", err)
	}
	if rec, ok, _ := m.d.Runtime.ReadExit(string(id)); ok {
		return rec
	}
	return shim.Exit{Code: 255, At: time.Now().UTC()}
}

// ended records an exit, undoes the effects, and does what the policies say.
func (m *Manager) ended(e *entry, t shim.Task, r *run, exit shim.Exit) {
	fsx.Step("exit.seen")
	before := e.now.Load()
	ran := exit.At.Sub(before.State.StartedAt)
	e.mu.Lock()
	if ran >= 10*time.Second {
		e.mu.backoff = 0
	}
	again, delay := decide(before.Spec.Restart, exit, &before.State, e.mu.backoff)
	if again = again && !r.past; again {
		e.mu.backoff++
	}
	e.mu.Unlock()
	s, err := m.change(e, func(s *Snapshot) error {
		tr := trExit
		if again {
			tr = trExitRestart
			s.State.RestartCount++
		}
		p, err := s.State.next(tr)
		s.State.Phase, s.State.Pid, s.State.Exit, s.State.FinishedAt = p, 0, &exit, exit.At
		s.State.SandboxID, s.State.SandboxKey, s.Endpoints = "", "", nil
		s.State.Health = unwatched(s.State.Health)
		return err
	}, func(tx *store.Tx, _ *Snapshot) error { return m.d.Networks.Forget(tx, string(e.id)) })
	if err != nil {
		m.d.Log.Error("recording an exit", "container", e.id, "error", err)
		s = e.now.Load()
	}
	fsx.Step("exit.row")
	m.publishLeft(before)
	m.publish(s, "die", "exitCode", strconv.Itoa(exit.Code), "execDuration", strconv.Itoa(int(ran.Seconds())))
	m.dropExecs(e)
	close(r.exited)
	if !s.Spec.AutoRemove {
		e.tell(s, false)
	}
	m.undo(e, t, before)
	close(r.clean)
	switch {
	case s.Spec.AutoRemove:
		e.tell(s, false)
		ctx := context.WithoutCancel(m.life)
		if err := m.remove(ctx, e, RemoveOptions{Volumes: true}); err != nil {
			m.d.Log.Warn("removing after the exit", "container", e.id, "error", err)
		}
	case again:
		m.wg.Add(1)
		go m.again(e, delay)
	}
}

// undo takes back what a start did. It is idempotent and has its own deadline.
func (m *Manager) undo(e *entry, t shim.Task, before *Snapshot) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.life), 15*time.Second)
	defer cancel()
	var errs []error
	if t != nil {
		_, err := t.Delete(ctx)
		errs = append(errs, err)
	}
	errs = append(errs, m.d.Networks.Release(ctx, string(e.id), before.Endpoints), m.removeBundle(e), m.unmountVolumes(ctx, before))
	fsx.Step("exit.undone")
	if err := errors.Join(errs...); err != nil {
		m.d.Log.Warn("cleaning up after an exit", "container", e.id, "error", err)
	}
	e.mu.Lock()
	e.mu.task = nil
	e.mu.Unlock()
}
