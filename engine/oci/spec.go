package oci

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/docker/go-units"
	"github.com/moby/profiles/seccomp"
	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/internal/errkind"
)

// defaultCaps is what a container may do unless told otherwise: a80425fb.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// MaskedPaths and ReadonlyPaths are the defaults, as inspect shows them.
var (
	MaskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// DefaultCgroupParent holds the containers' cgroups.
const DefaultCgroupParent = "/berth"

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Options are facts of the host and defaults of the daemon.
type Options struct {
	CgroupParent string // "" = /berth
	CgroupV2     bool
	InitPath     string // docker-init compatible program for --init
	DefaultInit  bool
	AllCaps      []string           // what the kernel knows, for privileged
	Ulimits      []container.Ulimit // defaults
}

// Builder makes specifications. Safe for concurrent use.
type Builder struct {
	o  Options
	mu struct {
		sync.Mutex
		profiles map[string]*specs.LinuxSeccomp // default profile by capability set
	}
}

// New makes a Builder.
func New(o Options) (*Builder, error) {
	if o.CgroupParent == "" {
		o.CgroupParent = DefaultCgroupParent
	}
	if o.AllCaps == nil {
		last, err := capability.ListSupported()
		if err != nil {
			return nil, err
		}
		// A daemon that lacks some itself (in a container, say) cannot hand them out.
		own, err := capability.NewPid2(0)
		if err != nil {
			return nil, err
		}
		if err := own.Load(); err != nil {
			return nil, err
		}
		for _, c := range last {
			if !own.Get(capability.BOUNDING, c) {
				continue
			}
			o.AllCaps = append(o.AllCaps, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	b := &Builder{o: o}
	b.mu.profiles = map[string]*specs.LinuxSeccomp{}
	return b, nil
}

// Build makes the specification of a container. in.Rootfs is mounted already: users are looked up in it.
func (b *Builder) Build(in container.SpecInput) (*specs.Spec, error) {
	c := in.C.Spec
	u, err := LookupUser(in.Rootfs, c.Process.User, c.Security.GroupAdd)
	if err != nil {
		return nil, err
	}
	caps, err := b.capabilities(c)
	if err != nil {
		return nil, err
	}
	limits, err := b.Resources(c)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version: specs.Version, Hostname: c.Hostname, Domainname: c.Domainname,
		Root:    &specs.Root{Path: in.Rootfs, Readonly: c.Security.ReadonlyRootfs},
		Process: process(c, u, c.Process.Argv(), c.Process.TTY, caps),
		Linux:   &specs.Linux{CgroupsPath: b.cgroup(c) + "/" + string(in.C.ID), Resources: limits, MaskedPaths: MaskedPaths, ReadonlyPaths: ReadonlyPaths, Sysctl: map[string]string{}},
	}
	if c.Namespaces.UTS == "host" {
		s.Hostname, s.Domainname = "", ""
	}
	for k, v := range c.Security.Sysctls {
		s.Linux.Sysctl[k] = v
	}
	if in.NetNS != "" && !strings.HasPrefix(c.Network.Mode, "container:") {
		if _, ok := s.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"]; !ok {
			s.Linux.Sysctl["net.ipv4.ip_unprivileged_port_start"] = "0"
		}
		if _, ok := s.Linux.Sysctl["net.ipv4.ping_group_range"]; !ok {
			s.Linux.Sysctl["net.ipv4.ping_group_range"] = "0 2147483647"
		}
	}
	adj := c.Resources.OomScoreAdj
	s.Process.OOMScoreAdj = &adj
	s.Process.NoNewPrivileges = slices.ContainsFunc(c.Security.SecurityOpt, func(o string) bool {
		return o == "no-new-privileges" || o == "no-new-privileges:true" || o == "no-new-privileges=true"
	})
	b.namespaces(s, in)
	s.Mounts = b.mounts(c, in)
	if (c.Init == nil && b.o.DefaultInit || c.Init != nil && *c.Init) && c.Namespaces.PID == "" {
		if b.o.InitPath == "" {
			return nil, errkind.InvalidArgument("docker-init: no init program is configured (init-path)")
		}
		s.Process.Args = append([]string{"/sbin/docker-init", "--"}, s.Process.Args...)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sbin/docker-init", Type: "bind", Source: b.o.InitPath, Options: []string{"bind", "ro"}})
	}
	if c.Security.MaskedPaths != nil {
		s.Linux.MaskedPaths = c.Security.MaskedPaths
	}
	if c.Security.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = c.Security.ReadonlyPaths
	}
	if err := b.secure(s, c, caps); err != nil {
		return nil, err
	}
	return s, b.rlimits(s, c)
}

func (b *Builder) cgroup(c *container.Spec) string {
	if p := c.Resources.CgroupParent; p != "" {
		return p
	}
	return b.o.CgroupParent
}

// process is shared by init and exec.
func process(c *container.Spec, u User, argv []string, tty bool, caps []string) *specs.Process {
	p := &specs.Process{
		Terminal: tty, Args: argv, Cwd: c.Process.WorkingDir, User: specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.Groups},
		Capabilities: &specs.LinuxCapabilities{Bounding: caps},
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if u.UID == 0 {
		p.Capabilities.Permitted, p.Capabilities.Effective = caps, caps
	}
	if tty && c.Process.ConsoleSize != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: c.Process.ConsoleSize[0], Width: c.Process.ConsoleSize[1]}
	}
	p.Env = environment(c, u, tty, nil)
	return p
}

// environment is what the process sees: defaults first, then the container's own list, then more.
func environment(c *container.Spec, u User, tty bool, more []string) []string {
	env := []string{defaultPath, "HOSTNAME=" + c.Hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	at := map[string]int{}
	for i, e := range env {
		k, _, _ := strings.Cut(e, "=")
		at[k] = i
	}
	for _, list := range [][]string{c.Process.Env, more} {
		for _, e := range list {
			k, _, has := strings.Cut(e, "=")
			if !has {
				continue
			}
			if i, ok := at[k]; ok {
				env[i] = e
				continue
			}
			at[k] = len(env)
			env = append(env, e)
		}
	}
	if _, ok := at["HOME"]; !ok {
		env = append(env, "HOME="+u.homeOr())
	}
	return env
}

// ExecProcess describes a further process in a container whose root is at rootfs.
func (b *Builder) ExecProcess(c *container.Snapshot, rootfs string, o container.ExecOptions) (*specs.Process, error) {
	name := o.User
	if name == "" {
		name = c.Spec.Process.User
	}
	u, err := LookupUser(rootfs, name, c.Spec.Security.GroupAdd)
	if err != nil {
		return nil, err
	}
	caps, err := b.capabilities(c.Spec)
	if err != nil {
		return nil, err
	}
	if o.Privileged {
		caps = b.o.AllCaps
	}
	p := process(c.Spec, u, o.Argv, o.TTY, caps)
	p.Env = environment(c.Spec, u, o.TTY, o.Env)
	if o.WorkingDir != "" {
		p.Cwd = o.WorkingDir
	}
	p.ConsoleSize = nil
	if o.TTY && o.ConsoleSize != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: o.ConsoleSize[0], Width: o.ConsoleSize[1]}
	}
	return p, nil
}

func (b *Builder) capabilities(c *container.Spec) ([]string, error) {
	if c.Security.Privileged {
		return b.o.AllCaps, nil
	}
	norm := func(field string, in []string) ([]string, bool, error) {
		var out []string
		all := false
		for _, n := range in {
			n = strings.ToUpper(n)
			if n == "ALL" {
				all = true
				continue
			}
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if !slices.Contains(b.o.AllCaps, n) {
				return nil, false, errkind.InvalidArgument("invalid %s: unknown capability: %q", field, n)
			}
			out = append(out, n)
		}
		return out, all, nil
	}
	add, addAll, err := norm("CapAdd", c.Security.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := norm("CapDrop", c.Security.CapDrop)
	if err != nil {
		return nil, err
	}
	base := defaultCaps
	switch {
	case addAll:
		base, add = b.o.AllCaps, nil
	case dropAll:
		base, drop = nil, nil
	}
	var out []string
	for _, n := range base {
		if !slices.Contains(drop, n) {
			out = append(out, n)
		}
	}
	for _, n := range add {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// Validate refuses what a start would refuse: capabilities, limits, security options.
func (b *Builder) Validate(c *container.Spec) error {
	if _, err := b.capabilities(c); err != nil {
		return err
	}
	for _, o := range c.Security.SecurityOpt {
		k, _, _ := strings.Cut(strings.Replace(o, ":", "=", 1), "=")
		if !slices.Contains([]string{"no-new-privileges", "seccomp", "apparmor", "label", "systempaths"}, k) {
			return errkind.InvalidArgument("invalid --security-opt 2: %q", o)
		}
	}
	r := c.Resources
	for _, rule := range r.DeviceCgroupRules {
		if _, err := deviceRule(rule); err != nil {
			return err
		}
	}
	if r.Memory != 0 && r.Memory < 6<<20 {
		return errkind.InvalidArgument("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return errkind.InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 {
		return errkind.InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if r.NanoCPUs > 0 && (r.CPUPeriod > 0 || r.CPUQuota > 0) {
		return errkind.InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
	}
	if r.OomScoreAdj < -1000 || r.OomScoreAdj > 1000 {
		return errkind.InvalidArgument("Invalid value %d, range for oom score adj is [-1000, 1000]", r.OomScoreAdj)
	}
	return nil
}

// Resources are the limits of a container for the runtime; the default device rules come first, the user's after them.
func (b *Builder) Resources(c *container.Spec) (*specs.LinuxResources, error) {
	r := c.Resources
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}, Memory: &specs.LinuxMemory{}}
	if r.CPUShares > 0 {
		v := uint64(r.CPUShares)
		out.CPU.Shares = &v
	}
	period, quota := uint64(r.CPUPeriod), r.CPUQuota
	if r.NanoCPUs > 0 {
		period = 100000
		quota = r.NanoCPUs * int64(period) / 1e9
	}
	if period > 0 {
		out.CPU.Period = &period
	}
	if quota > 0 {
		out.CPU.Quota = &quota
	}
	if r.Memory > 0 {
		swap := r.MemorySwap
		if swap == 0 {
			swap = 2 * r.Memory
		}
		out.Memory.Limit, out.Memory.Swap = &r.Memory, &swap
	}
	if r.MemoryReservation > 0 {
		out.Memory.Reservation = &r.MemoryReservation
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		v := uint64(*r.MemorySwappiness)
		out.Memory.Swappiness = &v
	}
	if !b.o.CgroupV2 {
		out.Memory.DisableOOMKiller = r.OomKillDisable
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: r.PidsLimit}
	}
	var err error
	if out.BlockIO, err = blockIO(&r); err != nil {
		return nil, err
	}
	if c.Security.Privileged {
		out.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return out, nil
	}
	out.Devices = defaultDevices()
	_, rules, err := devices(r.Devices)
	if err != nil {
		return nil, err
	}
	out.Devices = append(out.Devices, rules...)
	for _, text := range r.DeviceCgroupRules {
		rule, err := deviceRule(text)
		if err != nil {
			return nil, err
		}
		out.Devices = append(out.Devices, rule)
	}
	return out, nil
}

func (b *Builder) namespaces(s *specs.Spec, in container.SpecInput) {
	c := in.C.Spec
	add := func(t specs.LinuxNamespaceType, mode, path string) {
		if mode == "host" {
			return
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	add(specs.MountNamespace, "", "")
	add(specs.PIDNamespace, c.Namespaces.PID, in.PIDNS)
	add(specs.IPCNamespace, c.Namespaces.IPC, in.IPCNS)
	add(specs.UTSNamespace, c.Namespaces.UTS, "")
	if in.NetNS != "" {
		add(specs.NetworkNamespace, "", in.NetNS)
	}
	add(specs.CgroupNamespace, c.Namespaces.Cgroup, "")
}

func (b *Builder) mounts(c *container.Spec, in container.SpecInput) []specs.Mount {
	sysro, cgro := "ro", "ro"
	if c.Security.Privileged {
		sysro, cgro = "rw", "rw"
	}
	shm := c.Storage.ShmSize
	if shm == 0 {
		shm = 64 << 20
	}
	ms := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sysro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{cgro, "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}},
	}
	for i := range ms {
		switch d := ms[i].Destination; {
		case d == "/dev/shm" && in.Shm != "":
			ms[i] = specs.Mount{Destination: d, Type: "bind", Source: in.Shm, Options: []string{"rbind", "rprivate"}}
		case d == "/dev/mqueue" && c.Namespaces.IPC == "host":
			ms[i] = specs.Mount{Destination: d, Type: "bind", Source: d, Options: []string{"rbind", "rprivate"}}
		}
	}
	if c.Namespaces.IPC == "none" {
		ms = slices.DeleteFunc(ms, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
	}
	var user []specs.Mount
	for _, f := range in.Files {
		user = append(user, specs.Mount{Destination: f.Destination, Type: "bind", Source: f.Source, Options: []string{"rbind", "rprivate"}})
	}
	for dst, opts := range c.Storage.Tmpfs {
		o := []string{"noexec", "nosuid", "nodev"}
		if opts != "" {
			o = append(o, strings.Split(opts, ",")...)
		}
		user = append(user, specs.Mount{Destination: dst, Type: "tmpfs", Source: "tmpfs", Options: o})
	}
	for _, p := range c.Storage.Points {
		m := specs.Mount{Destination: p.Destination, Type: "bind", Source: p.Source, Options: []string{"rbind", "rprivate"}}
		if p.Propagation != "" {
			m.Options[1] = p.Propagation
		}
		if p.NonRecursive {
			m.Options[0] = "bind"
		}
		if p.Type == "tmpfs" {
			m.Type, m.Source, m.Options = "tmpfs", "tmpfs", append([]string{"noexec", "nosuid", "nodev"}, strings.FieldsFunc(p.TmpfsData, func(r rune) bool { return r == ',' })...)
		}
		if !p.RW {
			m.Options = append(m.Options, "ro")
		}
		user = append(user, m)
	}
	slices.SortStableFunc(user, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	ms = slices.DeleteFunc(ms, func(d specs.Mount) bool {
		return slices.ContainsFunc(user, func(u specs.Mount) bool {
			return u.Destination == d.Destination || u.Destination == "/dev" && strings.HasPrefix(d.Destination, "/dev/")
		})
	})
	return append(ms, user...)
}

// secure applies seccomp and lifts the restrictions of privileged containers.
func (b *Builder) secure(s *specs.Spec, c *container.Spec, caps []string) error {
	if c.Security.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		s.Linux.Devices = hostDevices()
	}
	nodes, _, err := devices(c.Resources.Devices)
	if err != nil {
		return err
	}
	s.Linux.Devices = append(s.Linux.Devices, nodes...)
	profile := ""
	for _, o := range c.Security.SecurityOpt {
		k, v, _ := strings.Cut(strings.Replace(o, ":", "=", 1), "=")
		switch {
		case k == "seccomp":
			profile = v
		case k == "systempaths" && v == "unconfined":
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		}
	}
	switch {
	case profile == "unconfined", profile == "" && c.Security.Privileged:
		return nil
	case profile != "" && profile != "builtin":
		p, err := seccomp.LoadProfile(profile, s)
		if err != nil {
			return errkind.InvalidArgument("Decoding seccomp profile failed: %w", err)
		}
		s.Linux.Seccomp = p
		return nil
	}
	key := strings.Join(caps, ",")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.profiles[key] == nil {
		p, err := seccomp.GetDefaultProfile(s)
		if err != nil {
			return err
		}
		b.mu.profiles[key] = p
	}
	s.Linux.Seccomp = b.mu.profiles[key]
	return nil
}

func (b *Builder) rlimits(s *specs.Spec, c *container.Spec) error {
	for _, l := range append(slices.Clone(b.o.Ulimits), c.Resources.Ulimits...) {
		u := units.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard}
		if _, err := u.GetRlimit(); err != nil {
			return errkind.InvalidArgument("%w", err)
		}
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)}
		s.Process.Rlimits = slices.DeleteFunc(s.Process.Rlimits, func(o specs.POSIXRlimit) bool { return o.Type == r.Type })
		s.Process.Rlimits = append(s.Process.Rlimits, r)
	}
	return nil
}
