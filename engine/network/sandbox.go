package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/network/bridge"
)

// Apply makes a container's network namespace and its endpoints. Idempotent; after an error nothing is left.
func (m *Manager) Apply(ctx context.Context, id string, eps []Endpoint) (_ *Sandbox, err error) {
	if len(eps) == 1 && eps[0].Name == Host {
		return &Sandbox{ContainerID: id}, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Release(context.WithoutCancel(ctx), id, eps))
		}
	}()
	// Ports first: a conflict is seen before anything is made.
	if err := m.bind(id, nil, mappings(eps)); err != nil {
		return nil, err
	}
	path := m.nsPath(id)
	ns, err := newNS(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	if err := h.LinkSetUp(lo); err != nil {
		return nil, err
	}
	m.dir.set(id, eps)
	resolver := make(chan error, 1) // it needs nothing but loopback: both go on at once
	go func() { resolver <- m.resolve(id, eps, ns) }()
	err = m.enter(eps, eps, ns, h)
	if err = errors.Join(err, <-resolver); err != nil {
		return nil, err
	}
	return &Sandbox{ContainerID: id, Path: path}, m.expose(nil, mappings(eps))
}

// enter joins the new endpoints and sets the default routes for all.
func (m *Manager) enter(fresh, all []Endpoint, ns netns.NsHandle, h *netlink.Handle) error {
	index := map[string]int{}
	for i := range fresh {
		ep := &fresh[i]
		if ep.Interface == "" {
			continue // host or none
		}
		l, err := m.join(ep, ns, h)
		if err != nil {
			return err
		}
		index[ep.Interface] = l.Attrs().Index
	}
	for _, six := range []bool{false, true} {
		if err := wayOut(h, gateway(all, six), six, index); err != nil {
			return fmt.Errorf("default route: %w", err)
		}
	}
	return nil
}

// wayOut sets the default route of one family, or removes it.
func wayOut(h *netlink.Handle, ep *Endpoint, six bool, index map[string]int) error {
	family, all := netlink.FAMILY_V4, "0.0.0.0/0"
	if six {
		family, all = netlink.FAMILY_V6, "::/0"
	}
	_, dst, err := net.ParseCIDR(all)
	if err != nil {
		return err
	}
	if ep == nil {
		err := h.RouteDel(&netlink.Route{Family: family, Dst: dst})
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
			return nil // there was none
		}
		return err
	}
	i, ok := index[ep.Interface]
	if !ok {
		l, err := h.LinkByName(ep.Interface)
		if err != nil {
			return err
		}
		i = l.Attrs().Index
	}
	gw := ep.Gateway4
	if six {
		gw = ep.Gateway6
	}
	return h.RouteReplace(&netlink.Route{Family: family, LinkIndex: i, Dst: dst, Gw: gw.AsSlice()})
}

func vethName(ep *Endpoint) string { return "veth" + ep.ID[:8] }

// join puts one interface into the namespace. Idempotent.
func (m *Manager) join(ep *Endpoint, ns netns.NsHandle, h *netlink.Handle) (netlink.Link, error) {
	n, err := m.Get(string(ep.Network))
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil {
		return nil, errkind.InvalidArgument("invalid MAC address: %w", err)
	}
	var peer netlink.Link
	switch n.Driver {
	case Bridge:
		o, err := parseBridge(n)
		if err != nil {
			return nil, err
		}
		master, err := m.bridgeIndex(n)
		if err != nil {
			return nil, err
		}
		peer, err = bridge.Join(bridge.Port{Veth: vethName(ep), Master: master, Name: ep.Interface, MAC: mac, MTU: o.MTU, Isolated: !o.ICC, Hairpin: len(ep.Ports) > 0}, ns, h)
		if err != nil {
			return nil, err
		}
	default:
		if peer, err = m.joinVlan(n, ep, mac, ns, h); err != nil {
			return nil, err
		}
	}
	var addrs []netip.Prefix
	for _, a := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	if ep.IPv6.IsValid() {
		err := inNS(ns, func() error { return bridge.Sysctl("net/ipv6/conf/"+ep.Interface+"/disable_ipv6", "0") })
		if err != nil {
			return nil, fmt.Errorf("IPv6 of %s: %w", ep.Interface, err)
		}
	}
	return peer, bridge.Configure(h, peer, addrs)
}

// Change brings a running container from one set of endpoints to another: what is gone is taken away, what is new joins,
// ports and default routes follow. Both sets are in the rows already. After an error the host is as before was.
func (m *Manager) Change(ctx context.Context, id string, before, after []Endpoint) (err error) {
	ns, err := netns.GetFromPath(m.nsPath(id))
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	fresh, gone := differ(after, before), differ(before, after)
	was, is := mappings(before), mappings(after)
	if err := m.bind(id, was, is); err != nil {
		return err
	}
	err = errors.Join(m.leave(gone, h), m.enter(fresh, after, ns, h))
	for i := range after {
		if n, nerr := m.Get(string(after[i].Network)); err == nil && nerr == nil && n.Driver == Bridge && len(after[i].Ports) > 0 {
			err = bridge.Hairpin(vethName(&after[i]))
		}
	}
	if err == nil {
		err = m.expose(was, is)
	}
	if err != nil {
		return errors.Join(err, m.leave(fresh, h), m.enter(gone, before, ns, h), m.expose(is, was), m.bind(id, is, was))
	}
	m.dir.set(id, after)
	return m.resolve(id, after, ns)
}

// differ are the endpoints of a that are not in b.
func differ(a, b []Endpoint) []Endpoint {
	return slices.DeleteFunc(slices.Clone(a), func(e Endpoint) bool {
		return slices.ContainsFunc(b, func(o Endpoint) bool { return o.ID == e.ID })
	})
}

// leave takes interfaces away.
func (m *Manager) leave(eps []Endpoint, h *netlink.Handle) error {
	var errs []error
	for _, ep := range eps {
		if ep.Interface == "" {
			continue
		}
		l, err := h.LinkByName(ep.Interface)
		var none netlink.LinkNotFoundError
		if errors.As(err, &none) {
			continue
		}
		if err == nil {
			err = h.LinkDel(l) // a pair goes together
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Release undoes Apply. It succeeds if nothing is there. The kernel takes its time to tear a veth down; that happens behind.
func (m *Manager) Release(_ context.Context, id string, eps []Endpoint) error {
	if len(eps) == 1 && eps[0].Name == Host {
		return nil
	}
	was := mappings(eps)
	m.dir.set(id, nil)
	// The rules go before the ports are let go: who has waited for a port finds no rule of the former owner.
	err := errors.Join(m.unresolve(id), m.expose(was, nil), m.bind(id, was, nil), m.dropNS(id))
	m.mu.Lock()
	delete(m.mu.bindings, id)
	m.mu.Unlock()
	return err
}
