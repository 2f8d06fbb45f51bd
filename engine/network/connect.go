package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/store"
)

// Check tells whether an attachment makes sense on a network.
//
// Errors: ErrInvalidArgument "invalid endpoint settings: …" with every reason on a line.
func (m *Manager) Check(n *Network, a Attachment) error {
	var errs []string
	if len(a.Aliases) > 0 && n.Predefined {
		errs = append(errs, "network-scoped aliases are only supported for user-defined networks")
	}
	for _, ip := range []netip.Addr{a.IPv4, a.IPv6} {
		switch {
		case !ip.IsValid():
		case n.Predefined:
			errs = append(errs, "user specified IP address is supported on user defined networks only")
		default:
			at := slices.IndexFunc(n.IPAM.Pools, func(p Pool) bool { return p.Subnet.Contains(ip) })
			if at < 0 {
				errs = append(errs, "no configured subnet contains IP address "+ip.String())
			} else if !n.IPAM.Pools[at].Given {
				errs = append(errs, "user specified IP address is supported only when connecting to networks with user configured subnets")
			}
		}
	}
	if len(errs) > 0 {
		return errkind.InvalidArgument("invalid endpoint settings:\n%s", strings.Join(errs, "\n"))
	}
	return nil
}

// Rename gives a running container's endpoints its new name, in the transaction of the container's row.
func (m *Manager) Rename(tx *store.Tx, containerID, to string, eps []Endpoint) ([]Endpoint, error) {
	out := slices.Clone(eps)
	for i := range out {
		out[i].Container = to
		if len(out[i].DNSNames) > 0 {
			out[i].DNSNames = slices.Clone(out[i].DNSNames)
			out[i].DNSNames[0] = to
		}
	}
	return out, putEndpoints(tx, containerID, out)
}

// Renamed makes the new name known; called after the commit.
func (m *Manager) Renamed(containerID string, eps []Endpoint) { m.dir.set(containerID, eps) }

// published are all ports of a container, whichever endpoint they go through.
func published(eps []Endpoint) []Published {
	var out []Published
	for _, ep := range eps {
		out = append(out, ep.Ports...)
	}
	return out
}

// PlanConnect adds an endpoint on n to those of a running container, in the transaction of its row. Ports move to it if it
// becomes the way out. in.Attachments has what the user asked of n.
func (m *Manager) PlanConnect(tx *store.Tx, containerID, containerName string, in Intent, n *Network, eps []Endpoint, d Draw) ([]Endpoint, error) {
	ep, err := m.planOne(tx, n, eps, containerID, containerName, in, in.Attachments[n.Name], d)
	if err != nil {
		return nil, err
	}
	have := published(eps)
	eps = append(slices.Clone(eps), ep)
	if err := m.assignPorts(tx, containerID, eps, in, d, have); err != nil {
		return nil, err
	}
	return eps, putEndpoints(tx, containerID, eps)
}

// PlanDisconnect takes the endpoint on n away. Ports that went through it move to the new way out, or are freed.
func (m *Manager) PlanDisconnect(tx *store.Tx, containerID string, n *Network, eps []Endpoint) ([]Endpoint, error) {
	have := published(eps)
	kept := slices.Clone(eps)
	for i, ep := range eps {
		if ep.Network != n.ID {
			continue
		}
		kept = slices.Delete(kept, i, i+1)
		ep.Ports = nil // they are not freed yet
		if err := m.forgetOne(tx, n, ep, containerID); err != nil {
			return nil, err
		}
	}
	if len(have) > 0 {
		if err := m.assignPorts(tx, containerID, kept, Intent{}, Draw{}, have); err != nil {
			return nil, err
		}
	}
	return kept, putEndpoints(tx, containerID, kept)
}

// PlanReturn undoes the rows of a PlanConnect.
func (m *Manager) PlanReturn(tx *store.Tx, containerID string, from, to []Endpoint) error {
	for _, ep := range differ(from, to) {
		n, err := m.Get(string(ep.Network))
		if err != nil {
			return err
		}
		ep.Ports = slices.DeleteFunc(slices.Clone(ep.Ports), func(p Published) bool { return slices.Contains(published(to), p) })
		if err := m.forgetOne(tx, n, ep, containerID); err != nil {
			return err
		}
	}
	return putEndpoints(tx, containerID, to)
}
