package oci

import (
	"slices"
	"strings"

	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

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
	p.Env = environment(c, u, tty, nil, nil)
	return p
}

// environment is what the process sees: defaults first, then what links give, then the container's own list, then more.
func environment(c *container.Spec, u User, tty bool, links, more []string) []string {
	env := []string{defaultPath, "HOSTNAME=" + c.Hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	at := map[string]int{}
	for i, e := range env {
		k, _, _ := strings.Cut(e, "=")
		at[k] = i
	}
	for _, list := range [][]string{links, c.Process.Env, more} {
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
	opts, err := b.options(c.Spec)
	if err != nil {
		return nil, err
	}
	p := process(c.Spec, u, o.Argv, o.TTY, caps)
	p.NoNewPrivileges, p.ApparmorProfile = opts.NoNewPrivileges, b.apparmor(c.Spec, opts)
	if o.Privileged && p.ApparmorProfile != "" {
		p.ApparmorProfile = "unconfined"
	}
	p.Env = environment(c.Spec, u, o.TTY, o.LinkEnv, o.Env)
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
				if slices.ContainsFunc(capability.ListKnown(), func(c capability.Cap) bool { return "CAP_"+strings.ToUpper(c.String()) == n }) {
					return nil, false, errkind.InvalidArgument("invalid %s: capability not supported by your kernel or not available in the current environment: %q", field, n)
				}
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

// rlimits sets the container's limits over the daemon's defaults; the runtime refuses a name that is none.
func (b *Builder) rlimits(s *specs.Spec, c *container.Spec) {
	for _, l := range append(slices.Clone(b.o.Ulimits), c.Resources.Ulimits...) {
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)}
		s.Process.Rlimits = slices.DeleteFunc(s.Process.Rlimits, func(o specs.POSIXRlimit) bool { return o.Type == r.Type })
		s.Process.Rlimits = append(s.Process.Rlimits, r)
	}
}
