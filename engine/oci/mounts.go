package oci

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/container"
)

// mounts are the defaults, then the engine's files, then the user's; what the user mounts replaces what stood there.
func (b *Builder) mounts(c *container.Spec, in container.SpecInput, o container.SecurityOptions) ([]specs.Mount, error) {
	user, err := userMounts(c, in)
	if err != nil {
		return nil, err
	}
	ms := defaultMounts(c, in)
	ms = slices.DeleteFunc(ms, func(d specs.Mount) bool {
		return slices.ContainsFunc(user, func(u specs.Mount) bool {
			return u.Destination == d.Destination || u.Destination == "/dev" && strings.HasPrefix(d.Destination, "/dev/")
		})
	})
	for i, m := range ms {
		switch m.Destination {
		case "/sys":
			if !c.Security.Privileged || c.Security.ReadonlyRootfs {
				ms[i].Options = append(m.Options, "ro")
			}
		case "/sys/fs/cgroup":
			if writable := c.Security.Privileged; o.WritableCgroups == nil && !writable || o.WritableCgroups != nil && !*o.WritableCgroups {
				ms[i].Options = append(m.Options, "ro")
			}
		}
	}
	return append(ms, user...), nil
}

func defaultMounts(c *container.Spec, in container.SpecInput) []specs.Mount {
	shm := c.Storage.ShmSize
	if shm == 0 {
		shm = 64 << 20
	}
	ms := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	switch {
	case c.Namespaces.IPC == "none": // no shared memory at all
	case in.Shm != "":
		ms = append(ms, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: in.Shm, Options: []string{"rbind", "rprivate"}})
	default:
		ms = append(ms, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", shm)}})
	}
	return ms
}

// userMounts are the engine's files and all that was asked for, outer before inner.
func userMounts(c *container.Spec, in container.SpecInput) ([]specs.Mount, error) {
	var user []specs.Mount
	for _, f := range in.Files {
		if slices.ContainsFunc(c.Storage.Points, func(p container.MountPoint) bool { return p.Destination == f.Destination }) {
			continue
		}
		m := specs.Mount{Destination: f.Destination, Type: "bind", Source: f.Source, Options: []string{"rbind", "rprivate"}}
		if c.Security.ReadonlyRootfs {
			m.Options = append(m.Options, "ro")
		}
		user = append(user, m)
	}
	for dst, words := range c.Storage.Tmpfs {
		o, err := tmpfsOptions(words)
		if err != nil {
			return nil, err
		}
		user = append(user, specs.Mount{Destination: path.Clean(dst), Type: "tmpfs", Source: "tmpfs", Options: o})
	}
	for _, p := range in.Points {
		m, err := pointMount(p)
		if err != nil {
			return nil, err
		}
		user = append(user, m)
	}
	slices.SortStableFunc(user, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return user, nil
}

func pointMount(p container.MountPoint) (specs.Mount, error) {
	m := specs.Mount{Destination: path.Join("/", p.Destination), Type: "bind", Source: p.Source, Options: []string{"rbind"}}
	if p.Type == "tmpfs" {
		o, err := tmpfsOptions(p.TmpfsData)
		m.Type, m.Source, m.Options = "tmpfs", "tmpfs", o
		return m, err
	}
	if p.NonRecursive {
		m.Options[0] = "bind"
	}
	switch {
	case p.RW:
	case p.ReadOnlyNonRecursive:
		m.Options = append(m.Options, "ro")
	default:
		m.Options = append(m.Options, "rro")
	}
	if p.Propagation != "" {
		m.Options = append(m.Options, p.Propagation)
	}
	return m, nil
}

// Words of a tmpfs: flags, and keys that take a value.
var (
	tmpfsFlags = strings.Fields("defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime")
	tmpfsKeys  = strings.Fields("size mode uid gid nr_inodes nr_blocks mpol")
)

// tmpfsOptions puts the user's words after the safe defaults; of words that contradict each other the last wins.
func tmpfsOptions(words string) ([]string, error) {
	out := []string{"noexec", "nosuid", "nodev"}
	for _, w := range strings.FieldsFunc(words, func(r rune) bool { return r == ',' }) {
		if slices.Contains(tmpfsFlags, w) {
			out = append(out, w)
			continue
		}
		k, _, ok := strings.Cut(w, "=")
		if !ok || !slices.Contains(tmpfsKeys, k) {
			return nil, fmt.Errorf("invalid tmpfs option %q", k)
		}
		// The kernel takes the last of the same key, but says so in /proc/mounts only of one.
		out = slices.DeleteFunc(out, func(o string) bool { return strings.HasPrefix(o, k+"=") })
		out = append(out, w)
	}
	return out, nil
}

// rootPropagation is what the container's root must be so that mounts below can reach it or leave it; "" is the runtime's
// default.
func rootPropagation(points []container.MountPoint) string {
	out := ""
	for _, p := range points {
		switch p.Propagation {
		case "shared", "rshared":
			return "shared"
		case "slave", "rslave":
			out = "rslave"
		}
	}
	return out
}
