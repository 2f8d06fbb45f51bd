package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/network"
	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/volume"
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
	img, err := m.d.Images.Resolve(ctx, spec.Image.Ref, platform(spec.Platform))
	if err != nil {
		return "", nil, err
	}
	merge(&spec, img)
	m.defaults(&spec, id, o)
	if err := m.check(&spec); err != nil {
		return "", nil, err
	}
	if o.Name == "" {
		name = m.reserveGenerated(id)
	} else if err := m.reserve(name, id); err != nil {
		return "", nil, err
	}
	ctx = context.WithoutCancel(ctx) // from here on it is carried through or undone
	defer func() {
		if err != nil {
			m.free(name)
			err = errors.Join(err, m.d.Images.RemoveRootfs(ctx, string(id)))
		}
	}()
	if err := m.points(ctx, &spec); err != nil {
		return "", nil, err
	}
	if err := m.d.Images.Prepare(ctx, string(id), img); err != nil {
		return "", nil, fmt.Errorf("root file system: %w", err)
	}
	if err := m.populate(ctx, id, spec.Storage.Points); err != nil {
		return "", nil, err
	}
	s := &Snapshot{ID: id, Name: name, Created: time.Now().UTC(), Spec: &spec, State: State{Phase: Created}}
	e := newEntry(id)
	e.now.Store(s)
	err = m.d.DB.Update(func(tx *store.Tx) error {
		if err := tx.Put(store.Names, name, id); err != nil {
			return err
		}
		return tx.Put(store.Containers, string(id), record{1, *s})
	})
	if err != nil {
		return "", nil, err
	}
	m.mu.Lock()
	m.mu.byID[id] = e
	// Newest first: an append at the front keeps the list sorted.
	all := append([]*entry{e}, *m.list.Load()...)
	m.list.Store(&all)
	m.mu.Unlock()
	m.publish(s, "create")
	return id, warnings, nil
}

func platform(p string) *ocispec.Platform {
	if p == "" {
		return nil
	}
	f := strings.Split(p, "/")
	out := &ocispec.Platform{OS: f[0], Architecture: runtime.GOARCH}
	if len(f) > 1 {
		out.Architecture = f[1]
	}
	if len(f) > 2 {
		out.Variant = f[2]
	}
	return out
}

// merge completes the user's values with the image's. Source: dockerd's rules, user over image.
func merge(s *Spec, img *image.Image) {
	c := img.Config
	s.Image.ID = img.ID.String()
	s.Image.Manifest, s.Image.ManifestMediaType, s.Image.ManifestSize = img.Manifest.Digest.String(), img.Manifest.MediaType, img.Manifest.Size
	s.Image.OS, s.Image.Arch, s.Image.Variant = img.Platform.OS, img.Platform.Architecture, img.Platform.Variant
	p := &s.Process
	if p.User == "" {
		p.User = c.User
	}
	if p.WorkingDir == "" {
		p.WorkingDir = c.WorkingDir
	}
	if s.Stop.Signal == "" {
		s.Stop.Signal = c.StopSignal
	}
	if s.Stop.Timeout == nil {
		s.Stop.Timeout = c.StopTimeout
	}
	if len(p.Entrypoint) == 0 {
		if len(p.Cmd) == 0 {
			p.Cmd = c.Cmd
		}
		if p.Entrypoint == nil {
			p.Entrypoint = c.Entrypoint
		}
	}
	if len(p.Entrypoint) == 1 && p.Entrypoint[0] == "" {
		p.Entrypoint = nil
	}
	have := map[string]bool{}
	for _, e := range p.Env {
		k, _, _ := strings.Cut(e, "=")
		have[k] = true
	}
	p.Env = slices.Clone(p.Env)
	for _, e := range c.Env {
		if k, _, _ := strings.Cut(e, "="); !have[k] {
			p.Env = append(p.Env, e)
		}
	}
	s.Health = mergeHealth(s.Health, c.Healthcheck)
	if len(p.Shell) == 0 {
		p.Shell = c.Shell
	}
	labels := maps.Clone(c.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, s.Labels)
	s.Labels = labels
	s.Network.ExposedPorts = union(s.Network.ExposedPorts, c.ExposedPorts)
	s.Storage.Volumes = union(s.Storage.Volumes, c.Volumes)
}

func union(a, b map[string]struct{}) map[string]struct{} {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(b)
	maps.Copy(out, a)
	return out
}

func (m *Manager) defaults(s *Spec, id ID, o CreateOptions) {
	if d, err := m.Get(strings.TrimPrefix(s.Network.Mode, "container:")); err == nil && strings.HasPrefix(s.Network.Mode, "container:") {
		s.Hostname, s.Domainname = d.Spec.Hostname, d.Spec.Domainname
	}
	if s.Hostname == "" {
		s.Hostname = ids.Short(string(id))
		if s.Network.Mode == "host" || s.Namespaces.UTS == "host" {
			if h, err := os.Hostname(); err == nil {
				s.Hostname = h
			}
		}
	}
	if s.Network.Mode == "" || s.Network.Mode == "default" {
		s.Network.Mode = network.Bridge
	}
	if s.Restart.Name == "" {
		s.Restart.Name = "no"
	}
	if s.Log.Driver == "" {
		s.Log.Driver = m.d.Defaults.LogDriver
		if s.Log.Options == nil {
			s.Log.Options = maps.Clone(m.d.Defaults.LogOptions)
		}
	}
	if s.Log.Options == nil {
		s.Log.Options = map[string]string{}
	}
	if s.Storage.ShmSize == 0 {
		s.Storage.ShmSize = m.d.Defaults.ShmSize
	}
	if s.Namespaces.IPC == "" {
		s.Namespaces.IPC = "private"
		if o.OldIPCDefault {
			s.Namespaces.IPC = "shareable"
		}
	}
	if s.Namespaces.Cgroup == "" {
		s.Namespaces.Cgroup = "host"
		if m.d.Defaults.CgroupV2 && !s.Security.Privileged && !o.OldCgroupnsDefault {
			s.Namespaces.Cgroup = "private"
		}
	}
	if s.Runtime == "" {
		s.Runtime = "runc"
	}
	if s.Resources.Memory > 0 && s.Resources.MemorySwap == 0 {
		s.Resources.MemorySwap = 2 * s.Resources.Memory
	}
	if p := s.Resources.PidsLimit; p != nil && *p <= 0 {
		s.Resources.PidsLimit = nil
	}
	if !s.Security.Privileged {
		if s.Security.MaskedPaths == nil {
			s.Security.MaskedPaths = m.d.Defaults.MaskedPaths
		}
		if s.Security.ReadonlyPaths == nil {
			s.Security.ReadonlyPaths = m.d.Defaults.ReadonlyPaths
		}
	}
}

func (m *Manager) check(s *Spec) error {
	if len(s.Process.Argv()) == 0 {
		return errkind.InvalidArgument("no command specified")
	}
	if w := s.Process.WorkingDir; w != "" && !path.IsAbs(w) {
		return errkind.InvalidArgument("the working directory '%s' is invalid, it needs to be an absolute path", w)
	}
	for _, e := range s.Process.Env {
		if e == "" || strings.HasPrefix(e, "=") {
			return errkind.InvalidArgument("invalid environment variable: %s", e)
		}
	}
	if err := checkPolicy(s.Restart); err != nil {
		return err
	}
	if s.AutoRemove && s.Restart.Name != "no" {
		return errkind.InvalidArgument("can't create 'AutoRemove' container with restart policy")
	}
	if s.Runtime != "runc" && s.Runtime != "berth" {
		return errkind.InvalidArgument("unknown or invalid runtime name: %s", s.Runtime)
	}
	for _, h := range s.Network.ExtraHosts {
		if name, ip, ok := strings.Cut(h, ":"); !ok || name == "" || ip == "" {
			return errkind.InvalidArgument("bad format for add-host: %q", h)
		}
	}
	if _, err := intent(s); err != nil {
		return err
	}
	if mode := s.Namespaces.PID; mode != "" && mode != "host" && !strings.HasPrefix(mode, "container:") {
		return errkind.InvalidArgument("invalid PID mode: %s", mode)
	}
	if mode := s.Namespaces.User; mode != "" && mode != "host" {
		return errkind.InvalidArgument("invalid user namespace mode: %s", mode)
	}
	switch mode := s.Namespaces.IPC; {
	case mode == "none", mode == "private", mode == "shareable", mode == "host", strings.HasPrefix(mode, "container:"):
	default:
		return errkind.InvalidArgument("invalid IPC mode: %s", mode)
	}
	if what := unsupported(s); what != "" {
		return errkind.NotImplemented("%s: not supported yet", what)
	}
	if err := checkHealth(s.Health); err != nil {
		return err
	}
	if err := logs.ValidateOptions(logs.Config{Driver: s.Log.Driver, Options: s.Log.Options}); err != nil {
		return err
	}
	return m.d.Specs.Validate(s)
}

// unsupported names something the user asked for that would otherwise be dropped silently.
func unsupported(s *Spec) string {
	r := s.Resources
	for what, asked := range map[string]bool{
		"device requests":      len(r.DeviceRequests) > 0,
		"real-time CPU limits": r.CPURealtimePeriod+r.CPURealtimeRuntime > 0, "links": len(s.Network.Links) > 0, "storage options": len(s.Storage.StorageOpt) > 0,
	} {
		if asked {
			return what
		}
	}
	for _, o := range s.Security.SecurityOpt {
		if strings.HasPrefix(o, "apparmor") && !strings.HasSuffix(o, "unconfined") || strings.HasPrefix(o, "label") && !strings.HasSuffix(o, "disable") {
			return "security option " + o
		}
	}
	return ""
}

// intent is what a container asks of the network, numbers parsed.
func intent(s *Spec) (network.Intent, error) {
	in := network.Intent{Mode: s.Network.Mode, Attachments: s.Network.Attachments, PublishAll: s.Network.PublishAll, Disabled: s.Network.Disabled}
	for _, k := range slices.Sorted(maps.Keys(s.Network.ExposedPorts)) {
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

// points turns the user's mounts into mount points and makes the volumes they name.
func (m *Manager) points(ctx context.Context, s *Spec) error {
	s.Storage.Points = []MountPoint{}
	seen := map[string]bool{}
	add := func(p MountPoint, volumeName string, isVolume bool) error {
		p.Destination = filepath.Clean(p.Destination)
		if seen[p.Destination] {
			return errkind.InvalidArgument("Duplicate mount point: %s", p.Destination)
		}
		if !path.IsAbs(p.Destination) || p.Destination == "/" {
			return errkind.InvalidArgument("invalid mount path: '%s' mount path must be absolute", p.Destination)
		}
		seen[p.Destination] = true
		if isVolume {
			v, err := m.d.Volumes.Create(ctx, volume.CreateOptions{Name: volumeName, Driver: s.Storage.VolumeDriver})
			if err != nil {
				return err
			}
			p.Type, p.Name, p.Source, p.Driver, p.Anonymous = "volume", v.Name, v.Mountpoint, v.Driver, volumeName == ""
		}
		s.Storage.Points = append(s.Storage.Points, p)
		return nil
	}
	for _, b := range s.Storage.Binds {
		f := strings.Split(b, ":")
		if len(f) < 2 || len(f) > 3 || f[0] == "" || f[1] == "" {
			return errkind.InvalidArgument("invalid volume specification: '%s'", b)
		}
		p := MountPoint{Type: "bind", Source: f[0], Destination: f[1], RW: true, Propagation: "rprivate"}
		if len(f) == 3 {
			p.Mode = f[2]
			for _, o := range strings.Split(f[2], ",") {
				switch o {
				case "ro":
					p.RW = false
				case "nocopy":
					p.NoCopy = true
				case "rw", "z", "Z", "":
				case "private", "rprivate", "shared", "rshared", "slave", "rslave":
					p.Propagation = o
				default:
					return errkind.InvalidArgument("invalid mode: %s", f[2])
				}
			}
		}
		isVolume := !path.IsAbs(f[0])
		if isVolume {
			if err := volume.CheckName(f[0]); err != nil {
				return err
			}
			p.Propagation = ""
			if p.Mode == "" {
				p.Mode = "z"
			}
		}
		if err := add(p, f[0], isVolume); err != nil {
			return err
		}
	}
	for _, r := range s.Storage.Mounts {
		p := MountPoint{Type: r.Type, Source: r.Source, Destination: r.Target, RW: !r.ReadOnly}
		switch r.Type {
		case "bind":
			if _, err := os.Stat(r.Source); err != nil && (r.Bind == nil || !r.Bind.CreateMountpoint) {
				return errkind.InvalidArgument("invalid mount config for type %q: bind source path does not exist: %s", r.Type, r.Source)
			}
			p.Propagation = "rprivate"
			if r.Bind != nil && r.Bind.Propagation != "" {
				p.Propagation = r.Bind.Propagation
			}
			p.NonRecursive = r.Bind != nil && r.Bind.NonRecursive
			p.SkipMountpointCreation = true
		case "tmpfs":
			if t := r.Tmpfs; t != nil {
				var o []string
				if t.SizeBytes > 0 {
					o = append(o, "size="+strconv.FormatInt(t.SizeBytes, 10))
				}
				if t.Mode != 0 {
					o = append(o, "mode="+strconv.FormatUint(uint64(t.Mode), 8))
				}
				p.TmpfsData = strings.Join(o, ",")
			}
		case "volume":
			p.NoCopy = r.Volume != nil && r.Volume.NoCopy
		default:
			return errkind.InvalidArgument("invalid mount config for type %q: mount type unknown", r.Type)
		}
		if err := add(p, r.Source, r.Type == "volume"); err != nil {
			return err
		}
	}
	for _, from := range s.Storage.VolumesFrom {
		ref, mode, _ := strings.Cut(from, ":")
		if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
			return errkind.InvalidArgument("invalid mode for volumes-from: %s", mode)
		}
		d, err := m.Get(ref)
		if err != nil {
			return err
		}
		for _, p := range d.Spec.Storage.Points {
			if p.Type == "tmpfs" || seen[p.Destination] {
				continue // the container's own mounts win
			}
			seen[p.Destination] = true
			p.RW, p.Anonymous, p.NoCopy = p.RW && mode != "ro", false, true
			if mode != "" {
				p.Mode = mode
			}
			s.Storage.Points = append(s.Storage.Points, p)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(s.Storage.Volumes)) {
		if !seen[filepath.Clean(d)] {
			if err := add(MountPoint{Destination: d, RW: true}, "", true); err != nil {
				return err
			}
		}
	}
	return nil
}

// populate fills the empty volumes among the mount points with what the image has there.
func (m *Manager) populate(ctx context.Context, id ID, points []MountPoint) (err error) {
	volumes := slices.DeleteFunc(slices.Clone(points), func(p MountPoint) bool { return p.Type != "volume" || p.NoCopy })
	if len(volumes) == 0 {
		return nil
	}
	bundle := m.d.Runtime.BundleDir(string(id))
	root := filepath.Join(bundle, "rootfs")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shim.RemoveBundle(bundle)) }()
	if err := m.d.Images.MountRootfs(ctx, string(id), root); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	for _, p := range volumes {
		if err := m.d.Volumes.Populate(p.Name, root, p.Destination); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) reserveGenerated(id ID) string {
	for i := range 8 {
		n := left[rand.IntN(len(left))] + "_" + right[rand.IntN(len(right))]
		if i > 3 {
			n += strconv.Itoa(rand.IntN(10))
		}
		if m.reserve(n, id) == nil {
			return n
		}
	}
	n := ids.Short(string(id))
	_ = m.reserve(n, id) // an id is nobody else's name
	return n
}

// Words of the sea for containers nobody named.
var (
	left = strings.Fields(`able ample amber ardent azure balmy bold brave breezy bright brisk buoyant calm candid clear
		coastal cool coral crisp daring deep eager early fair fearless fine fleet fresh gentle glad golden grand hardy humble
		jolly keen kind light lively loyal lucid lucky mellow merry mighty modest neat nimble noble patient placid polished
		prime proud quick quiet ready robust salty serene sharp silent silver smooth solid sound spry steady stout sunny
		swift tidal tidy tranquil trim true vivid warm windward wise witty`)
	right = strings.Fields(`albatross anchor anchovy barge barnacle beacon bowline brig buoy cabin capstan captain clipper
		coaster compass coral corsair cormorant crane current cutter cuttlefish dinghy dock dolphin dory dredger eddy estuary
		ferry fjord fleet frigate galleon galley gannet grouper gull halyard harbor harpoon helm heron herring hull islet
		jetty kayak keel ketch knot lagoon lantern lighthouse limpet lobster lugger manta marina mariner marlin mast moorhen
		mooring mussel narwhal nautilus navigator oar octopus osprey oyster packet pelican pennant petrel pier pilot plover
		porpoise puffin quay raft reef regatta rigging rudder sail sailor sandpiper schooner seal sextant shoal skiff sloop
		spinnaker squid starfish steamer stern sturgeon surf tern tide tiller trawler trident tug turtle walrus wharf whale`)
)
