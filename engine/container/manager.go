package container

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/rootdir"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/shim"
)

// Manager is the only writer of container rows. Safe for concurrent use.
type Manager struct {
	d     Deps
	life  context.Context // ends with the daemon; tasks stay
	leave context.CancelFunc
	wg    sync.WaitGroup
	list  atomic.Pointer[[]*entry] // newest first; immutable

	pruning atomic.Bool

	mu struct {
		sync.Mutex
		byID  map[ID]*entry
		names map[string]ID // reserved names, rows or not
		execs map[string]*execution
	}
}

// entry is one container.
type entry struct {
	id   ID
	slot chan struct{} // holds one token while a lifecycle operation runs
	fs   chan struct{} // holds one token while the root file system is mounted or unmounted, and guards views
	now  atomic.Pointer[Snapshot]

	views []*rootdir.View // open ones

	shipping chan struct{} // holds one token while a forwarder sends the log
	gone     chan struct{} // closed when the container is being removed and its log goes

	mu struct {
		sync.Mutex // decide, commit, swap, publish; never held over anything slow
		waiters    []*waiter
		pending    []*lateStream
		task       shim.Task
		run        *run
		backoff    int // restarts in a row
	}
}

func newEntry(id ID) *entry {
	return &entry{id: id, slot: make(chan struct{}, 1), fs: make(chan struct{}, 1), shipping: make(chan struct{}, 1), gone: make(chan struct{})}
}

// run is one life of a container's process.
type run struct {
	exited chan struct{} // the exit is committed
	clean  chan struct{} // its effects are undone
	past   bool          // it ended before this daemon: boot decides what policies want
}

type waiter struct {
	cond WaitCondition
	ch   chan WaitResult
}

// record is the JSON form of a row.
type record struct {
	V int
	Snapshot
}

// New makes a Manager; Recover must be called before anything else.
func New(d Deps) (*Manager, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	m := &Manager{d: d}
	m.life, m.leave = context.WithCancel(context.Background()) //nolint:forbidigo // the life of the daemon itself
	m.mu.byID, m.mu.names, m.mu.execs = map[ID]*entry{}, map[string]ID{}, map[string]*execution{}
	m.list.Store(&[]*entry{})
	return m, nil
}

// Close leaves every container running and waits for this process's own goroutines.
func (m *Manager) Close() {
	m.leave()
	m.wg.Wait()
}

// List returns all containers, newest first. Takes no lock.
func (m *Manager) List() []*Snapshot {
	all := *m.list.Load()
	out := make([]*Snapshot, len(all))
	for i, e := range all {
		out[i] = e.now.Load()
	}
	return out
}

// Get finds a container by full id, name (with or without slash) or unique id prefix.
//
// Errors: ErrNotFound "No such container: x"; ErrInvalidArgument for an ambiguous prefix.
func (m *Manager) Get(ref string) (*Snapshot, error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	return e.now.Load(), nil
}

func (m *Manager) find(ref string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.mu.byID[ID(ref)]; e != nil {
		return e, nil
	}
	if e := m.mu.byID[m.mu.names[strings.TrimPrefix(ref, "/")]]; e != nil {
		return e, nil
	}
	var found *entry
	if ids.IsHex(ref) {
		for id, e := range m.mu.byID {
			if strings.HasPrefix(string(id), ref) {
				if found != nil {
					return nil, errkind.InvalidArgument("multiple IDs found with provided prefix: %s", ref)
				}
				found = e
			}
		}
	}
	if found == nil {
		return nil, errkind.NotFound("No such container: %s", ref)
	}
	return found, nil
}

// relist rebuilds the sorted list; the caller holds m.mu.
func (m *Manager) relist() {
	all := make([]*entry, 0, len(m.mu.byID))
	for _, e := range m.mu.byID {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int {
		x, y := a.now.Load(), b.now.Load()
		if c := y.Created.Compare(x.Created); c != 0 {
			return c
		}
		return strings.Compare(string(x.ID), string(y.ID))
	})
	m.list.Store(&all)
}

// acquire takes the operation slot.
func (e *entry) acquire(ctx context.Context) error {
	select {
	case e.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *entry) release() { <-e.slot }

// change is one transition: f edits a copy of the snapshot, more adds to the transaction. The new snapshot is visible when
// change returns, and on disk.
func (m *Manager) change(e *entry, f func(*Snapshot) error, more func(*store.Tx, *Snapshot) error) (*Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return m.changeLocked(e, f, more)
}

func (m *Manager) changeLocked(e *entry, f func(*Snapshot) error, more func(*store.Tx, *Snapshot) error) (*Snapshot, error) {
	next := *e.now.Load()
	if err := f(&next); err != nil {
		return nil, err
	}
	err := m.d.DB.Update(func(tx *store.Tx) error {
		if more != nil {
			if err := more(tx, &next); err != nil {
				return err
			}
		}
		return tx.Put(store.Containers, string(e.id), record{1, next})
	})
	if err != nil {
		return nil, err
	}
	e.now.Store(&next)
	return &next, nil
}

// publish tells the world what happened to a container.
func (m *Manager) publish(s *Snapshot, action string, extra ...string) {
	attrs := make(map[string]string, len(s.Spec.Labels)+4)
	for k, v := range s.Spec.Labels {
		attrs[k] = v
	}
	attrs["image"], attrs["name"] = s.Spec.Image.Ref, s.Name
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	m.d.Events.Publish(event.Event{Type: event.Container, Action: action, ID: string(s.ID), Attributes: attrs, Time: time.Now().UTC()})
}

// Wait registers a waiter; it is registered when Wait returns. The channel delivers once, or never if ctx ends first.
func (m *Manager) Wait(ctx context.Context, ref string, c WaitCondition) (<-chan WaitResult, error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	w := &waiter{c, make(chan WaitResult, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.now.Load()
	if c == WaitNotRunning && !s.State.Phase.Live() && s.State.Phase != Starting && s.State.Phase != Restarting {
		w.ch <- WaitResult{Code: s.State.ExitCode()}
		return w.ch, nil
	}
	e.mu.waiters = append(e.mu.waiters, w)
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.mu.waiters = slices.DeleteFunc(e.mu.waiters, func(o *waiter) bool { return o == w })
	})
	return w.ch, nil
}

// tell answers waiters; removed tells whether the container is gone, which ends every wait.
func (e *entry) tell(s *Snapshot, removed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := WaitResult{Code: s.State.ExitCode()}
	e.mu.waiters = slices.DeleteFunc(e.mu.waiters, func(w *waiter) bool {
		if w.cond == WaitRemoved && !removed {
			return false
		}
		w.ch <- r
		return true
	})
	if removed {
		for _, p := range e.mu.pending {
			p.fail()
		}
		e.mu.pending = nil
	}
}

// Rename gives a container another name.
func (m *Manager) Rename(ctx context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if ref == "" || name == "" {
		return errkind.InvalidArgument("Neither old nor new names may be empty")
	}
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	if err := checkName(name); err != nil {
		err = errkind.InvalidArgument("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", "/"+name)
		return fmt.Errorf("Error when allocating new name: %w", err) //nolint:staticcheck // clients match the text
	}
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	old := e.now.Load().Name
	if old == name {
		return errkind.InvalidArgument("Renaming a container with the same name as its current name")
	}
	if err := m.reserve(name, e.id); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err) //nolint:staticcheck // clients match the text
	}
	s, err := m.change(e, func(s *Snapshot) error { s.Name = name; return nil }, func(tx *store.Tx, s *Snapshot) error {
		var err error
		if s.Endpoints, err = m.d.Networks.Rename(tx, string(e.id), name, s.Endpoints); err != nil {
			return err
		}
		s.Spec = found(s.Spec, s.Endpoints)
		if err := tx.Delete(store.Names, old); err != nil {
			return err
		}
		return tx.Put(store.Names, name, e.id)
	})
	if err != nil {
		m.free(name)
		return err
	}
	m.free(old)
	if len(s.Endpoints) > 0 {
		m.d.Networks.Renamed(string(e.id), s.Endpoints)
	}
	m.publish(s, "rename", "oldName", "/"+old)
	return nil
}

func (m *Manager) reserve(name string, id ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if by, taken := m.mu.names[name]; taken {
		return errkind.Conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, by)
	}
	m.mu.names[name] = id
	return nil
}

func (m *Manager) free(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.names, name)
}
