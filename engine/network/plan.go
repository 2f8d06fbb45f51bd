package network

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
)

// Draw holds what a plan needs of the outside world: transactions are pure.
type Draw struct {
	seed [16]byte
	port uint16        // where the search for a free host port begins
	busy map[Port]bool // host ports that others have; nil when none is to be chosen
}

// NewDraw draws for a container with this intent.
func NewDraw(in Intent) Draw {
	d := Draw{}
	_, _ = rand.Read(d.seed[:]) // documented never to fail
	first, last := ephemeral()
	d.port = first + binary.BigEndian.Uint16(d.seed[:])%(last-first)
	if in.PublishAll || slices.ContainsFunc(in.Publish, func(r PortRequest) bool { return r.First != r.Last || r.First == 0 }) {
		d.busy = listening()
	}
	return d
}

// endpoint gives the id and MAC address of the endpoint on one network.
func (d Draw) endpoint(n ID) (id string, mac [6]byte) {
	h := sha256.Sum256(append(d.seed[:], n...))
	m := sha256.Sum256(h[:])
	copy(mac[:], m[:])
	mac[0] = mac[0]&^1 | 2
	return hex.EncodeToString(h[:]), mac
}

// Plan picks addresses and host ports for a container that starts, inside its transaction. Nothing on the host changes.
//
// Errors: ErrNotFound for a network that is gone; "port is already allocated" for a port that another container has.
func (m *Manager) Plan(tx *store.Tx, containerID, containerName string, in Intent, d Draw) ([]Endpoint, error) {
	if strings.HasPrefix(in.Mode, "container:") {
		return nil, nil
	}
	if in.Disabled {
		in.Mode, in.Attachments = None, map[string]Attachment{None: {}}
	}
	var eps []Endpoint
	for _, name := range joinOrder(in) {
		n, err := m.Get(name)
		if err != nil {
			if _, bridged := in.Attachments[Bridge]; bridged && name == in.Mode {
				err = fmt.Errorf("could not find a network matching network mode %s: %w", name, err)
			}
			return nil, err
		}
		ep, err := m.planOne(tx, n, eps, containerID, containerName, in, in.Attachments[name], d)
		if err != nil {
			return nil, err
		}
		eps = append(eps, ep)
	}
	if err := m.assignPorts(tx, containerID, eps, in, d, nil); err != nil {
		return nil, err
	}
	return eps, putEndpoints(tx, containerID, eps)
}

// joinOrder puts the default bridge first, then the network of the mode, then the others by name.
func joinOrder(in Intent) []string {
	names := slices.Collect(maps.Keys(in.Attachments))
	rank := func(n string) int {
		switch n {
		case Bridge:
			return 0
		case in.Mode:
			return 1
		}
		return 2
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b)) })
	return names
}

func putEndpoints(tx *store.Tx, containerID string, eps []Endpoint) error {
	for _, ep := range eps {
		if err := tx.Put(store.Endpoints, string(ep.Network)+"/"+containerID, ep); err != nil {
			return err
		}
	}
	return nil
}

// planOne makes one endpoint, ports apart.
func (m *Manager) planOne(tx *store.Tx, n *Network, others []Endpoint, containerID, containerName string, in Intent, a Attachment, d Draw) (Endpoint, error) {
	if !tx.Has(store.Networks, string(n.ID)) || n.ConfigOnly {
		return Endpoint{}, errNotFound(n.Name) // removed since it was looked up
	}
	id, mac := d.endpoint(n.ID)
	ep := Endpoint{ID: id, Network: n.ID, Name: n.Name, Container: containerName, GwPriority: a.GwPriority, Internal: n.Internal, DriverOpts: a.DriverOpts}
	if n.Driver == Host || n.Driver == Null {
		return ep, nil
	}
	o, err := parseBridge(n)
	if err != nil {
		return ep, err
	}
	if n.EnableIPv4 {
		if ep.IPv4, ep.Gateway4, err = takeAddress(tx, n, false, a.IPv4, containerID); err != nil {
			return ep, err
		}
	}
	if n.EnableIPv6 {
		if ep.IPv6, ep.Gateway6, err = takeAddress(tx, n, true, a.IPv6, containerID); err != nil {
			return ep, err
		}
	}
	ep.MAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
	if a.MAC != "" {
		ep.MAC = a.MAC
	}
	ep.Interface = freeInterface(o.Prefix, others)
	if n.Predefined {
		return ep, nil
	}
	ep.DNSNames = Names(containerName, containerID, a.Aliases, in.Hostname)
	ep.Upstreams, ep.Ndots = in.DNS, in.Ndots
	ep.Links = map[string]string{}
	for _, l := range a.Links {
		target, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = target
		}
		ep.Links[alias] = target
	}
	return ep, nil
}

func freeInterface(prefix string, others []Endpoint) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s%d", prefix, i)
		if !slices.ContainsFunc(others, func(e Endpoint) bool { return e.Interface == name }) {
			return name
		}
	}
}

// Names are what others on a user-defined network find a container by, each once: its name, aliases, short id and a
// hostname that the user gave.
func Names(name, id string, aliases []string, hostname string) []string {
	var out []string
	for _, n := range append(append([]string{name}, aliases...), ids.Short(id), hostname) {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// gateway picks the endpoint whose network is the way out for one family: highest priority, then by name. nil if none is.
func gateway(eps []Endpoint, six bool) *Endpoint {
	var best *Endpoint
	for i := range eps {
		e := &eps[i]
		gw := e.Gateway4
		if six {
			gw = e.Gateway6
		}
		if !gw.IsValid() || e.Internal {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(best.GwPriority, e.GwPriority), strings.Compare(e.Name, best.Name)) < 0 {
			best = e
		}
	}
	return best
}

// Forget frees the rows of a container, in the transaction of its exit or removal.
func (m *Manager) Forget(tx *store.Tx, containerID string) error {
	for _, n := range *m.nets.Load() {
		var ep Endpoint
		key := string(n.ID) + "/" + containerID
		ok, err := tx.Get(store.Endpoints, key, &ep)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := m.forgetOne(tx, n, ep, containerID); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) forgetOne(tx *store.Tx, n *Network, ep Endpoint, containerID string) error {
	for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if p.IsValid() {
			if err := tx.Delete(store.IPAM, addressKey(n, p.Addr())); err != nil {
				return err
			}
		}
	}
	for _, p := range ep.Ports {
		if err := tx.Delete(store.Ports, portKey(p)); err != nil {
			return err
		}
	}
	return tx.Delete(store.Endpoints, string(n.ID)+"/"+containerID)
}
