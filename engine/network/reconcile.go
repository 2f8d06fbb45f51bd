package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network/bridge"
	"github.com/berthd/berth/engine/network/firewall"
)

// Reconcile makes the host fit the rows: bridges, one transaction for all rules, reservations, and nothing left of networks
// that are gone and of containers that are not live.
func (m *Manager) Reconcile(_ context.Context, live func(containerID string) bool) error {
	rows, err := m.rows(live)
	if err != nil {
		return err
	}
	ents, err := os.ReadDir(filepath.Join(m.o.ExecRoot, "netns"))
	if err != nil {
		return err
	}
	for _, e := range ents {
		if !live(e.Name()) {
			err = errors.Join(err, m.dropNS(e.Name()))
		}
	}
	links, lerr := bridge.List(m.alias(""), m.o.BridgeName)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	err = errors.Join(err, m.sweepLinks(links, rows))
	// The ports come with the first rules, so that there is no moment in which a running container lacks them.
	var ports []firewall.Port
	for _, eps := range rows {
		ports = append(ports, firewallPorts(mappings(eps))...)
	}
	m.table.Preset(ports)
	for _, n := range *m.nets.Load() {
		_, used := links.Bridges[m.alias(n.ID)]
		for _, eps := range rows {
			used = used || slices.ContainsFunc(eps, func(e Endpoint) bool { return e.Network == n.ID })
		}
		if n.Predefined && !used {
			continue // first use makes the bridge
		}
		if eerr := m.ensure(n); eerr != nil {
			m.o.Log.Warn("a network cannot be made", "network", n.Name, "error", eerr) // its containers say so when they start
		}
	}
	for id, eps := range rows {
		if rerr := m.reopen(id, eps); rerr != nil {
			m.o.Log.Warn("a running container has no resolver", "container", id, "error", rerr)
		}
		if berr := m.bind(id, nil, mappings(eps)); berr != nil {
			m.o.Log.Warn("port of a running container is held by somebody else", "container", id, "error", berr)
		}
		if jerr := m.rejoin(id, eps, links); jerr != nil {
			m.o.Log.Warn("a running container could not be joined to its networks again", "container", id, "error", jerr)
		}
	}
	if m.o.Firewall {
		m.wg.Go(func() {
			if err := m.table.Watch(m.ctx, m.o.Log); err != nil {
				m.o.Log.Warn("nobody watches the firewall rules", "error", err)
			}
		})
	}
	return err
}

// rows are the endpoints of live containers; those of others are deleted.
func (m *Manager) rows(live func(string) bool) (map[string][]Endpoint, error) {
	rows := map[string][]Endpoint{}
	err := m.o.DB.Update(func(tx *store.Tx) error {
		clear(rows)
		var stale []string
		err := tx.Scan(store.Endpoints, "", func(key string, decode func(any) error) error {
			_, id, _ := strings.Cut(key, "/")
			if !live(id) {
				stale = append(stale, id)
				return nil
			}
			var ep Endpoint
			if err := decode(&ep); err != nil {
				return err
			}
			rows[id] = append(rows[id], ep)
			return nil
		})
		for _, id := range stale {
			err = errors.Join(err, m.Forget(tx, id))
		}
		return err
	})
	return rows, err
}

// sweepLinks removes bridges of networks that are gone, and ports that no live endpoint owns.
func (m *Manager) sweepLinks(links bridge.Links, rows map[string][]Endpoint) error {
	var errs []error
	owned := map[string]bool{}
	for _, eps := range rows {
		for i := range eps {
			owned[vethName(&eps[i])] = true
		}
	}
	for _, veths := range links.Ports {
		for _, v := range veths {
			if !owned[v] && strings.HasPrefix(v, "veth") && len(v) == len("veth")+8 {
				errs = append(errs, bridge.Leave(v))
			}
		}
	}
	for alias, name := range links.Bridges {
		if _, err := m.Get(strings.TrimPrefix(alias, m.alias(""))); err != nil {
			errs = append(errs, bridge.Remove(name, alias))
		}
	}
	return errors.Join(errs...)
}

// reopen gives a running container its resolver back.
func (m *Manager) reopen(id string, eps []Endpoint) error {
	m.dir.set(id, eps)
	ns, err := netns.GetFromPath(m.nsPath(id))
	if err != nil {
		return nil //nolint:nilerr // a container on the host's network
	}
	defer ns.Close()
	return m.resolve(id, eps, ns)
}

// rejoin makes the interfaces that a crash kept from being made.
func (m *Manager) rejoin(id string, eps []Endpoint, links bridge.Links) error {
	there := map[string]bool{}
	for _, veths := range links.Ports {
		for _, v := range veths {
			there[v] = true
		}
	}
	missing := slices.DeleteFunc(slices.Clone(eps), func(e Endpoint) bool {
		n, err := m.Get(string(e.Network))
		return err != nil || n.Driver != Bridge || there[vethName(&e)]
	})
	if len(missing) == 0 {
		return nil
	}
	ns, err := netns.GetFromPath(m.nsPath(id))
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return m.enter(missing, eps, ns, h)
}
