package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network/firewall"
)

func (m *Manager) nsPath(id string) string { return filepath.Join(m.o.ExecRoot, "netns", id) }

// Reconcile makes the host fit the rows: the bridge, one transaction for all rules, reservations, and nothing left of
// containers that are not live.
func (m *Manager) Reconcile(_ context.Context, live func(containerID string) bool) error {
	var stale []string
	type row struct {
		id string
		ep Endpoint
	}
	var rows []row
	err := m.o.DB.Update(func(tx *store.Tx) error {
		stale, rows = nil, nil
		err := tx.Scan(store.Endpoints, "", func(key string, decode func(any) error) error {
			_, id, _ := strings.Cut(key, "/")
			if !live(id) {
				stale = append(stale, id)
				return nil
			}
			r := row{id: id}
			rows = append(rows, r)
			return decode(&rows[len(rows)-1].ep)
		})
		for _, id := range stale {
			err = errors.Join(err, m.Forget(tx, id))
		}
		return err
	})
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
	if len(rows) == 0 && !m.wasUsed() {
		return err // first use makes the bridge
	}
	var ports []firewall.Port
	for _, r := range rows {
		ports = append(ports, rules(r.ep)...)
		if cs, rerr := reserve(r.ep); rerr == nil {
			m.mu.Lock()
			m.mu.reserved[r.id] = cs
			m.mu.Unlock()
		} else {
			m.o.Log.Warn("port of a running container is held by somebody else", "container", r.id, "error", rerr)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(err, m.ensureBridge(ports))
}

func (m *Manager) wasUsed() bool {
	_, err := netlink.LinkByName(m.o.BridgeName)
	return err == nil
}

// ensureBridge makes bridge, sysctls and table; the caller holds mu: the first start after a boot does it once for all.
func (m *Manager) ensureBridge(ports []firewall.Port) error {
	if m.mu.ready {
		return nil
	}
	br, err := netlink.LinkByName(m.o.BridgeName)
	if err != nil {
		la := netlink.NewLinkAttrs()
		la.Name, la.MTU = m.o.BridgeName, m.o.MTU
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil {
			return fmt.Errorf("bridge %s: %w", m.o.BridgeName, err)
		}
		if br, err = netlink.LinkByName(m.o.BridgeName); err != nil {
			return err
		}
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: m.o.BridgeIP.Addr().AsSlice(), Mask: net.CIDRMask(m.o.BridgeIP.Bits(), 32)}}
	if err := netlink.AddrReplace(br, addr); err != nil {
		return fmt.Errorf("address of %s: %w", m.o.BridgeName, err)
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return err
	}
	if m.o.Firewall {
		// The drop rules come before forwarding is switched on.
		b := firewall.Bridge{Name: m.o.BridgeName, Subnet: m.o.BridgeIP.Masked(), ICC: m.o.ICC, Masq: m.o.Masq}
		if err := m.table.Sync([]firewall.Bridge{b}, ports); err != nil {
			return err
		}
		if err := sysctl("net/ipv4/conf/"+m.o.BridgeName+"/route_localnet", "1"); err != nil {
			return err
		}
	}
	if m.o.Forward {
		if err := sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	m.mu.ready = true
	return nil
}

func sysctl(key, value string) error {
	path := "/proc/sys/" + key
	if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0)
}

// Apply makes a container's network namespace and its endpoints. Idempotent; after an error nothing is left.
func (m *Manager) Apply(ctx context.Context, id string, eps []Endpoint) (_ *Sandbox, err error) {
	if len(eps) == 1 && eps[0].Name == Host {
		return &Sandbox{ContainerID: id}, nil
	}
	defer func() {
		if err != nil {
			_ = m.Release(context.WithoutCancel(ctx), id, eps) // the error that matters is err
		}
	}()
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
	for _, ep := range eps {
		if !ep.IPv4.IsValid() {
			continue
		}
		if err := m.join(id, ep, ns, h); err != nil {
			return nil, err
		}
	}
	return &Sandbox{ContainerID: id, Path: path}, nil
}

func vethName(ep Endpoint) string { return "veth" + ep.ID[:8] }

func (m *Manager) join(id string, ep Endpoint, ns netns.NsHandle, h *netlink.Handle) error {
	m.mu.Lock()
	err := m.ensureBridge(nil)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	br, err := netlink.LinkByName(m.o.BridgeName)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil {
		return errkind.InvalidArgument("invalid MAC address: %w", err)
	}
	la := netlink.NewLinkAttrs()
	la.Name, la.MasterIndex, la.Flags, la.MTU = vethName(ep), br.Attrs().Index, net.FlagUp, m.o.MTU
	// One message for the pair in its final place: moving an end later waits for a grace period of the kernel.
	veth := &netlink.Veth{LinkAttrs: la, PeerName: ep.Interface, PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: mac}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	peer, err := h.LinkByName(ep.Interface)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ep.IPv4.Addr().AsSlice(), Mask: net.CIDRMask(ep.IPv4.Bits(), 32)}}
	if err := h.AddrAdd(peer, addr); err != nil {
		return err
	}
	if err := h.LinkSetUp(peer); err != nil {
		return err
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Gw: ep.Gateway4.AsSlice()}); err != nil {
		return err
	}
	if len(ep.Ports) == 0 {
		return nil
	}
	held, err := reserve(ep)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.mu.reserved[id] = append(m.mu.reserved[id], held...)
	m.mu.Unlock()
	if !m.o.Firewall {
		return nil
	}
	return m.table.Publish(rules(ep))
}

func rules(ep Endpoint) []firewall.Port {
	var out []firewall.Port
	for _, p := range ep.Ports {
		if p.HostIP.Is4() && p.Container.Proto != "sctp" {
			out = append(out, firewall.Port{TCP: p.Container.Proto == "tcp", HostIP: p.HostIP, HostPort: p.HostPort, Container: ep.IPv4.Addr(), ContainerPort: p.Container.Number})
		}
	}
	return out
}

// reserve holds the host ports, so that nobody else takes them and a conflict is seen now. IPv4 traffic never reaches these
// sockets: the kernel translates it before. TCP over IPv6 is relayed to the container's IPv4 address.
func reserve(ep Endpoint) (_ []closer, err error) {
	var held []closer
	defer func() {
		if err != nil {
			for _, c := range held {
				_ = c.Close() // the error that matters is err
			}
		}
	}()
	for _, p := range ep.Ports {
		if p.HostIP.Is6() && p.Container.Proto == "tcp" {
			ln, lerr := net.Listen("tcp6", netip.AddrPortFrom(p.HostIP, p.HostPort).String())
			if lerr != nil {
				if errors.Is(lerr, syscall.EADDRINUSE) {
					return nil, bindError(ep, p)
				}
				continue // no IPv6 here
			}
			go relay(ln, netip.AddrPortFrom(ep.IPv4.Addr(), p.Container.Number).String())
			held = append(held, ln)
			continue
		}
		f, berr := bindOnly(p)
		if errors.Is(berr, unix.EADDRINUSE) {
			return nil, bindError(ep, p)
		}
		if berr != nil {
			if p.HostIP.Is6() {
				continue // no IPv6 here
			}
			return nil, errkind.Internal("failed to bind host port for %s:%d: %w", p.HostIP, p.HostPort, berr)
		}
		held = append(held, f)
	}
	return held, nil
}

func bindError(ep Endpoint, p Published) error {
	return errkind.Internal("failed to set up container networking: driver failed programming external connectivity on endpoint (%s): failed to bind host port %s/%s: address already in use",
		ep.ID, netip.AddrPortFrom(p.HostIP, p.HostPort), p.Container.Proto)
}

// bindOnly takes the port without listening: connections are not accepted, but nobody else can bind it.
func bindOnly(p Published) (*os.File, error) {
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	if p.HostIP.Is6() {
		family = unix.AF_INET6
	}
	if p.Container.Proto == "udp" {
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var sa unix.Sockaddr
	if p.HostIP.Is6() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		sa = &unix.SockaddrInet6{Addr: p.HostIP.As16(), Port: int(p.HostPort)}
	} else {
		sa = &unix.SockaddrInet4{Addr: p.HostIP.As4(), Port: int(p.HostPort)}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "port"), nil
}

// relay ends with its listener; each connection ends with either side.
func relay(ln net.Listener, to string) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp4", to)
			if err != nil {
				return
			}
			defer out.Close()
			done := make(chan struct{})
			go func() {
				_, _ = io.Copy(out, in) // either end may go
				_ = out.(*net.TCPConn).CloseWrite()
				close(done)
			}()
			_, _ = io.Copy(in, out) // as above
			_ = in.(*net.TCPConn).CloseWrite()
			<-done
		}()
	}
}

// Release undoes Apply. It succeeds if nothing is there. The kernel takes its time to tear a veth down; that happens behind.
func (m *Manager) Release(_ context.Context, id string, eps []Endpoint) error {
	m.mu.Lock()
	held := m.mu.reserved[id]
	delete(m.mu.reserved, id)
	m.mu.Unlock()
	for _, c := range held {
		_ = c.Close() // reservations only
	}
	var ports []firewall.Port
	for _, ep := range eps {
		ports = append(ports, rules(ep)...)
	}
	if len(ports) > 0 && m.o.Firewall {
		if err := m.table.Unpublish(ports); err != nil {
			return fmt.Errorf("unpublish: %w", err)
		}
	}
	return m.dropNS(id)
}

func (m *Manager) dropNS(id string) error {
	path := m.nsPath(id)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network namespace: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// newNS opens the namespace pinned at path, making it if it is not there. The thread that made it is not used again.
func newNS(path string) (netns.NsHandle, error) {
	if h, err := netns.GetFromPath(path); err == nil {
		var st unix.Statfs_t
		if unix.Fstatfs(int(h), &st) == nil && st.Type == unix.NSFS_MAGIC {
			return h, nil
		}
		_ = h.Close() // a plain file: the mount is gone
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return -1, err
	}
	_ = f.Close() // only a mount point
	res := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			res <- err
			return
		}
		res <- unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "bind", unix.MS_BIND, "")
	}()
	if err := <-res; err != nil {
		return -1, errors.Join(err, os.Remove(path))
	}
	return netns.GetFromPath(path)
}

func removeLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil //nolint:nilerr // nothing to remove
	}
	return netlink.LinkDel(l)
}

// HostResolv is what containers on the default bridge get: the host's file without resolvers on loopback.
func HostResolv() ResolvConf {
	var r ResolvConf
	f, err := os.Open("/etc/resolv.conf")
	if err == nil {
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			w := strings.Fields(sc.Text())
			if len(w) < 2 {
				continue
			}
			switch w[0] {
			case "nameserver":
				if a, err := netip.ParseAddr(w[1]); err == nil && !a.IsLoopback() {
					r.Nameservers = append(r.Nameservers, w[1])
				}
			case "search":
				r.Search = w[1:]
			case "options":
				r.Options = append(r.Options, w[1:]...)
			}
		}
	}
	if len(r.Nameservers) == 0 {
		r.Nameservers = []string{"8.8.8.8", "8.8.4.4"}
	}
	return r
}
