package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/berthd/berth/engine/network/bridge"
	"github.com/berthd/berth/engine/network/dns"
	"github.com/berthd/berth/engine/network/firewall"
)

// Options of a Manager.
type Options struct {
	DB         *store.DB
	ExecRoot   string
	HostID     string        // of the engine; the host's own IPv6 prefix comes from it
	BridgeName string        // "" = docker0
	BridgeIP   netip.Prefix  // address and subnet; invalid = 172.17.0.1/16
	Pools      []AddressPool // for networks without a subnet; nil = dockerd's
	MTU        int           // of the default bridge; 0 = kernel's default
	ICC, Masq  bool          // of the default bridge
	Firewall   bool          // false: no rule is ever touched, and published ports are relayed
	Forward    bool          // switch ip_forward on
	Publish    func(event.Event)
	Log        *slog.Logger
}

// Manager owns networks and endpoints. Safe for concurrent use.
type Manager struct {
	o     Options
	table *firewall.Table
	ula   AddressPool
	six   bool                       // the host has IPv6
	nets  atomic.Pointer[[]*Network] // immutable list
	wg    sync.WaitGroup             // slow clean-up, and the watcher
	ctx   context.Context            // ends with the daemon: the watcher and the resolvers
	stop  context.CancelFunc
	dir   *directory
	life  sync.Mutex // one network is made or removed at a time
	host  sync.Mutex // bridges are made one at a time

	mu struct {
		sync.Mutex
		ready     bool       // forwarding and table exist
		closed    bool       // the host was no router before
		index     map[ID]int // of bridges that are there
		refs      map[ID]int // endpoints on networks whose parent goes with the last of them
		bindings  map[string]map[mapping]binding
		resolvers map[string]*dns.Server
	}
}

// Open loads the networks and makes the predefined ones. The host is not touched before the first use or Reconcile.
func Open(o Options) (*Manager, error) {
	if o.BridgeName == "" {
		o.BridgeName = "docker0"
	}
	if !o.BridgeIP.IsValid() {
		o.BridgeIP = netip.MustParsePrefix("172.17.0.1/16")
	}
	if len(o.Pools) == 0 {
		o.Pools = defaultPools
	}
	m := &Manager{o: o, table: firewall.New("berth-" + o.BridgeName), ula: ulaPool(o.HostID), dir: newDirectory()}
	m.ctx, m.stop = context.WithCancel(context.Background()) //nolint:forbidigo // the life of the daemon itself
	m.mu.resolvers = map[string]*dns.Server{}
	m.mu.index, m.mu.refs, m.mu.bindings = map[ID]int{}, map[ID]int{}, map[string]map[mapping]binding{}
	_, err := os.Stat("/proc/net/if_inet6")
	m.six = err == nil
	if err := os.MkdirAll(filepath.Join(o.ExecRoot, "netns"), 0o700); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	fresh := []*Network{m.predefined(Bridge, Bridge, now), m.predefined(Host, Host, now), m.predefined(None, Null, now)}
	var all []*Network
	err = o.DB.Update(func(tx *store.Tx) error {
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
			optDefault: "true", optICC: fmt.Sprint(m.o.ICC), optMasq: fmt.Sprint(m.o.Masq), optHostBinding: "0.0.0.0", optName: m.o.BridgeName, optMTU: fmt.Sprint(mtu),
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

func (m *Manager) byName(name string) (*Network, error) {
	for _, n := range *m.nets.Load() {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, errNotFound(name)
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
		if string(n.ID) == ref {
			return n, nil
		}
	}
	for _, n := range all {
		if n.Name == ref {
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
		return nil, errNotFound(ref)
	}
	return nil, errkind.InvalidArgument("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(byPrefix))
}

// Containers lists the endpoints of a network by container id.
func (m *Manager) Containers(id ID) (map[string]Endpoint, error) {
	out := map[string]Endpoint{}
	err := m.o.DB.View(func(tx *store.Tx) error {
		return tx.Scan(store.Endpoints, string(id)+"/", func(key string, decode func(any) error) error {
			var e Endpoint
			if err := decode(&e); err != nil {
				return err
			}
			out[key[len(id)+1:]] = e
			return nil
		})
	})
	return out, err
}

// Event publishes connect or disconnect for a container's endpoints.
func (m *Manager) Event(action, containerID string, eps []Endpoint) {
	for _, ep := range eps {
		if n, err := m.Get(string(ep.Network)); err == nil { // else the network is gone, and so is its event
			m.publish(action, n, map[string]string{"container": containerID})
		}
	}
}

// Close ends what runs inside the daemon and waits for it; nothing on the host is undone.
func (m *Manager) Close() error {
	m.stop()
	m.wg.Wait()
	m.mu.Lock()
	all := m.mu.bindings
	m.mu.bindings = map[string]map[mapping]binding{}
	resolvers := m.mu.resolvers
	m.mu.resolvers = map[string]*dns.Server{}
	m.mu.Unlock()
	for _, r := range resolvers {
		_ = r.Close() // sockets only
	}
	for _, bs := range all {
		for _, b := range bs {
			_ = b.Close() // sockets only
		}
	}
	return nil
}

// Destroy undoes everything on the host that no container uses any more: for `make stop`.
func (m *Manager) Destroy(context.Context) error {
	links, err := bridge.List(m.alias(""))
	if err != nil {
		return err
	}
	errs := []error{m.table.Remove()}
	for alias, name := range links.Bridges {
		errs = append(errs, bridge.Remove(name, alias))
	}
	return errors.Join(errs...)
}
