package network

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
)

// Options of the drivers macvlan and ipvlan: containers on a link of the host, each with an address of its own there.
const (
	optParent      = "parent"
	optMacvlanMode = "macvlan_mode"
	optIpvlanMode  = "ipvlan_mode"
)

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var ipvlanModes = map[string]netlink.IPVlanMode{"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S}

// validateVlan checks the options, and whether the kernel has the driver at all.
func (m *Manager) validateVlan(n *Network) error {
	if _, ok := macvlanModes[n.Options[optMacvlanMode]]; !ok && n.Driver == Macvlan {
		return errkind.InvalidArgument("requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default", n.Options[optMacvlanMode])
	}
	if _, ok := ipvlanModes[n.Options[optIpvlanMode]]; !ok && n.Driver == Ipvlan {
		return errkind.InvalidArgument("requested ipvlan mode '%s' is not valid, 'l2' mode is the ipvlan driver default", n.Options[optIpvlanMode])
	}
	if !kernelHas(n.Driver) {
		return errkind.Internal("operation not supported")
	}
	parent := n.Options[optParent]
	if parent == "" { // dockerd makes a dummy link, which then reaches nothing
		if !kernelHas("dummy") {
			return errkind.Internal("operation not supported")
		}
		return nil
	}
	for _, o := range *m.nets.Load() {
		if o.Options[optParent] == parent && (o.Driver == Macvlan || o.Driver == Ipvlan) {
			return errkind.PermissionDenied("network %s is already using parent interface %s", o.ID, parent)
		}
	}
	return nil
}

// kernelHas asks for a link of the kind on loopback, which none can be on: an unknown kind is refused before that is seen.
func kernelHas(kind string) bool {
	la := netlink.NewLinkAttrs()
	la.Name, la.ParentIndex = "berth-probe", 1
	var l netlink.Link
	switch kind {
	case Macvlan:
		l = &netlink.Macvlan{LinkAttrs: la}
	case Ipvlan:
		l = &netlink.IPVlan{LinkAttrs: la}
	default:
		la.ParentIndex = 0
		l = &netlink.Dummy{LinkAttrs: la}
	}
	err := netlink.LinkAdd(l)
	if err == nil { // a dummy hangs on nothing
		_ = netlink.LinkDel(l) // it was made to ask
	}
	return !errors.Is(err, unix.EOPNOTSUPP)
}

// parentName is the link that a network's containers hang on.
func parentName(n *Network) string {
	if p := n.Options[optParent]; p != "" {
		return p
	}
	return "dm-" + string(n.ID)[:12]
}

// ensureVlan makes the parent if it is not there and is ours to make: a VLAN "link.number", or a dummy. Idempotent.
func (m *Manager) ensureVlan(n *Network) error {
	name := parentName(n)
	if l, err := netlink.LinkByName(name); err == nil {
		return netlink.LinkSetUp(l)
	}
	la := netlink.NewLinkAttrs()
	la.Name = name
	var l netlink.Link = &netlink.Dummy{LinkAttrs: la}
	if given := n.Options[optParent]; given != "" {
		base, number, ok := strings.Cut(given, ".")
		id, err := strconv.ParseUint(number, 10, 12)
		if !ok || err != nil {
			return errkind.InvalidArgument("parent interface %s was not found on the host", given)
		}
		on, err := netlink.LinkByName(base)
		if err != nil {
			return errkind.InvalidArgument("parent interface %s was not found on the host", base)
		}
		la.ParentIndex = on.Attrs().Index
		l = &netlink.Vlan{LinkAttrs: la, VlanId: int(id)}
	}
	if err := netlink.LinkAdd(l); err != nil {
		return errkind.Internal("parent interface %s: %w", name, err)
	}
	return errors.Join(netlink.LinkSetAlias(l, m.alias(n.ID)), netlink.LinkSetUp(l))
}

// leaveVlan removes a parent that ensureVlan made.
func (m *Manager) leaveVlan(n *Network) error {
	if n.Driver != Macvlan && n.Driver != Ipvlan {
		return nil
	}
	l, err := netlink.LinkByName(parentName(n))
	if err != nil || l.Attrs().Alias != m.alias(n.ID) {
		return nil //nolint:nilerr // gone, or not ours
	}
	return netlink.LinkDel(l)
}

// joinVlan makes the link in the container's namespace at once.
func (m *Manager) joinVlan(n *Network, ep *Endpoint, mac net.HardwareAddr, ns netns.NsHandle, h *netlink.Handle) (netlink.Link, error) {
	if l, err := h.LinkByName(ep.Interface); err == nil {
		return l, nil
	}
	parent, err := netlink.LinkByName(parentName(n))
	if err != nil {
		return nil, fmt.Errorf("parent interface %s: %w", parentName(n), err)
	}
	la := netlink.NewLinkAttrs()
	la.Name, la.ParentIndex, la.Namespace = ep.Interface, parent.Attrs().Index, netlink.NsFd(ns)
	if o, err := parseBridge(n); err == nil && o.MTU > 0 {
		la.MTU = o.MTU
	}
	var l netlink.Link
	if n.Driver == Macvlan {
		la.HardwareAddr = mac
		l = &netlink.Macvlan{LinkAttrs: la, Mode: macvlanModes[n.Options[optMacvlanMode]]}
	} else {
		l = &netlink.IPVlan{LinkAttrs: la, Mode: ipvlanModes[n.Options[optIpvlanMode]]}
	}
	if err := netlink.LinkAdd(l); err != nil {
		return nil, fmt.Errorf("%s on %s: %w", n.Driver, parentName(n), err)
	}
	return h.LinkByName(ep.Interface)
}
