package network

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func TestDefaultPoolsHold31Networks(t *testing.T) {
	var used []netip.Prefix
	for {
		s, err := freeSubnet(defaultPools, false, used)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || err.Error() != "all predefined address pools have been fully subnetted" {
				t.Errorf("exhausted: %v", err)
			}
			break
		}
		used = append(used, s)
	}
	if len(used) != 31 || used[0].String() != "172.17.0.0/16" || used[14].String() != "172.31.0.0/16" || used[15].String() != "192.168.0.0/20" || used[30].String() != "192.168.240.0/20" {
		t.Errorf("%d networks: %v", len(used), used)
	}
}

func TestSubnetsAvoidWhatIsInUse(t *testing.T) {
	for _, tc := range []struct {
		pools      []AddressPool
		used, want string
	}{
		{defaultPools, "172.16.0.0/12", "192.168.0.0/20"}, // a host route over many networks
		{defaultPools, "172.17.5.0/24", "172.18.0.0/16"},  // a small one inside
		{[]AddressPool{{netip.MustParsePrefix("10.0.0.0/8"), 24}}, "10.0.0.0/9", "10.128.0.0/24"},
		{[]AddressPool{{netip.MustParsePrefix("fd00:1::/48"), 64}}, "fd00:1::/64", "fd00:1:0:1::/64"},
	} {
		used := netip.MustParsePrefix(tc.used)
		got, err := freeSubnet(tc.pools, used.Addr().Is6(), []netip.Prefix{used})
		if err != nil || got.String() != tc.want {
			t.Errorf("beside %s: %v, %v; want %s", tc.used, got, err, tc.want)
		}
	}
}

func TestAddressesOfAPool(t *testing.T) {
	a := netip.MustParseAddr
	for _, tc := range []struct {
		p    Pool
		used []string
		want string
	}{
		{Pool{Subnet: netip.MustParsePrefix("10.1.0.0/24")}, nil, "10.1.0.1"},
		{Pool{Subnet: netip.MustParsePrefix("10.1.0.0/24"), Gateway: a("10.1.0.1")}, []string{"10.1.0.2"}, "10.1.0.3"},
		{Pool{Subnet: netip.MustParsePrefix("10.1.0.0/24"), Gateway: a("10.1.0.1"), Range: netip.MustParsePrefix("10.1.0.128/25")}, nil, "10.1.0.128"},
		{Pool{Subnet: netip.MustParsePrefix("10.1.0.0/30"), Gateway: a("10.1.0.1"), Aux: map[string]netip.Addr{"h": a("10.1.0.2")}}, nil, "invalid IP"},
		{Pool{Subnet: netip.MustParsePrefix("10.1.0.0/31")}, nil, "10.1.0.0"},
		{Pool{Subnet: netip.MustParsePrefix("10.1.0.9/32")}, nil, "10.1.0.9"},
		{Pool{Subnet: netip.MustParsePrefix("fd00::/64"), Gateway: a("fd00::1")}, nil, "fd00::2"},
	} {
		got := firstFree(tc.p, func(x netip.Addr) bool {
			for _, u := range tc.used {
				if x.String() == u {
					return true
				}
			}
			return false
		})
		if got.String() != tc.want {
			t.Errorf("%+v: %s, want %s", tc.p, got, tc.want)
		}
	}
}

func TestWayOut(t *testing.T) {
	gw := netip.MustParseAddr("10.0.0.1")
	eps := []Endpoint{{Name: "b", Gateway4: gw}, {Name: "a", Gateway4: gw}, {Name: "in", Gateway4: gw, Internal: true, GwPriority: 9}, {Name: "p", GwPriority: 1}}
	if got := gateway(eps, false); got == nil || got.Name != "a" {
		t.Errorf("equal priorities: %+v", got)
	}
	eps[0].GwPriority = 1
	if got := gateway(eps, false); got == nil || got.Name != "b" {
		t.Errorf("a higher priority: %+v", got)
	}
	if got := gateway(eps, true); got != nil {
		t.Errorf("no IPv6 anywhere: %+v", got)
	}
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
