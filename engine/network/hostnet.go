package network

import (
	"net/netip"
	"os"
	"strings"

	"github.com/berthd/berth/engine/network/bridge"
	"github.com/berthd/berth/engine/network/firewall"
)

// alias marks a link of the host as ours and says whose it is.
func (m *Manager) alias(id ID) string { return "berth/" + m.o.BridgeName + "/" + string(id) }

// routes are the destinations of the host that are no business of ours.
func (m *Manager) routes() []netip.Prefix { return hostRoutes() }

// ensure makes what a network needs on the host. Idempotent.
func (m *Manager) ensure(n *Network) error {
	switch {
	case n.ConfigOnly, n.Driver == Host, n.Driver == Null:
		return nil
	case n.Driver != Bridge:
		return m.ensureVlan(n)
	}
	_, err := m.bridgeIndex(n)
	return err
}

// bridgeIndex makes a network's bridge if it is not known to be there and tells its index.
func (m *Manager) bridgeIndex(n *Network) (int, error) {
	m.mu.Lock()
	i, ok := m.mu.index[n.ID]
	m.mu.Unlock()
	if ok {
		return i, nil
	}
	m.host.Lock()
	defer m.host.Unlock()
	m.mu.Lock()
	i, ok = m.mu.index[n.ID]
	m.mu.Unlock()
	if ok {
		return i, nil // somebody was faster
	}
	o, err := parseBridge(n)
	if err != nil {
		return 0, err
	}
	s := bridge.Segment{Name: o.Name, Alias: m.alias(n.ID), MTU: o.MTU, IPv6: n.EnableIPv6 && m.six, KeepAddrs: o.Inhibit4, Localnet: m.o.Firewall && n.EnableIPv4 && !n.Internal}
	for _, p := range n.IPAM.Pools {
		if p.Gateway.IsValid() {
			s.Addrs = append(s.Addrs, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
		}
	}
	if i, err = bridge.Ensure(s); err != nil {
		return 0, err
	}
	m.mu.Lock()
	m.mu.index[n.ID] = i
	m.mu.Unlock()
	if err := m.rules(); err != nil {
		m.mu.Lock()
		delete(m.mu.index, n.ID)
		m.mu.Unlock()
		return 0, err
	}
	return i, nil
}

// rules brings the firewall in line with the bridges that are there, then forwarding: the drop rules come first.
func (m *Manager) rules() error {
	m.mu.Lock()
	first := !m.mu.ready
	m.mu.Unlock()
	if first && m.o.Forward && m.o.Firewall {
		if err := m.noteForwarding(); err != nil {
			return err
		}
	}
	if m.o.Firewall {
		if err := m.table.SetBridges(m.bridges()); err != nil {
			return err
		}
	}
	if m.o.Forward {
		if err := bridge.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		if m.six && m.anySix() {
			if err := bridge.Sysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	m.mu.ready = true
	m.mu.Unlock()
	return nil
}

func (m *Manager) anySix() bool {
	for _, n := range *m.nets.Load() {
		if n.EnableIPv6 && n.Driver == Bridge {
			return true
		}
	}
	return false
}

// noteForwarding remembers whether the host was no router before this engine made it one: then it forwards for our
// networks only. The note lives as long as the boot.
func (m *Manager) noteForwarding() error {
	file := m.o.ExecRoot + "/forwarding"
	if _, err := os.Stat(file); err == nil {
		m.mu.Lock()
		m.mu.closed = true
		m.mu.Unlock()
		return nil
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil || strings.TrimSpace(string(b)) != "0" {
		return err
	}
	m.mu.Lock()
	m.mu.closed = true
	m.mu.Unlock()
	return os.WriteFile(file, []byte("the engine switched ip_forward on\n"), 0o600)
}

// bridges is the firewall's view of the networks that are on the host.
func (m *Manager) bridges() ([]firewall.Bridge, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []firewall.Bridge
	for _, n := range *m.nets.Load() {
		if _, there := m.mu.index[n.ID]; !there {
			continue
		}
		o, err := parseBridge(n)
		if err != nil {
			continue // it was checked when the network was made
		}
		b := firewall.Bridge{Name: o.Name, ICC: o.ICC, Internal: n.Internal, Trusted: o.Trusted}
		for _, p := range n.IPAM.Pools {
			f := firewall.Family{Subnet: p.Subnet, Mode: o.Mode4, Masq: o.Masq, Source: o.Source4}
			if p.Subnet.Addr().Is6() {
				f.Mode, f.Source = o.Mode6, o.Source6
			}
			b.Families = append(b.Families, f)
		}
		out = append(out, b)
	}
	return out, m.mu.closed
}
