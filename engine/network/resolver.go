package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/network/dns"
	"github.com/berthd/berth/engine/network/firewall"
)

// view is what one container may find: engine/network/dns asks it.
type view struct {
	m  *Manager
	id string
}

func (v view) Lookup(name string) ([]netip.Addr, bool) { return v.m.dir.lookup(v.id, name) }

func (v view) Reverse(a netip.Addr) (string, bool) { return v.m.dir.reverse(v.id, a) }

// Upstreams are the user's name servers, asked from the container, or the host's; those on the host's loopback are asked
// from the host. A container without a way out may ask nobody: questions would leave an internal network.
func (v view) Upstreams() []dns.Upstream {
	eps := v.m.dir.endpoints(v.id)
	if gateway(eps, false) == nil && gateway(eps, true) == nil {
		return nil
	}
	var given []string
	for _, ep := range eps {
		if len(ep.Upstreams) > 0 {
			given = ep.Upstreams
		}
	}
	servers := given
	if servers == nil {
		servers = HostResolv(true).Nameservers
	}
	var out []dns.Upstream
	for _, s := range servers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, dns.Upstream{Addr: netip.AddrPortFrom(a, 53), Host: given == nil && a.IsLoopback()})
		}
	}
	return out
}

func (v view) Ndots() bool {
	for _, ep := range v.m.dir.endpoints(v.id) {
		if ep.Ndots {
			return true
		}
	}
	return false
}

// dial opens the connection in the container's namespace or the host's.
func (v view) dial(ctx context.Context, network string, u dns.Upstream) (c net.Conn, err error) {
	d := &net.Dialer{}
	if u.Host {
		return d.DialContext(ctx, network, u.Addr.String())
	}
	ns, err := netns.GetFromPath(v.m.nsPath(v.id))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = visit(ns, func() (err error) {
		c, err = d.DialContext(ctx, network, u.Addr.String())
		return err
	})
	return c, err
}

// visit runs f in another network namespace on this goroutine and comes back. Sockets stay where they were opened.
func visit(ns netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = f()
	if herr := netns.Set(home); herr != nil {
		// The thread is lost to the container's namespace: it must not run anything else, and ends with this goroutine.
		return errors.Join(err, herr)
	}
	runtime.UnlockOSThread()
	return err
}

// resolve gives a container its resolver if it is on a network that has one and does not have it yet.
func (m *Manager) resolve(id string, eps []Endpoint, ns netns.NsHandle) error {
	embedded := false
	for _, ep := range eps {
		embedded = embedded || len(ep.DNSNames) > 0
	}
	m.mu.Lock()
	have := m.mu.resolvers[id]
	m.mu.Unlock()
	if !embedded || have != nil {
		return nil
	}
	udp, tcp, err := m.sockets(ns)
	if err != nil {
		return fmt.Errorf("resolver: %w", err)
	}
	v := view{m, id}
	s := dns.Serve(m.ctx, udp, tcp, v, v.dial)
	m.mu.Lock()
	m.mu.resolvers[id] = s
	m.mu.Unlock()
	return nil
}

// sockets opens the resolver's two in the namespace. They have ports of their own, since the container may want 53 itself;
// two rules in the namespace lead from 127.0.0.11:53 to them. Where the kernel does not take the rules, port 53 it is.
func (m *Manager) sockets(ns netns.NsHandle) (udp *net.UDPConn, tcp net.Listener, err error) {
	at := net.ParseIP(Resolver)
	open := func(port int) error {
		return visit(ns, func() (err error) {
			if udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: at, Port: port}); err != nil {
				return err
			}
			tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: at, Port: port})
			if err != nil {
				_ = udp.Close() // the error that matters is err
			}
			return err
		})
	}
	if err := open(0); err != nil {
		return nil, nil, err
	}
	u, t := udp.LocalAddr().(*net.UDPAddr).Port, tcp.Addr().(*net.TCPAddr).Port
	if err := firewall.Redirect(int(ns), netip.AddrPortFrom(netip.MustParseAddr(Resolver), 53), uint16(u), uint16(t)); err == nil {
		return udp, tcp, nil
	} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil, errors.Join(err, udp.Close(), tcp.Close())
	}
	if err := errors.Join(udp.Close(), tcp.Close()); err != nil {
		return nil, nil, err
	}
	return udp, tcp, open(53)
}

// unresolve ends a container's resolver: its sockets would keep the namespace.
func (m *Manager) unresolve(id string) error {
	m.mu.Lock()
	s := m.mu.resolvers[id]
	delete(m.mu.resolvers, id)
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Close()
}
