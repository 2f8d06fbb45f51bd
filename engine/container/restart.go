package container

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/engine/shim"
)

// decide says whether the engine starts a container again after an exit, and when: 100 ms later, doubling with every time in
// a row to a minute. Only the delay is reset by a long run; the number of retries counts from the last start by a user.
func decide(p RestartPolicy, exit shim.Exit, st *State, inARow int) (bool, time.Duration) {
	if st.StopRequested {
		return false, 0
	}
	delay := min(time.Minute, 100*time.Millisecond<<min(inARow, 10))
	switch p.Name {
	case "always", "unless-stopped":
		return true, delay
	case "on-failure":
		return exit.Code != 0 && (p.MaxRetries == 0 || st.RestartCount < p.MaxRetries), delay
	}
	return false, 0
}

// wantedAtBoot says whether a container that does not run is started when the daemon starts. What a user has stopped stays so
// under unless-stopped alone.
func wantedAtBoot(s *Snapshot) bool {
	p := s.Spec.Restart
	switch {
	case s.State.Phase == Restarting:
		return !s.State.StopRequested
	case s.State.Phase != Exited:
		return false
	}
	switch p.Name {
	case "always":
		return true
	case "unless-stopped":
		return !s.State.StopRequested
	case "on-failure":
		return s.State.ExitCode() != 0 && (p.MaxRetries == 0 || s.State.RestartCount < p.MaxRetries)
	}
	return false
}

func (m *Manager) again(e *entry, delay time.Duration) {
	defer m.wg.Done()
	select {
	case <-m.life.Done():
		return
	case <-time.After(delay):
	}
	if e.acquire(m.life) != nil {
		return
	}
	defer e.release()
	s := e.now.Load()
	if s.State.Phase != Restarting {
		return
	}
	if s.State.StopRequested {
		_, _ = m.change(e, func(s *Snapshot) error { s.State.Phase = Exited; return nil }, nil) // nothing more to do
		return
	}
	if err := m.startHolding(context.WithoutCancel(m.life), e, false); err != nil {
		m.d.Log.Warn("restarting by policy", "container", e.id, "error", err)
	}
}

// boot starts the containers that their policies want at the daemon's start: one that shares a namespace or links to another comes
// after that.
func (m *Manager) boot(wanted []*entry) {
	defer m.wg.Done()
	pending := map[ID]*entry{}
	for _, e := range wanted {
		pending[e.id] = e
	}
	for len(pending) > 0 && m.life.Err() == nil {
		var now []*entry
		for _, e := range pending {
			if !m.waitsFor(e.now.Load(), pending) {
				now = append(now, e)
			}
		}
		if len(now) == 0 { // a ring: the start says what is wrong
			for _, e := range pending {
				now = append(now, e)
			}
		}
		var wg sync.WaitGroup
		for _, e := range now {
			delete(pending, e.id)
			wg.Go(func() { m.bootOne(e) })
		}
		wg.Wait()
	}
}

func (m *Manager) bootOne(e *entry) {
	if e.acquire(m.life) != nil {
		return
	}
	defer e.release()
	if !wantedAtBoot(e.now.Load()) {
		return // a user was faster
	}
	// As if a user started it: what was before this daemon counts no more.
	if err := m.startHolding(context.WithoutCancel(m.life), e, true); err != nil {
		m.d.Log.Warn("starting by policy", "container", e.id, "error", err)
	}
}

// waitsFor reports whether a container needs one of others to run first.
func (m *Manager) waitsFor(s *Snapshot, others map[ID]*entry) bool {
	for _, mode := range []string{s.Spec.Network.Mode, s.Spec.Namespaces.IPC, s.Spec.Namespaces.PID} {
		if ref, ok := strings.CutPrefix(mode, joinPrefix); ok {
			if d, err := m.Get(ref); err == nil && others[d.ID] != nil && d.ID != s.ID {
				return true
			}
		}
	}
	for _, l := range s.Spec.Network.Linked {
		if others[l.Container] != nil && l.Container != s.ID {
			return true
		}
	}
	return false
}
