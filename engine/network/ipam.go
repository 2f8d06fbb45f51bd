package network

import (
	"net/netip"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/store"
)

// usable reports whether a host can have the address: not the subnet's own, nor its broadcast address.
func usable(p Pool, a netip.Addr) bool {
	if !p.Subnet.Contains(a) {
		return false
	}
	if p.Subnet.Addr().BitLen()-p.Subnet.Bits() < 2 {
		return true
	}
	if a == p.Subnet.Masked().Addr() {
		return false
	}
	next := a.Next()
	return a.Is6() || next.IsValid() && p.Subnet.Contains(next)
}

// firstFree is the lowest address of a pool's range that is not taken; invalid if there is none.
func firstFree(p Pool, taken func(netip.Addr) bool) netip.Addr {
	r := p.Subnet
	if p.Range.IsValid() {
		r = p.Range
	}
	aux := map[netip.Addr]bool{}
	for _, a := range p.Aux {
		aux[a] = true
	}
	for a := r.Masked().Addr(); a.IsValid() && r.Contains(a); a = a.Next() {
		if usable(p, a) && a != p.Gateway && !aux[a] && !taken(a) {
			return a
		}
	}
	return netip.Addr{}
}

func addressKey(n *Network, a netip.Addr) string { return string(n.ID) + "/" + a.String() }

// takeAddress gives a container an address of one family, the wanted one if it is valid. Pools are tried in their order.
//
// Errors: ErrPermissionDenied "Address already in use"; ErrUnavailable when all are taken.
func takeAddress(tx *store.Tx, n *Network, six bool, want netip.Addr, containerID string) (netip.Prefix, netip.Addr, error) {
	taken := func(a netip.Addr) bool { return tx.Has(store.IPAM, addressKey(n, a)) }
	for _, p := range n.IPAM.Pools {
		if p.Subnet.Addr().Is6() != six || want.IsValid() && !p.Subnet.Contains(want) {
			continue
		}
		a := want
		if want.IsValid() {
			if want == p.Gateway || taken(want) {
				return netip.Prefix{}, netip.Addr{}, errTaken()
			}
			for _, x := range p.Aux {
				if x == want {
					return netip.Prefix{}, netip.Addr{}, errTaken()
				}
			}
		} else if a = firstFree(p, taken); !a.IsValid() {
			continue
		}
		return netip.PrefixFrom(a, p.Subnet.Bits()), p.Gateway, tx.Put(store.IPAM, addressKey(n, a), containerID)
	}
	if want.IsValid() {
		return netip.Prefix{}, netip.Addr{}, errNoSubnet(want.String())
	}
	return netip.Prefix{}, netip.Addr{}, errkind.Unavailable("no available IPv%s addresses on this network's address pools: %s (%s)", map[bool]string{false: "4", true: "6"}[six], n.Name, n.ID)
}
