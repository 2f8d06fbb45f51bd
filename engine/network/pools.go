package network

import (
	"crypto/sha256"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/engine/internal/errkind"
)

// AddressPool is a range that networks without a subnet of their own are cut from, Size bits long each.
type AddressPool struct {
	Base netip.Prefix
	Size int
}

// defaultPools are dockerd's 31 networks.
var defaultPools = []AddressPool{
	{netip.MustParsePrefix("172.17.0.0/16"), 16}, {netip.MustParsePrefix("172.18.0.0/16"), 16}, {netip.MustParsePrefix("172.19.0.0/16"), 16},
	{netip.MustParsePrefix("172.20.0.0/14"), 16}, {netip.MustParsePrefix("172.24.0.0/14"), 16}, {netip.MustParsePrefix("172.28.0.0/14"), 16},
	{netip.MustParsePrefix("192.168.0.0/16"), 20},
}

// ulaPool derives the host's own unique local prefix from an id that does not change (RFC 4193).
func ulaPool(id string) AddressPool {
	h := sha256.Sum256([]byte("berth ula " + id))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], h[:5])
	return AddressPool{netip.PrefixFrom(netip.AddrFrom16(a), 48), 64}
}

// freeSubnet is the first subnet of the pools that overlaps nothing in use.
//
// Errors: ErrInvalidArgument when all are taken.
func freeSubnet(pools []AddressPool, six bool, used []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		if p.Base.Addr().Is6() != six {
			continue
		}
		for s := netip.PrefixFrom(p.Base.Masked().Addr(), p.Size); p.Base.Contains(s.Addr()); {
			i := slices.IndexFunc(used, s.Overlaps)
			if i < 0 {
				return s, nil
			}
			// Go on behind what is in the way: a /64 may lie in a used /48.
			end := s
			if used[i].Bits() < s.Bits() {
				end = used[i]
			}
			next, ok := after(end)
			if !ok {
				break
			}
			s = netip.PrefixFrom(next, p.Size)
		}
	}
	return netip.Prefix{}, errkind.InvalidArgument("all predefined address pools have been fully subnetted")
}

// after is the first address behind a prefix.
func after(p netip.Prefix) (netip.Addr, bool) {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits() - 1; i >= 0; i-- {
		bit := byte(0x80) >> (i % 8)
		if b[i/8]&bit == 0 {
			b[i/8] |= bit
			a, _ := netip.AddrFromSlice(b)
			return a, true
		}
		b[i/8] &^= bit
	}
	return netip.Addr{}, false
}

// hostRoutes are the destinations the host routes itself, the default route apart.
func hostRoutes() []netip.Prefix {
	var out []netip.Prefix
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rs, err := netlink.RouteList(nil, fam)
		if err != nil {
			continue // a host without the family
		}
		for _, r := range rs {
			if r.Dst == nil {
				continue
			}
			a, ok := netip.AddrFromSlice(r.Dst.IP)
			ones, _ := r.Dst.Mask.Size()
			if p := netip.PrefixFrom(a.Unmap(), ones); ok && ones > 0 && !a.IsLinkLocalUnicast() && !a.IsMulticast() {
				out = append(out, p)
			}
		}
	}
	return out
}
