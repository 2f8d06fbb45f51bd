// Package bridge makes bridges and the veth pairs that hang on them. It knows links, addresses and names; what they mean is
// engine/network's business. Every function is idempotent.
//
// A bridge that this package made carries the owner's words as its alias; others are used but never removed. A veth pair is
// made in its final place with one netlink message: moving an end later waits for a grace period of the kernel.
package bridge

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Segment is one bridge.
type Segment struct {
	Name      string
	Alias     string // owner; set on a bridge that is made here
	MTU       int    // 0 = the kernel's default
	Addrs     []netip.Prefix
	IPv6      bool
	Localnet  bool // packets from loopback may leave through it: published ports are reached on 127.0.0.1
	KeepAddrs bool // the bridge's IPv4 addresses are somebody else's business
}

// ownAddress is a random local address. A bridge without one takes its lowest port's: containers would lose their gateway when
// that port goes.
func ownAddress() net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	_, _ = rand.Read(mac[2:]) // documented never to fail
	return mac
}

// Ensure makes the bridge as described and returns its index.
func Ensure(s Segment) (int, error) {
	br, err := netlink.LinkByName(s.Name)
	if err != nil {
		la := netlink.NewLinkAttrs()
		la.Name, la.MTU, la.HardwareAddr = s.Name, s.MTU, ownAddress()
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil {
			return 0, fmt.Errorf("bridge %s: %w", s.Name, err)
		}
		if br, err = netlink.LinkByName(s.Name); err != nil {
			return 0, err
		}
		if err := netlink.LinkSetAlias(br, s.Alias); err != nil {
			return 0, errors.Join(fmt.Errorf("bridge %s: %w", s.Name, err), netlink.LinkDel(br))
		}
	} else if br.Type() != "bridge" {
		return 0, fmt.Errorf("%s exists and is no bridge", s.Name)
	} else if s.MTU > 0 && br.Attrs().MTU != s.MTU {
		if err := netlink.LinkSetMTU(br, s.MTU); err != nil {
			return 0, err
		}
	}
	if err := six(s); err != nil {
		return 0, err
	}
	for _, a := range s.Addrs {
		if a.Addr().Is4() && s.KeepAddrs {
			continue
		}
		if err := netlink.AddrReplace(br, addr(a)); err != nil {
			return 0, fmt.Errorf("address of %s: %w", s.Name, err)
		}
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return 0, err
	}
	if s.Localnet {
		if err := Sysctl("net/ipv4/conf/"+s.Name+"/route_localnet", "1"); err != nil {
			return 0, err
		}
	}
	return br.Attrs().Index, nil
}

// six sets what a bridge does with IPv6: nothing where the network has none, and no advertisement of a container is heard.
func six(s Segment) error {
	dir := "net/ipv6/conf/" + s.Name
	if _, err := os.Stat("/proc/sys/" + dir); err != nil {
		if s.IPv6 {
			return errors.New("the kernel has no IPv6")
		}
		return nil
	}
	off := "1"
	if s.IPv6 {
		off = "0"
	}
	return errors.Join(Sysctl(dir+"/disable_ipv6", off), Sysctl(dir+"/accept_ra", "0"))
}

func addr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else can have it: usable at once
	} else if p.Bits() < 31 {
		a.Broadcast = broadcast(p)
	}
	return a
}

func broadcast(p netip.Prefix) net.IP {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b[:]
}

// Remove deletes a bridge if it carries the alias.
func Remove(name, alias string) error {
	br, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	switch {
	case errors.As(err, &none):
		return nil
	case err != nil:
		return err
	case br.Attrs().Alias != alias:
		return nil
	}
	return netlink.LinkDel(br)
}

// Links is what is found on the host: bridges by alias, and the names of the ports on each of them.
type Links struct {
	Bridges map[string]string   // name by alias
	Ports   map[string][]string // veths by bridge name
}

// List reads all links once; only bridges whose alias begins with prefix, and those named, are told.
func List(prefix string, named ...string) (Links, error) {
	out := Links{map[string]string{}, map[string][]string{}}
	all, err := netlink.LinkList()
	if err != nil {
		return out, err
	}
	byIndex := map[int]string{}
	for _, l := range all {
		a := l.Attrs()
		if l.Type() != "bridge" {
			continue
		}
		if strings.HasPrefix(a.Alias, prefix) {
			out.Bridges[a.Alias] = a.Name
			byIndex[a.Index] = a.Name
		}
		for _, n := range named {
			if n == a.Name {
				byIndex[a.Index] = a.Name
			}
		}
	}
	for _, l := range all {
		if br, ok := byIndex[l.Attrs().MasterIndex]; ok && l.Type() == "veth" {
			out.Ports[br] = append(out.Ports[br], l.Attrs().Name)
		}
	}
	return out, nil
}

// Port is one container's place on a bridge.
type Port struct {
	Veth     string // name of the host's end
	Master   int    // index of the bridge
	Name     string // of the container's end
	MAC      net.HardwareAddr
	MTU      int
	Isolated bool // ports that are isolated do not hear each other
	Hairpin  bool // see Hairpin
}

// Join makes the veth pair with its peer in ns and returns the peer.
func Join(p Port, ns netns.NsHandle, h *netlink.Handle) (netlink.Link, error) {
	la := netlink.NewLinkAttrs()
	la.Name, la.MasterIndex, la.Flags, la.MTU = p.Veth, p.Master, net.FlagUp, p.MTU
	veth := &netlink.Veth{LinkAttrs: la, PeerName: p.Name, PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: p.MAC}
	if err := netlink.LinkAdd(veth); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("veth: %w", err)
	}
	if p.Isolated {
		if err := netlink.LinkSetIsolated(veth, true); err != nil {
			return nil, fmt.Errorf("veth: isolation: %w", err)
		}
	}
	if p.Hairpin {
		if err := Hairpin(p.Veth); err != nil {
			return nil, err
		}
	}
	return h.LinkByName(p.Name)
}

// Hairpin lets a port's packets come back through it. Where the kernel filters bridged packets (br_netfilter), a container
// needs that to reach a port that it publishes itself.
func Hairpin(veth string) error {
	l, err := netlink.LinkByName(veth)
	if err == nil {
		err = netlink.LinkSetHairpin(l, true)
	}
	if err != nil {
		return fmt.Errorf("veth: hairpin: %w", err)
	}
	return nil
}

// Leave removes the pair.
func Leave(veth string) error {
	l, err := netlink.LinkByName(veth)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// Configure gives a container's interface its addresses and brings it up.
func Configure(h *netlink.Handle, l netlink.Link, addrs []netip.Prefix) error {
	for _, a := range addrs {
		if err := h.AddrReplace(l, addr(a)); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return h.LinkSetUp(l)
}

// Sysctl writes a value unless it is there. key has slashes.
func Sysctl(key, value string) error {
	path := "/proc/sys/" + key
	if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0)
}
