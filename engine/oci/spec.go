package oci

import (
	"os"
	"strings"
	"sync"

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
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
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
	AllCaps      []string           // what the kernel knows and this process may pass on, for privileged
	Ulimits      []container.Ulimit // defaults
	// Seccomp replaces the built-in profile: a profile's JSON, "unconfined", "builtin" or "".
	Seccomp         string
	NoNewPrivileges bool // of containers that do not say
	AppArmor        bool // the kernel has it
	// Sysctls that the kernel does not have are not set by default. nil asks /proc/sys.
	HasSysctl func(key string) bool
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
	if o.HasSysctl == nil {
		o.HasSysctl = hasSysctl
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
	s.Annotations = c.Annotations
	b.sysctls(s, c, in.NetNS != "" && !strings.HasPrefix(c.Network.Mode, "container:"))
	s.Process.Env = environment(c, u, c.Process.TTY, in.Env, nil)
	adj := c.Resources.OomScoreAdj
	s.Process.OOMScoreAdj = &adj
	b.namespaces(s, in)
	opts, err := b.options(c)
	if err != nil {
		return nil, err
	}
	if s.Mounts, err = b.mounts(c, in, opts); err != nil {
		return nil, err
	}
	s.Linux.RootfsPropagation = rootPropagation(in.Points)
	if (c.Init == nil && b.o.DefaultInit || c.Init != nil && *c.Init) && c.Namespaces.PID == "" {
		if b.o.InitPath == "" {
			return nil, errkind.InvalidArgument("docker-init: no init program is configured (init-path)")
		}
		s.Process.Args = append([]string{"/sbin/docker-init", "--"}, s.Process.Args...)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sbin/docker-init", Type: "bind", Source: b.o.InitPath, Options: []string{"bind", "ro"}})
	}
	if err := b.secure(s, c, opts, caps); err != nil {
		return nil, err
	}
	b.rlimits(s, c)
	return s, nil
}

// sysctls sets the user's and, in a network namespace of the container's own, those that let it do without privileges what a
// container is expected to do.
func (b *Builder) sysctls(s *specs.Spec, c *container.Spec, ownNet bool) {
	if ownNet {
		for k, v := range map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"} {
			if b.o.HasSysctl(k) {
				s.Linux.Sysctl[k] = v
			}
		}
	}
	for k, v := range c.Security.Sysctls {
		s.Linux.Sysctl[k] = v
	}
}

func hasSysctl(key string) bool {
	_, err := os.Stat("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	return err == nil
}

func (b *Builder) cgroup(c *container.Spec) string {
	if p := c.Resources.CgroupParent; p != "" {
		return p
	}
	return b.o.CgroupParent
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
