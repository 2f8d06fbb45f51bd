package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/network/firewall"
)

// mapping is one published port and where it leads.
type mapping struct {
	Published
	To             netip.AddrPort
	endpoint, name string // of endpoint and container, for error texts
}

// binding holds a host port, and relays what the kernel cannot translate.
type binding interface{ Close() error }

// mappings are the published ports of a container's endpoints.
func mappings(eps []Endpoint) []mapping {
	var out []mapping
	for _, ep := range eps {
		for _, p := range ep.Ports {
			to := ep.IPv4
			if p.HostIP.Is6() && ep.IPv6.IsValid() || !to.IsValid() {
				to = ep.IPv6
			}
			if to.IsValid() {
				out = append(out, mapping{p, netip.AddrPortFrom(to.Addr(), p.Container.Number), ep.ID, ep.Container})
			}
		}
	}
	return out
}

// translatable reports whether the kernel can do it alone, loopback apart: both ends of one family.
func (p mapping) translatable() bool { return p.HostIP.Is4() == p.To.Addr().Is4() }

var protocols = map[Proto]int{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func firewallPorts(ms []mapping) []firewall.Port {
	var out []firewall.Port
	for _, p := range ms {
		if p.translatable() {
			out = append(out, firewall.Port{
				Proto: uint8(protocols[p.Container.Proto]), HostIP: p.HostIP, HostPort: p.HostPort, Container: p.To.Addr(), ContainerPort: p.To.Port(), Routed: p.HostPort == 0,
			})
		}
	}
	return out
}

// expose tells the firewall what is published now.
func (m *Manager) expose(was, is []mapping) error {
	if !m.o.Firewall {
		return nil
	}
	gone, fresh := without(was, is), without(is, was)
	err := errors.Join(m.table.Unpublish(firewallPorts(gone)), m.table.Publish(firewallPorts(fresh)))
	if udp := slices.DeleteFunc(append(gone, fresh...), func(p mapping) bool { return p.Container.Proto != "udp" }); len(udp) > 0 {
		m.wg.Go(func() { forget(udp) }) // it reads the kernel's whole table of connections
	}
	return err
}

// forget makes the kernel forget the conversations over published UDP ports: they would go on to where the port led before.
// Only those go that were sent to this port of the host.
func forget(ports []mapping) {
	for _, p := range ports {
		f := &netlink.ConntrackFilter{}
		err := errors.Join(f.AddProtocol(unix.IPPROTO_UDP), f.AddPort(netlink.ConntrackOrigDstPort, p.HostPort))
		if !p.HostIP.IsUnspecified() {
			err = errors.Join(err, f.AddIP(netlink.ConntrackOrigDstIP, p.HostIP.AsSlice()))
		}
		family := netlink.InetFamily(unix.AF_INET)
		if p.HostIP.Is6() {
			family = unix.AF_INET6
		}
		if err == nil && p.HostPort != 0 {
			_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f) // a kernel that cannot tell them forgets them in time
		}
	}
}

func without(a, b []mapping) []mapping {
	drop := make(map[mapping]bool, len(b))
	for _, p := range b {
		drop[p] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(p mapping) bool { return drop[p] })
}

// bind holds the host ports of is and lets those go that only was had. After an error everything is as before.
func (m *Manager) bind(id string, was, is []mapping) error {
	for _, p := range without(was, is) {
		m.drop(id, p)
	}
	var fresh []mapping
	for _, p := range is {
		m.mu.Lock()
		have := m.mu.bindings[id][p]
		m.mu.Unlock()
		if p.HostPort == 0 || have != nil {
			continue
		}
		b, err := m.await(id, p)
		if err != nil {
			for _, f := range fresh {
				m.drop(id, f)
			}
			return err
		}
		m.mu.Lock()
		if m.mu.bindings[id] == nil {
			m.mu.bindings[id] = map[mapping]binding{}
		}
		m.mu.bindings[id][p] = b
		m.mu.Unlock()
		fresh = append(fresh, p)
	}
	return nil
}

// drop lets a port go.
func (m *Manager) drop(id string, p mapping) {
	m.mu.Lock()
	b := m.mu.bindings[id][p]
	delete(m.mu.bindings[id], p)
	m.mu.Unlock()
	if b != nil {
		_ = b.Close() // a socket only
	}
}

// patience is how long a port is waited for that a container is about to let go.
const patience = 5 * time.Second

// await takes the port. The rows give it to this container; another one that still holds it has ended and is being cleaned
// up, so it is waited for.
func (m *Manager) await(id string, p mapping) (binding, error) {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		b, err := m.hold(p)
		if err == nil || !errors.Is(err, unix.EADDRINUSE) || time.Now().After(end) || !m.leaving(id, p) {
			return b, err
		}
	}
}

// leaving reports whether another container of ours holds what stands in the way of p.
func (m *Manager) leaving(id string, p mapping) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other, held := range m.mu.bindings {
		for q := range held {
			if other != id && q.HostPort == p.HostPort && q.Container.Proto == p.Container.Proto {
				return true
			}
		}
	}
	return false
}

// hold takes the port, so that nobody else can and a conflict is seen now. Where the kernel translates, its packets never
// reach the socket, but for those to ::1: that address cannot be translated.
func (m *Manager) hold(p mapping) (binding, error) {
	b, err := func() (binding, error) {
		if m.o.Firewall && p.translatable() && !p.HostIP.Is6() || p.Container.Proto == "sctp" {
			return bindOnly(p)
		}
		at := netip.AddrPortFrom(p.HostIP, p.HostPort)
		if p.Container.Proto == "udp" {
			return relayUDP(at, p.To)
		}
		return relayTCP(at, p.To)
	}()
	if err == nil {
		return b, nil
	}
	why := err
	var op *net.OpError
	if errors.As(err, &op) {
		why = op.Err
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		why = errno
	}
	return nil, errExternal(&Endpoint{Container: p.name, ID: p.endpoint}, errkind.Internal("failed to bind host port %s/%s: %w", netip.AddrPortFrom(p.HostIP, p.HostPort), p.Container.Proto, why))
}

// bindOnly takes the port without answering on it.
func bindOnly(p mapping) (binding, error) {
	family, typ, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if p.HostIP.Is6() {
		family = unix.AF_INET6
	}
	switch p.Container.Proto {
	case "udp":
		typ = unix.SOCK_DGRAM
	case "sctp":
		proto = unix.IPPROTO_SCTP
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nothing{}, nil // sctp can be translated without being spoken here
	}
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "port")
	var sa unix.Sockaddr
	if p.HostIP.Is4() {
		sa = &unix.SockaddrInet4{Addr: p.HostIP.As4(), Port: int(p.HostPort)}
	} else {
		sa = &unix.SockaddrInet6{Addr: p.HostIP.As16(), Port: int(p.HostPort)}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if typ == unix.SOCK_STREAM {
		// Connections of an earlier owner that are still winding up are no conflict; whoever listens is.
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil && typ == unix.SOCK_STREAM {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = f.Close() // the error that matters is err
		return nil, err
	}
	return f, nil
}

type nothing struct{}

func (nothing) Close() error { return nil }
