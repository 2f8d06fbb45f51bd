package container

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/signal"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/shim"
)

// parseSignal reads a number or a name, with or without SIG.
func parseSignal(s string) (syscall.Signal, error) {
	sig, err := signal.ParseSignal(s)
	if err != nil {
		return 0, errkind.InvalidArgument("invalid signal: %s", s)
	}
	if !signal.ValidSignalForPlatform(sig) {
		return 0, errkind.InvalidArgument("the linux daemon does not support signal %d", sig)
	}
	return sig, nil
}

// live returns task and run of a container whose process exists.
func (e *entry) live() (shim.Task, *run, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.task, e.mu.run, e.mu.task != nil && e.now.Load().State.Phase.Live()
}

func (m *Manager) requestStop(e *entry) {
	if e.now.Load().State.StopRequested {
		return
	}
	_, err := m.change(e, func(s *Snapshot) error { s.State.StopRequested = true; return nil }, nil)
	if err != nil {
		m.d.Log.Error("recording a stop", "container", e.id, "error", err)
	}
}

// Stop asks a container to end and kills it when the grace is over. Returns when the exit is committed.
//
// Errors: ErrNotFound; ErrNotModified if it does not run; ErrInvalidArgument for an unknown signal.
func (m *Manager) Stop(ctx context.Context, ref string, o StopOptions) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.acquire(ctx); err != nil {
		return err
	}
	finish, err := m.askToEnd(ctx, e, ref, o)
	e.release() // the grace may be long: update, rename and pause need not wait for it
	if err != nil || finish == nil {
		return err
	}
	return finish()
}

func (m *Manager) stopHolding(ctx context.Context, e *entry, ref string, o StopOptions) error {
	finish, err := m.askToEnd(ctx, e, ref, o)
	if err != nil || finish == nil {
		return err
	}
	return finish()
}

// askToEnd sends the stop signal; the caller holds the slot. finish waits for the end and kills after the grace; it needs no slot
// and is nil if there is nothing to wait for.
func (m *Manager) askToEnd(ctx context.Context, e *entry, ref string, o StopOptions) (finish func() error, err error) {
	s := e.now.Load()
	word := s.Spec.Stop.Signal
	if o.Signal != "" {
		word = o.Signal
	}
	if word == "" {
		word = "TERM"
	}
	sig, err := parseSignal(word)
	if err != nil {
		return nil, errkind.Internal("cannot stop container: %s: %v", ref, err)
	}
	m.requestStop(e)
	t, r, ok := e.live()
	if !ok {
		if s.State.Phase == Restarting {
			_, err := m.change(e, func(s *Snapshot) error { s.State.Phase = Exited; return nil }, nil)
			return nil, err
		}
		return nil, errkind.NotModified("container %s is not running", e.id)
	}
	grace := 10
	if s.Spec.Stop.Timeout != nil {
		grace = *s.Spec.Stop.Timeout
	}
	if o.Grace != nil {
		grace = *o.Grace
	}
	m.signal(ctx, e, t, sig)
	var timer <-chan time.Time
	if grace >= 0 {
		timer = time.After(time.Duration(grace) * time.Second)
	}
	return func() error {
		select {
		case <-r.exited:
		case <-timer:
			m.signal(ctx, e, t, syscall.SIGKILL)
			select {
			case <-r.exited:
			case <-time.After(10 * time.Second):
				return fmt.Errorf("container %s does not die", e.id)
			}
		}
		m.publish(e.now.Load(), "stop")
		return nil
	}, nil
}

// signal sends sig and thaws a frozen container, so that it can take it. A process that ended meanwhile is fine.
func (m *Manager) signal(ctx context.Context, e *entry, t shim.Task, sig syscall.Signal) {
	m.publish(e.now.Load(), "kill", "signal", strconv.Itoa(int(sig)))
	_ = t.Kill(ctx, sig) // see above
	if e.now.Load().State.Phase == Paused {
		_ = t.Resume(ctx) // as above
		_, _ = m.change(e, func(s *Snapshot) error {
			p, err := s.State.next(trResume)
			s.State.Phase = p
			return err
		}, nil)
	}
}

// Kill sends a signal; SIGKILL ("" too) waits for the end.
func (m *Manager) Kill(ctx context.Context, ref, word string) error {
	e, err := m.find(ref)
	if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	if word == "" {
		word = "KILL"
	}
	sig, err := parseSignal(word)
	if err != nil {
		return errkind.InvalidArgument("cannot kill container: %s: %w", ref, err)
	}
	t, r, ok := e.live()
	if !ok {
		return errkind.Conflict("cannot kill container: %s: container %s is not running", ref, e.id)
	}
	s := e.now.Load()
	if stop := s.Spec.Stop.Signal; sig == syscall.SIGKILL || stop == "" || strings.TrimPrefix(strings.ToUpper(word), "SIG") == strings.TrimPrefix(stop, "SIG") {
		m.requestStop(e)
	}
	ctx = context.WithoutCancel(ctx)
	m.signal(ctx, e, t, sig)
	if sig == syscall.SIGKILL {
		select {
		case <-r.exited:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("cannot kill container: %s: it does not die", ref)
		}
	}
	return nil
}

// Restart stops a container if it runs and starts it.
func (m *Manager) Restart(ctx context.Context, ref string, o StopOptions) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	if _, _, ok := e.live(); ok {
		if err := m.stopHolding(ctx, e, ref, o); err != nil {
			return err
		}
	}
	if err := m.startHolding(ctx, e, true); err != nil {
		return err
	}
	m.publish(e.now.Load(), "restart")
	return nil
}

// Pause freezes a container.
func (m *Manager) Pause(ctx context.Context, ref string) error {
	return m.freeze(ctx, ref, trPause, "pause", shim.Task.Pause)
}

// Unpause thaws it.
func (m *Manager) Unpause(ctx context.Context, ref string) error {
	return m.freeze(ctx, ref, trResume, "unpause", shim.Task.Resume)
}

func (m *Manager) freeze(ctx context.Context, ref string, tr trigger, action string, f func(shim.Task, context.Context) error) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	t, _, ok := e.live()
	paused := e.now.Load().State.Phase == Paused
	switch {
	case tr == trResume && !paused:
		return errkind.Internal("Container %s is not paused", e.id)
	case !ok:
		return errkind.Conflict("container %s is not running", e.id)
	case tr == trPause && paused:
		return errkind.Conflict("container %s is already paused", e.id)
	}
	if err := f(t, ctx); err != nil {
		return err
	}
	s, err := m.change(e, func(s *Snapshot) error {
		p, err := s.State.next(tr)
		s.State.Phase = p
		if tr == trPause {
			s.State.Health = unwatched(s.State.Health)
		}
		return err
	}, nil)
	if err == nil {
		m.publish(s, action)
	}
	return err
}

// Resize sets the terminal's size in character cells.
func (m *Manager) Resize(ctx context.Context, ref string, rows, cols uint16) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	t, _, ok := e.live()
	if !ok {
		return errkind.Conflict("container %s is not running", e.id)
	}
	if err := t.Resize(ctx, rows, cols); err != nil {
		return err
	}
	m.publish(e.now.Load(), "resize", "height", strconv.Itoa(int(rows)), "width", strconv.Itoa(int(cols)))
	return nil
}

// Remove deletes a container. When it returns the name is free and nothing is left on the host.
//
// Errors: ErrConflict while it runs, unless forced, and while another removal is under way.
func (m *Manager) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	if o.Link {
		return errkind.Internal("Conflict, cannot remove the default link name of the container")
	}
	ctx = context.WithoutCancel(ctx)
	s := e.now.Load()
	if s.State.Phase == Removing {
		return errkind.Conflict("removal of container %s is already in progress", ref)
	}
	if !o.Force {
		switch s.State.Phase {
		case Paused:
			return errkind.Conflict("cannot remove container %q: container is paused and must be unpaused first", s.Name)
		case Running, Starting, Restarting:
			return errkind.Conflict("cannot remove container %q: container is running: stop the container before removing or force remove", s.Name)
		}
	}
	if t, r, ok := e.live(); ok {
		m.requestStop(e)
		m.signal(ctx, e, t, syscall.SIGKILL)
		select {
		case <-r.exited:
		case <-time.After(10 * time.Second):
			return errkind.Conflict("cannot remove container %q: could not kill: it does not die", s.Name)
		}
	}
	return m.remove(ctx, e, o)
}

func (m *Manager) remove(ctx context.Context, e *entry, o RemoveOptions) error {
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	e.mu.Lock()
	last := e.mu.run
	e.mu.Unlock()
	if last != nil {
		<-last.clean // bounded: clean-up has deadlines of its own
	}
	m.mu.Lock()
	gone := m.mu.byID[e.id] == nil
	m.mu.Unlock()
	if gone {
		return nil // an auto-removal was faster
	}
	if _, err := m.change(e, func(s *Snapshot) error {
		p, err := s.State.next(trRemove)
		s.State.Phase, s.State.RemoveVolumes = p, o.Volumes
		return err
	}, nil); err != nil {
		return err
	}
	return m.finishRemoval(ctx, e)
}

// finishRemoval undoes what a container in phase Removing has on the host, then deletes its row. Also Recover's.
func (m *Manager) finishRemoval(ctx context.Context, e *entry) error {
	fsx.Step("remove.row")
	m.shipRest(e)
	s := e.now.Load()
	err := errors.Join(
		m.removeBundle(e),
		m.d.Images.RemoveRootfs(ctx, string(e.id)),
		fsx.RemoveAll("container.remove", m.dir(e.id)),
	)
	if err != nil {
		_, cerr := m.change(e, func(s *Snapshot) error {
			p, nerr := s.State.next(trRemoveFailed)
			s.State.Phase, s.State.Error = p, err.Error()
			return nerr
		}, nil)
		return errors.Join(fmt.Errorf("container %s: %w", e.id, err), cerr)
	}
	// Before the row: a crash in between finds it again.
	if s.State.RemoveVolumes {
		for _, p := range s.Spec.Storage.Points {
			if p.Anonymous {
				if err := m.d.Volumes.Remove(ctx, p.Name, true); err != nil {
					m.d.Log.Warn("removing a volume with its container", "volume", p.Name, "error", err)
				}
			}
		}
	}
	fsx.Step("remove.effects")
	err = m.d.DB.Update(func(tx *store.Tx) error {
		return errors.Join(tx.Delete(store.Containers, string(e.id)), tx.Delete(store.Names, s.Name), m.d.Networks.Forget(tx, string(e.id)))
	})
	if err != nil {
		return err
	}
	fsx.Step("remove.deleted")
	m.mu.Lock()
	delete(m.mu.byID, e.id)
	delete(m.mu.names, s.Name)
	for id, x := range m.mu.execs {
		if x.entry == e {
			delete(m.mu.execs, id)
		}
	}
	m.relist()
	m.mu.Unlock()
	m.publish(s, "destroy")
	e.tell(s, true)
	return nil
}
