package network

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/network/firewall"
)

// Options of the bridge driver. Source: dockerd's documentation of the driver.
const (
	optName        = "com.docker.network.bridge.name"
	optDefault     = "com.docker.network.bridge.default_bridge"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasq        = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optInhibit     = "com.docker.network.bridge.inhibit_ipv4"
	optMode4       = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6       = "com.docker.network.bridge.gateway_mode_ipv6"
	optTrusted     = "com.docker.network.bridge.trusted_host_interfaces"
	optMTU         = "com.docker.network.driver.mtu"
	optSource4     = "com.docker.network.host_ipv4"
	optSource6     = "com.docker.network.host_ipv6"
	optPrefix      = "com.docker.network.container_iface_prefix"
)

// bridgeOptions is what a network's options mean to the bridge driver.
type bridgeOptions struct {
	Name             string
	MTU              int
	ICC, Masq        bool
	HostBinding      netip.Addr // of ports published without an address; invalid: all
	Inhibit4         bool       // the bridge gets no IPv4 address from us
	Mode4, Mode6     firewall.Mode
	Source4, Source6 netip.Addr
	Prefix           string // of interface names in containers
	Trusted          []string
}

// maxLinkName is the longest name of a network interface.
const maxLinkName = 15

// parseBridge reads the options of a network. Unknown ones are kept by the network and mean nothing.
//
// Errors: ErrInvalidArgument that names the option.
func parseBridge(n *Network) (bridgeOptions, error) {
	o := bridgeOptions{Name: "br-" + string(n.ID)[:12], ICC: true, Masq: true, Mode4: firewall.NAT, Mode6: firewall.NAT, Prefix: "eth"}
	for k, v := range n.Options {
		var err error
		switch k {
		case optName:
			o.Name = v
		case optICC:
			o.ICC, err = strconv.ParseBool(v)
		case optMasq:
			o.Masq, err = strconv.ParseBool(v)
		case optInhibit:
			o.Inhibit4, err = strconv.ParseBool(v)
		case optMTU:
			o.MTU, err = strconv.Atoi(v)
			if err == nil && o.MTU < 0 {
				return o, errkind.InvalidArgument("invalid mtu: %d", o.MTU)
			}
		case optHostBinding:
			if o.HostBinding, err = netip.ParseAddr(v); err != nil {
				return o, errkind.InvalidArgument("failed to parse %s value: %s (not an IP address)", k, v)
			}
		case optSource4:
			o.Source4, err = netip.ParseAddr(v)
		case optSource6:
			o.Source6, err = netip.ParseAddr(v)
		case optMode4:
			o.Mode4, err = mode(k, v)
		case optMode6:
			o.Mode6, err = mode(k, v)
		case optPrefix:
			o.Prefix = v
		case optTrusted:
			o.Trusted = strings.Split(v, ":")
		}
		if err != nil {
			return o, errkind.InvalidArgument("failed to parse %s value: %s (%w)", k, v, err)
		}
	}
	for _, m := range []firewall.Mode{o.Mode4, o.Mode6} {
		if m == firewall.Isolated && !n.Internal {
			return o, errkind.InvalidArgument("gateway mode 'isolated' can only be used for an internal network")
		}
	}
	if o.Name == "" || len(o.Name) > maxLinkName || strings.ContainsAny(o.Name, "/ \t\n") {
		return o, errkind.Internal("numerical result out of range")
	}
	if o.HostBinding.IsValid() && o.HostBinding.IsUnspecified() {
		o.HostBinding = netip.Addr{}
	}
	return o, nil
}

func mode(_, v string) (firewall.Mode, error) {
	switch m := firewall.Mode(v); m {
	case "":
		return firewall.NAT, nil
	case firewall.NAT, firewall.NATUnprotected, firewall.Routed, firewall.Isolated:
		return m, nil
	}
	return "", errkind.InvalidArgument("unknown gateway mode %s", v)
}
