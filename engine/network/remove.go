package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network/bridge"
)

// Remove deletes a network and its bridge.
//
// Errors: ErrNotFound; ErrPermissionDenied for a predefined one, one that containers are on, and a template in use.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	m.life.Lock()
	defer m.life.Unlock()
	n, err := m.Get(ref)
	if err != nil {
		return err
	}
	return m.remove(ctx, n)
}

func (m *Manager) remove(ctx context.Context, n *Network) error {
	if n.Predefined {
		return errkind.PermissionDenied("%s is a pre-defined network and cannot be removed", n.Name)
	}
	if n.ConfigOnly && slices.ContainsFunc(*m.nets.Load(), func(o *Network) bool { return o.ConfigFrom == n.Name }) {
		return errkind.PermissionDenied("error while removing network: configuration network %q is in use", n.Name)
	}
	if err := m.erase(ctx, n); err != nil {
		return err
	}
	m.publish("destroy", n, nil)
	return nil
}

// erase deletes the row if nobody is on the network, then what the network has on the host. What is left by a crash in
// between is found by Reconcile: its alias names a network that is not there.
func (m *Manager) erase(_ context.Context, n *Network) error {
	err := m.o.DB.Update(func(tx *store.Tx) error {
		var active []string
		err := tx.Scan(store.Endpoints, string(n.ID)+"/", func(_ string, decode func(any) error) error {
			var ep Endpoint
			if err := decode(&ep); err != nil {
				return err
			}
			active = append(active, fmt.Sprintf("name:%q id:%q", ep.Container, ids.Short(ep.ID)))
			return nil
		})
		if err != nil {
			return err
		}
		if len(active) > 0 {
			slices.Sort(active)
			return errkind.PermissionDenied("error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(active, ", "))
		}
		return tx.Delete(store.Networks, string(n.ID))
	})
	if err != nil {
		return err
	}
	m.list(func(all []*Network) []*Network {
		return slices.DeleteFunc(all, func(o *Network) bool { return o.ID == n.ID })
	})
	if n.Driver != Bridge || n.ConfigOnly {
		return m.leaveVlan(n)
	}
	o, err := parseBridge(n)
	if err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.mu.index, n.ID)
	delete(m.mu.refs, n.ID)
	ready := m.mu.ready
	m.mu.Unlock()
	if ready && m.o.Firewall {
		err = m.table.SetBridges(m.bridges())
	}
	if n.Options[optName] != "" { // the next network may want the same name at once
		return errors.Join(err, bridge.Remove(o.Name, m.alias(n.ID)))
	}
	// The kernel takes its time; the row is gone already.
	m.wg.Go(func() {
		if err := bridge.Remove(o.Name, m.alias(n.ID)); err != nil {
			m.o.Log.Warn("removing a bridge", "bridge", o.Name, "error", err)
		}
	})
	return err
}

// Prune removes the networks that nobody is on and that want accepts. Returns their names.
func (m *Manager) Prune(ctx context.Context, want func(*Network) bool) (names []string, err error) {
	m.life.Lock()
	defer m.life.Unlock()
	for _, n := range m.List() {
		if n.Predefined || !want(n) {
			continue
		}
		if eps, cerr := m.Containers(n.ID); cerr != nil || len(eps) > 0 {
			err = errors.Join(err, cerr)
			continue
		}
		if rerr := m.remove(ctx, n); rerr != nil {
			m.o.Log.Warn("pruning a network", "network", n.Name, "error", rerr) // somebody joined it meanwhile
			continue
		}
		names = append(names, n.Name)
	}
	if m.o.Publish != nil && err == nil {
		m.o.Publish(event.Event{Type: event.Network, Action: "prune", Time: time.Now().UTC(), Attributes: map[string]string{"reclaimed": "0"}})
	}
	return names, err
}
