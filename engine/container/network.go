package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network"
)

// setup says that an error is about the network of a container that starts; a nil err stays nil.
func setup(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("failed to set up container networking: %w", err)
}

// attach completes what the user said about networks: every network that will be joined is in Attachments, by its name.
// Called at create, after the defaults.
//
// Errors: ErrInvalidArgument in dockerd's words.
func (m *Manager) attach(s *Spec) (warnings []string, err error) {
	ns := &s.Network
	if strings.HasPrefix(ns.Mode, "container:") || ns.Disabled {
		ns.Attachments = map[string]network.Attachment{}
		return nil, nil
	}
	main := ns.Mode
	if n, err := m.d.Networks.Get(ns.Mode); err == nil {
		main = n.Name
	}
	given := ns.Attachments
	ns.Attachments = map[string]network.Attachment{}
	for key, a := range given {
		if n, err := m.d.Networks.Get(key); err == nil {
			if err := m.d.Networks.Check(n, a); err != nil {
				return nil, fmt.Errorf("invalid config for network %s: %w", n.Name, err)
			}
			key = n.Name
		}
		if a.MAC != "" {
			if _, err := net.ParseMAC(a.MAC); err != nil {
				return nil, errkind.InvalidArgument("invalid MAC address: %s", a.MAC)
			}
		}
		ns.Attachments[key] = a
	}
	if len(ns.Attachments) == 0 {
		ns.Attachments[main] = network.Attachment{}
	}
	if a, ok := ns.Attachments[main]; ok {
		switch {
		case ns.MacAddress == "":
			ns.MacAddress = a.MAC
		case a.MAC == "":
			if _, err := net.ParseMAC(ns.MacAddress); err == nil {
				a.MAC = ns.MacAddress
				ns.Attachments[main] = a
			}
		case !strings.EqualFold(a.MAC, ns.MacAddress):
			return nil, errkind.InvalidArgument("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
		}
	}
	if ns.Mode == network.Host && (len(ns.PortBindings) > 0 || ns.PublishAll) {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	return warnings, nil
}

// namedLinks are a container's attachments with the links that it has on the whole: on a user-defined main network they are
// names for its resolver.
func (m *Manager) namedLinks(s *Spec) map[string]network.Attachment {
	if len(s.Network.Linked) == 0 || s.Network.Mode == network.Bridge {
		return s.Network.Attachments
	}
	n, err := m.d.Networks.Get(s.Network.Mode)
	if err != nil {
		return s.Network.Attachments // its start says so
	}
	out := maps.Clone(s.Network.Attachments)
	a, on := out[n.Name]
	if !on {
		return out
	}
	a.Links = slices.Clone(a.Links)
	for _, l := range s.Network.Linked {
		a.Links = append(a.Links, ids.Short(string(l.Container))+":"+l.Alias)
	}
	out[n.Name] = a
	return out
}

// found notes on the attachments what the endpoints are; inspect shows it when the container has stopped, too.
func found(s *Spec, eps []network.Endpoint) *Spec {
	next := *s
	next.Network.Attachments = maps.Clone(s.Network.Attachments)
	for _, ep := range eps {
		if a, ok := next.Network.Attachments[ep.Name]; ok {
			a.NetworkID, a.DNSNames = ep.Network, ep.DNSNames
			next.Network.Attachments[ep.Name] = a
		}
	}
	return &next
}

// sandbox says which network namespace a container that has started lives in.
func (m *Manager) sandbox(s *Snapshot) {
	switch {
	case strings.HasPrefix(s.Spec.Network.Mode, "container:"):
	case s.Spec.Network.Mode == network.Host:
		s.State.SandboxID, s.State.SandboxKey = string(s.ID), filepath.Join(m.d.ExecRoot, "netns", "default")
	default:
		s.State.SandboxID, s.State.SandboxKey = string(s.ID), filepath.Join(m.d.ExecRoot, "netns", string(s.ID))
	}
}

func errSharing() error {
	return errkind.InvalidArgument("container sharing network namespace with another container or host cannot be connected to any other network")
}

// connectable tells whether a container may have an attachment to the network.
func (m *Manager) connectable(s *Snapshot, n *network.Network, a network.Attachment) error {
	mode := s.Spec.Network.Mode
	if n.Driver == network.Host && mode != network.Host {
		return errkind.InvalidArgument("cannot connect container to host network - container must be created in host network mode")
	}
	if strings.HasPrefix(mode, "container:") || mode == network.Host {
		return errSharing()
	}
	for name := range s.Spec.Network.Attachments {
		if name != n.Name && (name == network.None || n.Driver == network.Null) {
			return errkind.InvalidArgument("container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
	}
	return m.d.Networks.Check(n, a)
}

// Connect puts a container on a network: at once if it runs, else at its next start.
//
// Errors: ErrNotFound for either; ErrPermissionDenied if it is on it already or the address is taken; ErrInvalidArgument for
// what cannot be connected.
func (m *Manager) Connect(ctx context.Context, netRef, ref string, a network.Attachment) error {
	e, err := m.findNamed(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	s := e.now.Load()
	if s.State.Phase == Removing || s.State.Phase == Dead {
		return errkind.Conflict("container %s is marked for removal and cannot be connected or disconnected to the network", s.ID)
	}
	n, err := m.d.Networks.Get(netRef)
	name := netRef
	switch {
	case err == nil:
		name = n.Name
		if err := m.connectable(s, n, a); err != nil {
			return err
		}
	case s.State.Phase.Live() || !errdefs.IsNotFound(err):
		return err
	}
	spec := *s.Spec
	spec.Network.Attachments = maps.Clone(s.Spec.Network.Attachments)
	if !s.State.Phase.Live() {
		if n != nil && !n.Predefined {
			a.DNSNames = network.Names(s.Name, string(s.ID), a.Aliases, spec.Hostname)
		}
		spec.Network.Attachments[name] = a
		_, err := m.change(e, func(s *Snapshot) error { s.Spec = &spec; return nil }, nil)
		return err
	}
	if slices.ContainsFunc(s.Endpoints, func(ep network.Endpoint) bool { return ep.Network == n.ID }) {
		return errkind.PermissionDenied("endpoint with name %s already exists in network %s", s.Name, n.Name)
	}
	spec.Network.Attachments[name] = a
	in, err := m.intent(&spec)
	if err != nil {
		return err
	}
	draw := network.NewDraw(in)
	next, err := m.change(e, func(*Snapshot) error { return nil }, func(tx *store.Tx, s *Snapshot) error {
		eps, err := m.d.Networks.PlanConnect(tx, string(e.id), s.Name, in, n, s.Endpoints, draw)
		s.Endpoints, s.Spec = eps, found(&spec, eps)
		return err
	})
	if err != nil {
		return err
	}
	if err := m.rewire(ctx, e, s, next); err != nil {
		_, uerr := m.change(e, func(o *Snapshot) error { o.Endpoints, o.Spec = s.Endpoints, s.Spec; return nil }, func(tx *store.Tx, _ *Snapshot) error {
			return m.d.Networks.PlanReturn(tx, string(e.id), next.Endpoints, s.Endpoints)
		})
		return errors.Join(err, uerr)
	}
	m.d.Networks.Event("connect", string(e.id), only(next.Endpoints, n.ID))
	return nil
}

func only(eps []network.Endpoint, n network.ID) []network.Endpoint {
	return slices.DeleteFunc(slices.Clone(eps), func(ep network.Endpoint) bool { return ep.Network != n })
}

func (m *Manager) findNamed(ref string) (*entry, error) {
	if ref == "" {
		return nil, errkind.InvalidArgument("invalid name or ID supplied: %q", ref)
	}
	return m.find(ref)
}

// rewire makes the host and the container's files follow a change of a running container's endpoints.
func (m *Manager) rewire(ctx context.Context, e *entry, before, after *Snapshot) error {
	if err := m.d.Networks.Change(ctx, string(e.id), before.Endpoints, after.Endpoints); err != nil {
		return err
	}
	if err := m.refile(before, after); err != nil {
		return errors.Join(err, m.d.Networks.Change(ctx, string(e.id), after.Endpoints, before.Endpoints))
	}
	return nil
}

// Disconnect takes a container off a network. force also forgets the endpoint of a container that is gone.
//
// Errors: ErrNotFound; ErrInternal "… is not connected to …", as dockerd has it.
func (m *Manager) Disconnect(ctx context.Context, netRef, ref string, force bool) error {
	e, err := m.findNamed(ref)
	if err != nil {
		if n, nerr := m.d.Networks.Get(netRef); force && nerr == nil && n != nil && errdefs.IsNotFound(err) {
			return errkind.NotFound("endpoint %s not found", ref)
		}
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	n, err := m.d.Networks.Get(netRef)
	if err != nil {
		return err
	}
	s := e.now.Load()
	spec := *s.Spec
	spec.Network.Attachments = maps.Clone(s.Spec.Network.Attachments)
	_, attached := spec.Network.Attachments[n.Name]
	switch {
	case n.Driver == network.Host:
		return errkind.InvalidArgument("cannot disconnect container from host network - container was created in host network mode")
	case !attached && !s.State.Phase.Live():
		return errkind.Internal("container %s is not connected to the network %s", s.ID, n.Name)
	case !attached:
		return errkind.Internal("container %s is not connected to network %s", s.ID, n.Name)
	}
	delete(spec.Network.Attachments, n.Name)
	gone := only(s.Endpoints, n.ID)
	if len(gone) == 0 {
		_, err := m.change(e, func(s *Snapshot) error { s.Spec = &spec; return nil }, nil)
		return err
	}
	next, err := m.change(e, func(s *Snapshot) error { s.Spec = &spec; return nil }, func(tx *store.Tx, s *Snapshot) error {
		eps, err := m.d.Networks.PlanDisconnect(tx, string(e.id), n, s.Endpoints)
		s.Endpoints = eps
		return err
	})
	if err != nil {
		return err
	}
	if err := m.rewire(ctx, e, s, next); err != nil {
		return err
	}
	m.d.Networks.Event("disconnect", string(e.id), gone)
	return nil
}
