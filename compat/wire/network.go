package wire

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	domain "github.com/berthd/berth/engine/container"
	dnet "github.com/berthd/berth/engine/network"
)

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func prefix(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// parseAddr reads an address; "" is the invalid one.
func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, Invalid("invalid JSON: %v", err)
	}
	return a.Unmap(), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, Invalid("invalid JSON: %v", err)
	}
	return p, nil
}

// Attachment converts what a request says about one network; nil is an empty one.
func Attachment(e *network.EndpointSettings) (a dnet.Attachment, err error) {
	if e == nil {
		return a, nil
	}
	a = dnet.Attachment{Links: e.Links, Aliases: e.Aliases, MAC: e.MacAddress, DriverOpts: e.DriverOpts, GwPriority: e.GwPriority}
	c := e.IPAMConfig
	if c == nil {
		return a, nil
	}
	a.HasIPAM = true
	if a.IPv4, err = parseAddr(c.IPv4Address); err != nil {
		return a, err
	}
	if a.IPv6, err = parseAddr(c.IPv6Address); err != nil {
		return a, err
	}
	for _, l := range c.LinkLocalIPs {
		ip, err := netip.ParseAddr(l)
		if err != nil {
			return a, Invalid("invalid link-local IP address: %s", l)
		}
		a.LinkLocal = append(a.LinkLocal, ip)
	}
	return a, nil
}

// NetworkCreate converts a request for a network.
func NetworkCreate(r *network.CreateRequest) (dnet.CreateOptions, error) {
	o := dnet.CreateOptions{
		Name: r.Name, Driver: r.Driver, Scope: r.Scope, IPv4: r.EnableIPv4 == nil || *r.EnableIPv4, IPv6: r.EnableIPv6 != nil && *r.EnableIPv6, Internal: r.Internal,
		Attachable: r.Attachable, Ingress: r.Ingress, ConfigOnly: r.ConfigOnly, Options: r.Options, Labels: r.Labels,
	}
	if r.ConfigFrom != nil {
		o.ConfigFrom = r.ConfigFrom.Network
	}
	if r.IPAM == nil {
		return o, nil
	}
	o.IPAMDriver, o.IPAMOptions = r.IPAM.Driver, r.IPAM.Options
	for _, c := range r.IPAM.Config {
		p, err := pool(c)
		if err != nil {
			return o, err
		}
		o.Pools = append(o.Pools, p)
	}
	return o, nil
}

func pool(c network.IPAMConfig) (p dnet.Pool, err error) {
	if p.Subnet, err = parsePrefix(c.Subnet); err != nil {
		return p, err
	}
	if p.Range, err = parsePrefix(c.IPRange); err != nil {
		return p, err
	}
	if p.Gateway, err = parseAddr(c.Gateway); err != nil {
		return p, err
	}
	for name, s := range c.AuxAddress {
		a, err := parseAddr(s)
		if err != nil {
			return p, err
		}
		if p.Aux == nil {
			p.Aux = map[string]netip.Addr{}
		}
		p.Aux[name] = a
	}
	return p, nil
}

// ListedNetwork is a network in a list: without its containers.
type ListedNetwork struct {
	network.Inspect
	Containers map[string]network.EndpointResource `json:",omitempty"`
}

// Network is the long form of a network; the containers on it are added by who knows them.
func Network(n *dnet.Network) network.Inspect {
	out := network.Inspect{
		Name: n.Name, ID: string(n.ID), Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.EnableIPv4, EnableIPv6: n.EnableIPv6, Internal: n.Internal,
		Attachable: n.Attachable, ConfigOnly: n.ConfigOnly, ConfigFrom: network.ConfigReference{Network: n.ConfigFrom}, Options: n.Options, Labels: n.Labels,
		IPAM: network.IPAM{Driver: n.IPAM.Driver, Options: n.IPAM.Options}, Containers: map[string]network.EndpointResource{},
	}
	for _, p := range n.IPAM.Pools {
		c := network.IPAMConfig{Subnet: prefix(p.Subnet), IPRange: prefix(p.Range), Gateway: addr(p.Gateway)}
		for name, a := range p.Aux {
			if c.AuxAddress == nil {
				c.AuxAddress = map[string]string{}
			}
			c.AuxAddress[name] = addr(a)
		}
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	return out
}

// EndpointResource is a container as a network shows it.
func EndpointResource(name string, ep dnet.Endpoint) network.EndpointResource {
	return network.EndpointResource{Name: name, EndpointID: ep.ID, MacAddress: ep.MAC, IPv4Address: prefix(ep.IPv4), IPv6Address: prefix(ep.IPv6)}
}

// networks shows what the user asked for and, while it runs, what came of it.
func networks(s *domain.Snapshot) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	for name, a := range s.Spec.Network.Attachments {
		e := &network.EndpointSettings{
			Links: a.Links, Aliases: a.Aliases, MacAddress: a.MAC, DriverOpts: a.DriverOpts, GwPriority: a.GwPriority, NetworkID: string(a.NetworkID), DNSNames: a.DNSNames,
		}
		if a.HasIPAM {
			e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: addr(a.IPv4), IPv6Address: addr(a.IPv6)}
			for _, l := range a.LinkLocal {
				e.IPAMConfig.LinkLocalIPs = append(e.IPAMConfig.LinkLocalIPs, addr(l))
			}
		}
		for _, ep := range s.Endpoints {
			if ep.Name == name {
				running(e, ep)
			}
		}
		out[name] = e
	}
	return out
}

func running(e *network.EndpointSettings, ep dnet.Endpoint) {
	e.NetworkID, e.EndpointID, e.MacAddress, e.Gateway, e.IPv6Gateway = string(ep.Network), ep.ID, ep.MAC, addr(ep.Gateway4), addr(ep.Gateway6)
	if ep.IPv4.IsValid() {
		e.IPAddress, e.IPPrefixLen = ep.IPv4.Addr().String(), ep.IPv4.Bits()
	}
	if ep.IPv6.IsValid() {
		e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = ep.IPv6.Addr().String(), ep.IPv6.Bits()
	}
}

// InNetwork reports whether a container belongs to a network whose name or id is v or begins with it.
func InNetwork(s *domain.Snapshot, v string) bool {
	for name, e := range networks(s) {
		if strings.HasPrefix(name, v) || e.NetworkID != "" && strings.HasPrefix(e.NetworkID, v) {
			return true
		}
	}
	return false
}

func networkSettings(s *domain.Snapshot) *container.NetworkSettings {
	n := &container.NetworkSettings{Networks: networks(s)}
	n.Ports = nat.PortMap{}
	if s.State.Phase.Live() && s.Spec.Network.Mode != dnet.Host {
		for p := range s.Spec.Network.ExposedPorts {
			n.Ports[nat.Port(p)] = nil
		}
	}
	n.SandboxID, n.SandboxKey = s.State.SandboxID, s.State.SandboxKey
	for _, ep := range s.Endpoints {
		for _, p := range ep.Ports {
			k := nat.Port(fmt.Sprintf("%d/%s", p.Container.Number, p.Container.Proto))
			n.Ports[k] = append(n.Ports[k], nat.PortBinding{HostIP: p.HostIP.String(), HostPort: hostPort(p)})
		}
		if ep.Name == dnet.Bridge {
			e := &network.EndpointSettings{}
			running(e, ep)
			n.EndpointID, n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
			n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = e.IPv6Gateway, e.GlobalIPv6Address, e.GlobalIPv6PrefixLen
		}
	}
	return n
}

// hostPort is empty for a port that is open on the container's own address only.
func hostPort(p dnet.Published) string {
	if p.HostPort == 0 {
		return ""
	}
	return strconv.Itoa(int(p.HostPort))
}

// Ports are the ports of a running container, published ones first.
func Ports(s *domain.Snapshot) []container.Port {
	out := []container.Port{}
	if !s.State.Phase.Live() || s.Spec.Network.Mode == dnet.Host {
		return out
	}
	published := map[string]bool{}
	for _, ep := range s.Endpoints {
		for _, p := range ep.Ports {
			published[fmt.Sprintf("%d/%s", p.Container.Number, p.Container.Proto)] = true
			out = append(out, container.Port{IP: p.HostIP.String(), PrivatePort: p.Container.Number, PublicPort: p.HostPort, Type: string(p.Container.Proto)})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Spec.Network.ExposedPorts)) {
		if !published[k] {
			num, proto, _ := strings.Cut(k, "/")
			n, _ := strconv.ParseUint(num, 10, 16)
			out = append(out, container.Port{PrivatePort: uint16(n), Type: proto})
		}
	}
	return out
}
