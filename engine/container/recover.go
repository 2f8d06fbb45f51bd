package container

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/shim"
)

// Recover brings rows and host together after any kind of end of the daemon before this one. Once, before any listener opens.
//
// sameBoot tells whether the host still runs as it did: otherwise nothing that was live is.
func (m *Manager) Recover(ctx context.Context, sameBoot bool) error {
	err := m.d.DB.View(func(tx *store.Tx) error {
		return tx.Scan(store.Containers, "", func(_ string, decode func(any) error) error {
			var r record
			if err := decode(&r); err != nil {
				return err
			}
			e := newEntry(r.ID)
			e.now.Store(&r.Snapshot)
			m.mu.byID[r.ID], m.mu.names[r.Name] = e, r.ID
			return nil
		})
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.relist()
	m.mu.Unlock()
	var wg sync.WaitGroup
	sem := make(chan struct{}, 16)
	var again []*entry
	var mu sync.Mutex
	for _, e := range *m.list.Load() {
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			if m.recoverOne(ctx, e, sameBoot) {
				mu.Lock()
				again = append(again, e)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	live := func(id string) bool {
		m.mu.Lock()
		e := m.mu.byID[ID(id)]
		m.mu.Unlock()
		return e != nil && (e.now.Load().State.Phase.Live() || e.now.Load().State.Phase == Starting)
	}
	err = errors.Join(m.d.Runtime.Sweep(ctx, live), m.d.Networks.Reconcile(ctx, live), m.sweepRootfs(ctx))
	if len(again) > 0 {
		m.wg.Add(1)
		go m.boot(again)
	}
	return err
}

// sweepRootfs removes leases and snapshots that no row owns: a crash between their making and the row's.
func (m *Manager) sweepRootfs(ctx context.Context) error {
	all, err := m.d.Images.RootfsIDs(ctx)
	for _, id := range all {
		m.mu.Lock()
		known := m.mu.byID[ID(id)] != nil
		m.mu.Unlock()
		if !known {
			err = errors.Join(err, m.d.Images.RemoveRootfs(ctx, id))
		}
	}
	return err
}

// recoverOne decides what a row means now, and whether its policy wants it started.
func (m *Manager) recoverOne(ctx context.Context, e *entry, sameBoot bool) bool {
	s := e.now.Load()
	switch s.State.Phase {
	case Removing, Dead:
		if err := m.finishRemoval(ctx, e); err != nil {
			m.d.Log.Warn("removal is tried again at the next start", "container", e.id, "error", err)
		}
		return false
	case Restarting:
		return wantedAtBoot(s)
	case Created, Exited:
		ended := make(chan struct{})
		close(ended)
		m.ship(e, &run{exited: ended}) // what no forwarder came to send
		return wantedAtBoot(s)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if sameBoot {
		t, err := m.d.Runtime.Reattach(ctx, string(e.id))
		if err == nil {
			return m.adopt(ctx, e, t)
		}
		if !errdefs.IsNotFound(err) {
			m.d.Log.Warn("a shim does not answer; its container is left alone", "container", e.id, "error", err)
			_ = m.holdVolumes(ctx, s) // it may use them
			return false
		}
	}
	if s.State.Phase == Starting {
		m.failed(ctx, e, s, errors.New("the engine ended while the container was being started"))
		return false
	}
	if !sameBoot {
		return m.finish(e, nil, shim.Exit{Code: 255, At: time.Now().UTC()})
	}
	return m.finish(e, nil, m.orphaned(e.id))
}

// adopt takes over a task that an earlier daemon launched.
func (m *Manager) adopt(ctx context.Context, e *entry, t shim.Task) bool {
	st, err := t.State(ctx)
	if err != nil {
		m.d.Log.Warn("a shim does not answer; its container is left alone", "container", e.id, "error", err)
		return false
	}
	s := e.now.Load()
	if err := m.holdVolumes(ctx, s); err != nil {
		m.d.Log.Error("noting a container's volumes", "container", e.id, "error", err)
	}
	if st.Status == shim.StatusCreated {
		m.failed(ctx, e, s, errors.New("the engine ended while the container was being started"))
		return false
	}
	if s.State.Phase == Starting {
		if _, err := m.change(e, func(s *Snapshot) error {
			p, err := s.State.next(trStarted)
			s.State.Phase, s.State.Pid, s.State.StartedAt = p, st.Pid, time.Now().UTC()
			m.sandbox(s)
			return err
		}, nil); err != nil {
			m.d.Log.Error("adopting a container", "container", e.id, "error", err)
			return false
		}
		m.publish(e.now.Load(), "start")
	}
	if st.Status == shim.StatusStopped {
		return m.finish(e, t, *st.Exit)
	}
	r := &run{exited: make(chan struct{}), clean: make(chan struct{})}
	e.mu.Lock()
	e.mu.task, e.mu.run = t, r
	e.mu.Unlock()
	m.follow(e, t, r)
	return false
}

// finish carries through an exit that happened while no daemon ran, and says whether the policy wants the container started.
func (m *Manager) finish(e *entry, t shim.Task, exit shim.Exit) bool {
	r := &run{exited: make(chan struct{}), clean: make(chan struct{}), past: true}
	e.mu.Lock()
	e.mu.run = r
	e.mu.Unlock()
	m.ship(e, r)
	m.ended(e, t, r, exit)
	return wantedAtBoot(e.now.Load())
}

// Shutdown stops every container with its grace, all at once: what dockerd does when it ends without live-restore.
func (m *Manager) Shutdown(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range m.List() {
		if !s.State.Phase.Live() {
			continue
		}
		wg.Go(func() {
			e, err := m.find(string(s.ID))
			if err != nil {
				return
			}
			requested := s.State.StopRequested
			if err := m.Stop(ctx, string(s.ID), StopOptions{}); err != nil && !errdefs.IsNotModified(err) {
				m.d.Log.Warn("stopping at shutdown", "container", s.ID, "error", err)
			}
			e.mu.Lock()
			r := e.mu.run
			e.mu.Unlock()
			if r != nil {
				<-r.clean // bounded: clean-up has deadlines of its own
			}
			if !requested { // the engine stopped it, not a user: policies still hold
				_, _ = m.change(e, func(s *Snapshot) error { s.State.StopRequested = false; return nil }, nil)
			}
		})
	}
	wg.Wait()
}
