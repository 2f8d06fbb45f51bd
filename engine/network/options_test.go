package network

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/network/firewall"
)

func TestBridgeOptions(t *testing.T) {
	n := func(o map[string]string) *Network { return &Network{ID: "0123456789abcdef", Options: o} }
	o, err := parseBridge(n(map[string]string{optICC: "false", optMasq: "0", optMTU: "1400", optHostBinding: "127.0.0.1", optMode6: "routed", optPrefix: "net", "unknown": "x"}))
	if err != nil || o.ICC || o.Masq || o.MTU != 1400 || o.HostBinding.String() != "127.0.0.1" || o.Mode4 != firewall.NAT || o.Mode6 != firewall.Routed || o.Prefix != "net" || o.Name != "br-0123456789ab" {
		t.Errorf("%+v, %v", o, err)
	}
	for text, bad := range map[string]map[string]string{
		`failed to parse com.docker.network.bridge.enable_icc value: x (strconv.ParseBool: parsing "x": invalid syntax)`: {optICC: "x"},
		`failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)`:             {optMTU: "x"},
		"gateway mode 'isolated' can only be used for an internal network":                                               {optMode4: "isolated"},
	} {
		if _, err := parseBridge(n(bad)); err == nil || !errdefs.IsInvalidArgument(err) || err.Error() != text {
			t.Errorf("%v: %v, want %s", bad, err, text)
		}
	}
	if _, err := parseBridge(n(map[string]string{optName: "averyveryverylongname"})); err == nil || err.Error() != "numerical result out of range" {
		t.Errorf("a long name: %v", err)
	}
}

func TestPoolsAreChecked(t *testing.T) {
	for want, p := range map[string]Pool{
		"invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24":                                {Subnet: pfx("10.0.0.1/24")},
		"invalid gateway 10.1.0.1: parent subnet 10.0.0.0/24 doesn't contain this address":    {Subnet: pfx("10.0.0.0/24"), Gateway: pfx("10.1.0.1/32").Addr()},
		"invalid gateway 10.1.0.1: parent subnet invalid Prefix doesn't contain this address": {Gateway: pfx("10.1.0.1/32").Addr()},
		"invalid ip-range 10.0.0.1/25: it should be 10.0.0.0/25":                              {Subnet: pfx("10.0.0.0/24"), Range: pfx("10.0.0.1/25")},
		"invalid ip-range 10.1.0.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range":    {Subnet: pfx("10.0.0.0/24"), Range: pfx("10.1.0.0/25")},
		"invalid ip-range 10.0.0.0/16: parent subnet 10.0.0.0/24 doesn't contain ip-range":    {Subnet: pfx("10.0.0.0/24"), Range: pfx("10.0.0.0/16")},
	} {
		if err := checkPools([]Pool{p}); err == nil || err.Error() != "invalid network config:\n"+want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
