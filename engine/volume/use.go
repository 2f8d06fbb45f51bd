package volume

import (
	"context"
	"slices"
	"time"

	"github.com/berthd/berth/engine/event"
)

// place is what this process knows of a volume. A token in busy lets one at a time mount or unmount; users is guarded by it.
type place struct {
	busy  chan struct{}
	users map[string]int // by container: one may use a volume at several places
}

func (m *Manager) place(name string) *place {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.mu.places[name]
	if p == nil {
		p = &place{make(chan struct{}, 1), map[string]int{}}
		m.mu.places[name] = p
	}
	return p
}

func (p *place) acquire(ctx context.Context) error {
	select {
	case p.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *place) release() { <-p.busy }

// Mount makes a volume ready for a container that starts: the first user of one that has a file system of its own mounts it.
// It is undone by Unmount.
func (m *Manager) Mount(ctx context.Context, name, container string) error {
	v, err := m.Get(name)
	if err != nil {
		return err
	}
	p := m.place(name)
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer p.release()
	if v.mounts() {
		if err := v.mount(); err != nil {
			return err
		}
	}
	p.users[container]++
	return nil
}

// Hold notes the use of a volume by a container that an earlier daemon started.
func (m *Manager) Hold(ctx context.Context, name, container string) error {
	p := m.place(name)
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer p.release()
	p.users[container]++
	return nil
}

// Unmount ends all uses by a container; the last user's end unmounts. A volume that the container does not use is let be.
func (m *Manager) Unmount(ctx context.Context, name, container string) error {
	v, err := m.Get(name)
	if err != nil {
		return nil //nolint:nilerr // gone: nothing is mounted
	}
	p := m.place(name)
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer p.release()
	if p.users[container] == 0 {
		return nil
	}
	delete(p.users, container)
	if v.mounts() && len(p.users) == 0 {
		if err := v.unmount(); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) event(action string, v *Volume, attrs map[string]string) {
	if m.o.Publish != nil {
		m.o.Publish(event.Event{Type: event.Volume, Action: action, ID: v.Name, Attributes: attrs, Time: time.Now().UTC()})
	}
}

// Release ends what Create held for a container that is being made: from its row on, InUse tells.
func (m *Manager) Release(holder string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, hs := range m.mu.holds {
		if hs = slices.DeleteFunc(hs, func(h string) bool { return h == holder }); len(hs) == 0 {
			delete(m.mu.holds, name)
		} else {
			m.mu.holds[name] = hs
		}
	}
}
