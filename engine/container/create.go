package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func checkName(name string) error {
	if !validName.MatchString(name) || len(name) > 255 {
		return errkind.InvalidArgument("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// Create makes a container. After an error nothing is left of it.
//
// Errors: ErrNotFound "No such image: …"; ErrConflict for a name in use; ErrInvalidArgument in dockerd's words.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (_ ID, warnings []string, err error) {
	id := ID(ids.New())
	name := strings.TrimPrefix(o.Name, "/")
	if o.Name != "" {
		if err := checkName(name); err != nil {
			return "", nil, err
		}
	}
	spec := *o.Spec
	if err := conflicts(&spec); err != nil {
		return "", nil, err
	}
	want, err := platform(spec.Platform)
	if err != nil {
		return "", nil, err
	}
	img, err := m.d.Images.Resolve(ctx, spec.Image.Ref, want)
	if err != nil {
		return "", nil, err
	}
	merge(&spec, img)
	m.defaults(&spec, id, o)
	if warnings, err = m.check(&spec); err != nil {
		return "", nil, err
	}
	more, err := m.link(&spec)
	if err != nil {
		return "", nil, err
	}
	warnings = append(warnings, more...)
	for _, mode := range []string{spec.Namespaces.IPC, spec.Namespaces.PID} {
		if ref, ok := strings.CutPrefix(mode, joinPrefix); ok {
			if _, err := m.Get(ref); err != nil {
				return "", nil, errkind.InvalidArgument("%s", err)
			}
		}
	}
	notes, err := m.attach(&spec)
	if err != nil {
		return "", nil, err
	}
	warnings = append(warnings, notes...)
	if o.Name == "" {
		name = m.reserveGenerated(id)
	} else if err := m.reserve(name, id); err != nil {
		return "", nil, err
	}
	ctx = context.WithoutCancel(ctx) // from here on it is carried through or undone
	defer func() {
		if err != nil {
			m.free(name)
			m.d.Volumes.Release(string(id))
			err = errors.Join(err, m.d.Images.RemoveRootfs(ctx, string(id)), m.dropAnonymous(ctx, spec.Storage.Points))
		}
	}()
	defer m.d.Volumes.Release(string(id))
	if err := m.points(ctx, id, &spec); err != nil {
		return "", nil, err
	}
	fsx.Step("create.volumes")
	if err := m.d.Images.Prepare(ctx, string(id), img); err != nil {
		return "", nil, fmt.Errorf("root file system: %w", err)
	}
	dir := spec.Process.WorkingDir
	if dir == img.Config.WorkingDir {
		dir = "" // the image has it
	}
	if err := m.populate(ctx, id, spec.Storage.Points, dir); err != nil {
		return "", nil, err
	}
	fsx.Step("create.rootfs")
	s := &Snapshot{ID: id, Name: name, Created: time.Now().UTC(), Spec: &spec, State: State{Phase: Created}}
	e := newEntry(id)
	e.now.Store(s)
	err = m.d.DB.Update(func(tx *store.Tx) error {
		if err := tx.Put(store.Names, name, id); err != nil {
			return err
		}
		for _, p := range spec.Storage.Points {
			if p.Anonymous {
				if err := m.d.Volumes.Keep(tx, p.Name); err != nil {
					return err
				}
			}
		}
		return tx.Put(store.Containers, string(id), record{1, *s})
	})
	if err != nil {
		return "", nil, err
	}
	fsx.Step("create.row")
	m.mu.Lock()
	m.mu.byID[id] = e
	// Newest first: an append at the front keeps the list sorted.
	all := append([]*entry{e}, *m.list.Load()...)
	m.list.Store(&all)
	m.mu.Unlock()
	m.publish(s, "create")
	return id, warnings, nil
}

// platform reads os[/arch[/variant]]; nil stands for the host's own.
func platform(p string) (*ocispec.Platform, error) {
	if p == "" {
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	f := strings.Split(p, "/")
	for _, part := range f {
		if len(f) > 3 || !platformPart.MatchString(part) {
			return nil, errkind.InvalidArgument("%q: cannot parse platform specifier: invalid argument", p)
		}
	}
	out := &ocispec.Platform{OS: f[0], Architecture: runtime.GOARCH}
	if len(f) > 1 {
		out.Architecture = f[1]
	}
	if len(f) > 2 {
		out.Variant = f[2]
	}
	return out, nil
}

var platformPart = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// intent is what a container asks of the network, numbers parsed.
func (m *Manager) intent(s *Spec) (network.Intent, error) {
	in := network.Intent{
		Mode: s.Network.Mode, Attachments: s.Network.Attachments, PublishAll: s.Network.PublishAll, Disabled: s.Network.Disabled, Hostname: s.Hostname, DNS: s.Network.DNS,
	}
	if len(in.DNS) == 0 {
		in.DNS = m.d.Defaults.DNS
	}
	in.Attachments = m.namedLinks(s)
	in.Ndots = saysNdots(s.Network.DNSOptions) || len(s.Network.DNSOptions) == 0 && saysNdots(m.d.Defaults.DNSOptions)
	exposed := maps.Clone(s.Network.ExposedPorts)
	if exposed == nil {
		exposed = map[string]struct{}{}
	}
	for k := range s.Network.PortBindings {
		exposed[k] = struct{}{}
	}
	for _, k := range slices.Sorted(maps.Keys(exposed)) {
		p, err := parsePort(k)
		if err != nil {
			return in, err
		}
		in.Exposed = append(in.Exposed, p)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Network.PortBindings)) {
		p, err := parsePort(k)
		if err != nil {
			return in, err
		}
		for _, b := range s.Network.PortBindings[k] {
			r := network.PortRequest{Container: p}
			if b.HostIP != "" && b.HostIP != "0.0.0.0" {
				if r.HostIP, err = netip.ParseAddr(b.HostIP); err != nil {
					return in, errkind.InvalidArgument("invalid port specification: %q", b.HostIP)
				}
			} else if b.HostIP != "" {
				r.HostIP = netip.IPv4Unspecified()
			}
			if b.HostPort != "" {
				first, last, ranged := strings.Cut(b.HostPort, "-")
				a, err := strconv.ParseUint(first, 10, 16)
				z := a
				if err == nil && ranged {
					z, err = strconv.ParseUint(last, 10, 16)
				}
				if err != nil || z < a {
					return in, errkind.InvalidArgument("invalid port specification: %q", b.HostPort)
				}
				r.First, r.Last = uint16(a), uint16(z)
			}
			in.Publish = append(in.Publish, r)
		}
	}
	return in, nil
}

func parsePort(s string) (network.Port, error) {
	num, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	n, err := strconv.ParseUint(num, 10, 16)
	if err != nil || n == 0 || proto != "tcp" && proto != "udp" && proto != "sctp" {
		return network.Port{}, errkind.InvalidArgument("invalid port specification: %q", s)
	}
	return network.Port{Number: uint16(n), Proto: network.Proto(proto)}, nil
}
