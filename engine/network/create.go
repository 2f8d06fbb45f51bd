package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network/firewall"
)

// CreateOptions is a network to be made, as the user said it.
type CreateOptions struct {
	Name                 string
	Driver               string // "" = bridge
	Scope                string // "" = local
	IPv4, IPv6           bool
	Internal, Attachable bool
	Ingress, ConfigOnly  bool
	ConfigFrom           string // name or id of a template
	Options, Labels      map[string]string
	IPAMDriver           string // "" = default
	IPAMOptions          map[string]string
	Pools                []Pool // as given; what is invalid in them is chosen
}

// Create makes a network: the row first, then its bridge. After an error nothing is left.
//
// Errors: ErrInvalidArgument for what makes no sense, ErrPermissionDenied for what is not allowed or overlaps, ErrConflict
// for a name in use, ErrNotFound for an unknown driver or template; all in dockerd's words.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (ID, error) {
	if err := checkCreate(&o); err != nil {
		return "", err
	}
	m.life.Lock()
	defer m.life.Unlock()
	n, err := m.describe(o)
	if err != nil {
		return "", err
	}
	if _, err := m.byName(n.Name); err == nil {
		return "", errkind.Conflict("network with name %s already exists", n.Name)
	}
	if err := m.address(n, o.Pools); err != nil {
		return "", err
	}
	if err := m.validate(n); err != nil {
		return "", err
	}
	if err := m.o.DB.Update(func(tx *store.Tx) error { return tx.Put(store.Networks, string(n.ID), n) }); err != nil {
		return "", err
	}
	m.list(func(all []*Network) []*Network { return append(all, n) })
	if err := m.ensure(n); err != nil {
		return "", errors.Join(err, m.erase(ctx, n))
	}
	m.publish("create", n, nil)
	return n.ID, nil
}

// checkCreate refuses what needs no look at other networks.
func checkCreate(o *CreateOptions) error {
	if strings.TrimSpace(o.Name) == "" {
		return errkind.InvalidArgument("invalid name: name is empty")
	}
	switch o.Name {
	case Bridge, Host, None, "default":
		return errPredefined(o.Name)
	}
	if o.ConfigOnly && (o.Internal || o.Attachable || o.Ingress || o.Scope != "") {
		return errkind.PermissionDenied("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	}
	if o.ConfigOnly && o.ConfigFrom != "" {
		return errkind.PermissionDenied("a configuration network cannot be based on another configuration network")
	}
	if o.Ingress && o.Scope != "swarm" {
		return errkind.PermissionDenied("Ingress network can only be global scope network")
	}
	switch o.Scope {
	case "", "local":
	case "swarm", "global":
		return errkind.PermissionDenied("cannot create a swarm scoped network when swarm is not active")
	default:
		return errkind.PermissionDenied("invalid network scope: %s", o.Scope)
	}
	if o.IPAMDriver == "" {
		o.IPAMDriver = "default"
	}
	if o.IPAMDriver != "default" && o.IPAMDriver != "null" {
		return errkind.NotFound("plugin %q not found", o.IPAMDriver)
	}
	if o.Driver == "" && !o.ConfigOnly {
		o.Driver = Bridge
	}
	switch o.Driver {
	case Bridge, Macvlan, Ipvlan, "":
	case Host, Null:
		return errkind.PermissionDenied("only one instance of %q network is allowed", o.Driver)
	case "overlay":
		return errkind.PermissionDenied(`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	default:
		return errkind.NotFound("plugin %q not found", o.Driver)
	}
	if !o.IPv4 && !o.IPv6 && !o.ConfigOnly && o.ConfigFrom == "" {
		return errkind.InvalidArgument("IPv4 or IPv6 must be enabled")
	}
	return checkPools(o.Pools)
}

// checkPools collects every error of the addressing, as dockerd does.
func checkPools(pools []Pool) error {
	var errs []string
	for _, p := range pools {
		outside := func(what string, a netip.Addr) {
			if a.IsValid() && !(p.Subnet.IsValid() && p.Subnet.Contains(a)) {
				errs = append(errs, fmt.Sprintf("invalid %s %s: parent subnet %s doesn't contain this address", what, a, p.Subnet))
			}
		}
		if p.Subnet.IsValid() && p.Subnet.Masked() != p.Subnet {
			errs = append(errs, fmt.Sprintf("invalid subnet %s: it should be %s", p.Subnet, p.Subnet.Masked()))
			continue
		}
		if p.Range.IsValid() {
			switch {
			case p.Range.Masked() != p.Range:
				errs = append(errs, fmt.Sprintf("invalid ip-range %s: it should be %s", p.Range, p.Range.Masked()))
			case !p.Subnet.IsValid() || !p.Subnet.Contains(p.Range.Addr()) || p.Range.Bits() < p.Subnet.Bits():
				errs = append(errs, fmt.Sprintf("invalid ip-range %s: parent subnet %s doesn't contain ip-range", p.Range, p.Subnet))
			}
		}
		outside("gateway", p.Gateway)
		for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
			if a := p.Aux[name]; !p.Subnet.IsValid() || !p.Subnet.Contains(a) {
				errs = append(errs, fmt.Sprintf("invalid auxiliary address %s: parent subnet %s doesn't contain this address", name, p.Subnet))
			}
		}
	}
	if len(errs) > 0 {
		return errkind.InvalidArgument("invalid network config:\n%s", strings.Join(errs, "\n"))
	}
	return nil
}

// describe turns the options into a network, its template's values included. Addresses are not chosen yet.
func (m *Manager) describe(o CreateOptions) (*Network, error) {
	n := &Network{
		ID: ID(ids.New()), Name: o.Name, Created: time.Now().UTC(), Driver: o.Driver, EnableIPv4: o.IPv4, EnableIPv6: o.IPv6, Internal: o.Internal, Attachable: o.Attachable,
		Options: o.Options, Labels: o.Labels, IPAM: IPAM{Driver: o.IPAMDriver, Options: o.IPAMOptions}, ConfigOnly: o.ConfigOnly,
	}
	if n.Options == nil {
		n.Options = map[string]string{}
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	if o.ConfigOnly {
		n.Driver, n.Template = Null, o.Pools
		return n, nil
	}
	if o.ConfigFrom == "" {
		return n, nil
	}
	t, err := m.Get(o.ConfigFrom)
	if err != nil {
		return nil, errkind.NotFound("configuration network %q does not exist", o.ConfigFrom)
	}
	if !t.ConfigOnly {
		return nil, errkind.PermissionDenied("%q is not a configuration network", o.ConfigFrom)
	}
	if len(o.Options) > 0 || len(o.Pools) > 0 || o.IPv6 || len(o.IPAMOptions) > 0 {
		return nil, errkind.PermissionDenied("user supplied configurations are not supported if the network depends on a configuration network")
	}
	n.ConfigFrom, n.EnableIPv4, n.EnableIPv6, n.Options, n.IPAM.Options, n.Template = t.Name, t.EnableIPv4, t.EnableIPv6, maps.Clone(t.Options), t.IPAM.Options, t.Template
	return n, nil
}

// address chooses what the user left open: subnets from the pools, gateways as the first address. given may be empty.
func (m *Manager) address(n *Network, given []Pool) error {
	if n.ConfigOnly {
		return nil
	}
	if n.ConfigFrom != "" {
		given = n.Template
		n.Template = nil
	}
	used := m.subnets()
	have := map[bool]bool{}
	for _, p := range given {
		if !p.Subnet.IsValid() || p.Subnet.Bits() == 0 { // none was said, or all the world: one is chosen below
			continue
		}
		six := p.Subnet.Addr().Is6()
		if six && !n.EnableIPv6 || !six && !n.EnableIPv4 {
			continue
		}
		if slices.ContainsFunc(used, p.Subnet.Overlaps) {
			return errOverlap()
		}
		used, have[six] = append(used, p.Subnet), true
		p.Given = true
		n.IPAM.Pools = append(n.IPAM.Pools, p)
	}
	for _, six := range []bool{false, true} {
		if have[six] || six && !n.EnableIPv6 || !six && !n.EnableIPv4 {
			continue
		}
		pools := m.o.Pools
		if six && !slices.ContainsFunc(pools, func(p AddressPool) bool { return p.Base.Addr().Is6() }) {
			pools = []AddressPool{m.ula}
		}
		s, err := freeSubnet(pools, six, append(slices.Clone(used), m.routes()...))
		if err != nil {
			return err
		}
		n.IPAM.Pools = append(n.IPAM.Pools, Pool{Subnet: s})
	}
	o, err := parseBridge(n)
	if err != nil {
		return err
	}
	for i := range n.IPAM.Pools {
		p := &n.IPAM.Pools[i]
		mode := o.Mode4
		if p.Subnet.Addr().Is6() {
			mode = o.Mode6
		}
		if p.Gateway.IsValid() || mode == firewall.Isolated || n.Driver != Bridge {
			continue
		}
		if p.Gateway = firstFree(*p, func(netip.Addr) bool { return false }); !p.Gateway.IsValid() {
			return errkind.Unavailable("failed to allocate gateway: no available IP addresses on this network's address pools")
		}
	}
	return nil
}

// validate asks the driver.
func (m *Manager) validate(n *Network) error {
	switch {
	case n.ConfigOnly:
		return nil
	case n.Driver == Macvlan, n.Driver == Ipvlan:
		return m.validateVlan(n)
	}
	o, err := parseBridge(n)
	if err != nil {
		return err
	}
	v4, v6 := 0, 0
	for _, p := range n.IPAM.Pools {
		if p.Subnet.Addr().Is4() {
			v4++
		} else {
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return errkind.PermissionDenied("bridge driver doesn't support multiple subnets")
	}
	for _, other := range *m.nets.Load() {
		if other.Driver != Bridge || other.ConfigOnly {
			continue
		}
		oo, err := parseBridge(other)
		if err == nil && oo.Name == o.Name {
			return errkind.PermissionDenied("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name", n.ID, o.Name, other.ID, oo.Name)
		}
	}
	return nil
}

// subnets are all that the networks have.
func (m *Manager) subnets() []netip.Prefix {
	var out []netip.Prefix
	for _, n := range *m.nets.Load() {
		for _, p := range n.IPAM.Pools {
			out = append(out, p.Subnet)
		}
	}
	return out
}

// list exchanges the list of networks; the caller holds life.
func (m *Manager) list(f func([]*Network) []*Network) {
	all := f(slices.Clone(*m.nets.Load()))
	m.nets.Store(&all)
}

func (m *Manager) publish(action string, n *Network, extra map[string]string) {
	if m.o.Publish == nil {
		return
	}
	attrs := map[string]string{"name": n.Name, "type": n.Driver}
	maps.Copy(attrs, extra)
	m.o.Publish(event.Event{Type: event.Network, Action: action, ID: string(n.ID), Time: time.Now().UTC(), Attributes: attrs})
}
