package network

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network/firewall"
)

// Options of a Manager.
type Options struct {
	DB         *store.DB
	ExecRoot   string
	BridgeName string       // "" = docker0
	BridgeIP   netip.Prefix // address and subnet; invalid = 172.17.0.1/16
	MTU        int          // 0 = kernel's default
	ICC, Masq  bool
	Firewall   bool // false: no rule is ever touched
	Forward    bool // switch ip_forward on
	Publish    func(event.Event)
	Log        *slog.Logger
}

// Manager owns networks and endpoints. Safe for concurrent use.
type Manager struct {
	o     Options
	table *firewall.Table
	nets  atomic.Pointer[[]*Network] // immutable list
	wg    sync.WaitGroup             // slow clean-up

	mu struct {
		sync.Mutex
		ready    bool // bridge and table exist
		reserved map[string][]closer
	}
}

type closer interface{ Close() error }

// Open loads the networks and makes the predefined ones. The host is not touched before the first use or Reconcile.
func Open(o Options) (*Manager, error) {
	if o.BridgeName == "" {
		o.BridgeName = "docker0"
	}
	if !o.BridgeIP.IsValid() {
		o.BridgeIP = netip.MustParsePrefix("172.17.0.1/16")
	}
	m := &Manager{o: o, table: firewall.New("berth-" + o.BridgeName)}
	m.mu.reserved = map[string][]closer{}
	if err := os.MkdirAll(filepath.Join(o.ExecRoot, "netns"), 0o700); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	fresh := []*Network{m.predefined(Bridge, Bridge, now), m.predefined(Host, Host, now), m.predefined(None, Null, now)}
	var all []*Network
	err := o.DB.Update(func(tx *store.Tx) error {
		all = nil
		have := map[string]bool{}
		err := tx.Scan(store.Networks, "", func(_ string, decode func(any) error) error {
			n := &Network{}
			if err := decode(n); err != nil {
				return err
			}
			if n.Predefined && n.Name == Bridge { // its addressing follows the configuration
				n.IPAM, n.Options = fresh[0].IPAM, fresh[0].Options
			}
			have[n.Name] = true
			all = append(all, n)
			return nil
		})
		if err != nil {
			return err
		}
		for _, n := range fresh {
			if have[n.Name] {
				continue
			}
			if err := tx.Put(store.Networks, string(n.ID), n); err != nil {
				return err
			}
			all = append(all, n)
		}
		return nil
	})
	m.nets.Store(&all)
	return m, err
}

func (m *Manager) predefined(name, driver string, now time.Time) *Network {
	n := &Network{ID: ID(ids.New()), Name: name, Driver: driver, Created: now, EnableIPv4: true, Predefined: true, Options: map[string]string{}, Labels: map[string]string{}, IPAM: IPAM{Driver: "default"}}
	if name == Bridge {
		n.IPAM.Pools = []Pool{{Subnet: m.o.BridgeIP.Masked(), Gateway: m.o.BridgeIP.Addr()}}
		mtu := m.o.MTU
		if mtu == 0 {
			mtu = 1500
		}
		n.Options = map[string]string{
			"com.docker.network.bridge.default_bridge": "true", "com.docker.network.bridge.enable_icc": fmt.Sprint(m.o.ICC),
			"com.docker.network.bridge.enable_ip_masquerade": fmt.Sprint(m.o.Masq), "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
			"com.docker.network.bridge.name": m.o.BridgeName, "com.docker.network.driver.mtu": fmt.Sprint(mtu),
		}
	}
	return n
}

// List returns all networks, by name.
func (m *Manager) List() []*Network {
	out := slices.Clone(*m.nets.Load())
	slices.SortFunc(out, func(a, b *Network) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Get finds a network by full id, name or unique id prefix.
//
// Errors: ErrNotFound "network x not found"; ErrInvalidArgument if ambiguous.
func (m *Manager) Get(ref string) (*Network, error) {
	if ref == "default" {
		ref = Bridge
	}
	all := *m.nets.Load()
	var byPrefix []*Network
	for _, n := range all {
		if string(n.ID) == ref || n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(string(n.ID), ref) {
			byPrefix = append(byPrefix, n)
		}
	}
	switch len(byPrefix) {
	case 1:
		return byPrefix[0], nil
	case 0:
		return nil, errkind.NotFound("network %s not found", ref)
	}
	return nil, errkind.InvalidArgument("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(byPrefix))
}

// Containers lists the endpoints of a network by container id.
func (m *Manager) Containers(id ID) (map[string]Endpoint, error) {
	out := map[string]Endpoint{}
	err := m.o.DB.View(func(tx *store.Tx) error {
		return tx.Scan(store.Endpoints, string(id)+"/", func(key string, decode func(any) error) error {
			var e Endpoint
			out[key[len(id)+1:]] = e
			if err := decode(&e); err != nil {
				return err
			}
			out[key[len(id)+1:]] = e
			return nil
		})
	})
	return out, err
}

// Draw holds the random values that a plan needs; transactions are pure.
type Draw struct {
	EndpointID string
	MAC        [6]byte
	Port       uint16 // where the search for a free host port begins
}

// NewDraw draws.
func NewDraw() Draw {
	d := Draw{EndpointID: ids.New()}
	var b [8]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	copy(d.MAC[:], b[:6])
	d.MAC[0] = d.MAC[0]&^1 | 2
	first, last := ephemeral()
	d.Port = first + (uint16(b[6])<<8|uint16(b[7]))%(last-first)
	return d
}

func ephemeral() (first, last uint16) {
	first, last = 32768, 60999
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &first, &last) // the default stays on nonsense
	}
	return first, last
}

// Plan picks addresses and host ports for a container that starts, inside its transaction. Nothing on the host changes.
//
// Errors: ErrNotFound for a network that is gone; "port is already allocated" for a port that another container has.
func (m *Manager) Plan(tx *store.Tx, containerID, containerName string, in Intent, d Draw) ([]Endpoint, error) {
	mode := in.Mode
	if mode == "" || mode == "default" {
		mode = Bridge
	}
	if in.Disabled {
		mode = None
	}
	if strings.HasPrefix(mode, "container:") {
		return nil, nil
	}
	n, err := m.Get(mode)
	if err != nil {
		return nil, err
	}
	ep := Endpoint{ID: d.EndpointID, Network: n.ID, Name: n.Name}
	if n.Driver == Bridge {
		pool := n.IPAM.Pools[0]
		addr, err := freeAddress(tx, n, pool)
		if err != nil {
			return nil, err
		}
		ep.IPv4, ep.Gateway4, ep.Interface = netip.PrefixFrom(addr, pool.Subnet.Bits()), pool.Gateway, "eth0"
		ep.MAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", d.MAC[0], d.MAC[1], d.MAC[2], d.MAC[3], d.MAC[4], d.MAC[5])
		if mac := in.Attachments[n.Name].MAC; mac != "" {
			ep.MAC = mac
		}
		if ep.Ports, err = planPorts(tx, containerID, containerName, ep.ID, in, d.Port); err != nil {
			return nil, err
		}
		if err := tx.Put(store.IPAM, string(n.ID)+"/"+addr.String(), containerID); err != nil {
			return nil, err
		}
	}
	return []Endpoint{ep}, tx.Put(store.Endpoints, string(n.ID)+"/"+containerID, ep)
}

func freeAddress(tx *store.Tx, n *Network, p Pool) (netip.Addr, error) {
	for a := p.Subnet.Addr().Next(); p.Subnet.Contains(a) && p.Subnet.Contains(a.Next()); a = a.Next() {
		if a != p.Gateway && !tx.Has(store.IPAM, string(n.ID)+"/"+a.String()) {
			return a, nil
		}
	}
	return netip.Addr{}, errkind.Unavailable("no available IPv4 addresses on this network's address pools: %s (%s)", n.Name, n.ID)
}

func portKey(p Proto, n uint16) string { return fmt.Sprintf("%s/%d", p, n) }

func planPorts(tx *store.Tx, containerID, name, epID string, in Intent, from uint16) ([]Published, error) {
	reqs := slices.Clone(in.Publish)
	if in.PublishAll {
		for _, e := range in.Exposed {
			if !slices.ContainsFunc(reqs, func(r PortRequest) bool { return r.Container == e }) {
				reqs = append(reqs, PortRequest{Container: e})
			}
		}
	}
	var out []Published
	for _, r := range reqs {
		p, err := pickPort(tx, r, from)
		if err != nil {
			ip := "0.0.0.0"
			if r.HostIP.IsValid() {
				ip = r.HostIP.String()
			}
			return nil, errkind.Internal("driver failed programming external connectivity on endpoint %s (%s): Bind for %s:%d failed: port is already allocated", name, epID, ip, r.First)
		}
		if err := tx.Put(store.Ports, portKey(r.Container.Proto, p), containerID); err != nil {
			return nil, err
		}
		if r.HostIP.IsValid() {
			out = append(out, Published{r.Container, r.HostIP, p})
			continue
		}
		out = append(out, Published{r.Container, netip.IPv4Unspecified(), p}, Published{r.Container, netip.IPv6Unspecified(), p})
	}
	return out, nil
}

var errTaken = errors.New("port is already allocated")

func pickPort(tx *store.Tx, r PortRequest, from uint16) (uint16, error) {
	if r.First != 0 {
		for p := int(r.First); p <= int(max(r.First, r.Last)); p++ {
			if !tx.Has(store.Ports, portKey(r.Container.Proto, uint16(p))) {
				return uint16(p), nil
			}
		}
		return 0, errTaken
	}
	first, last := ephemeral()
	for i := 0; i <= int(last-first); i++ {
		p := first + (from-first+uint16(i))%(last-first+1)
		if !tx.Has(store.Ports, portKey(r.Container.Proto, p)) {
			return p, nil
		}
	}
	return 0, errTaken
}

// Forget frees the rows of a container, in the transaction of its exit or removal.
func (m *Manager) Forget(tx *store.Tx, containerID string) error {
	type entry struct {
		b store.Bucket
		k string
	}
	var gone []entry
	for _, b := range []store.Bucket{store.IPAM, store.Ports} {
		err := tx.Scan(b, "", func(key string, decode func(any) error) error {
			var owner string
			if err := decode(&owner); err != nil {
				return err
			}
			if owner == containerID {
				gone = append(gone, entry{b, key})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, n := range *m.nets.Load() {
		gone = append(gone, entry{store.Endpoints, string(n.ID) + "/" + containerID})
	}
	for _, e := range gone {
		if err := tx.Delete(e.b, e.k); err != nil {
			return err
		}
	}
	return nil
}

// Event publishes connect or disconnect for a container's endpoints.
func (m *Manager) Event(action, containerID string, eps []Endpoint) {
	if m.o.Publish == nil {
		return
	}
	for _, ep := range eps {
		n, err := m.Get(string(ep.Network))
		if err != nil {
			continue // the network is gone, and so is its event
		}
		m.o.Publish(event.Event{Type: event.Network, Action: action, ID: string(n.ID), Time: time.Now().UTC(), Attributes: map[string]string{"name": n.Name, "type": n.Driver, "container": containerID}})
	}
}

// Close waits for clean-up that is under way; nothing on the host is undone.
func (m *Manager) Close() error {
	m.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, cs := range maps.All(m.mu.reserved) {
		for _, c := range cs {
			_ = c.Close() // reservations only
		}
	}
	m.mu.reserved = map[string][]closer{}
	return nil
}

// Destroy undoes everything on the host that no container uses any more: for `make stop`.
func (m *Manager) Destroy(context.Context) error {
	return errors.Join(m.table.Remove(), removeLink(m.o.BridgeName))
}
