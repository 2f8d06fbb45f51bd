//go:build cgo && linux

package fastinit

import (
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// attrOf translates the flags of mount(2) that are properties of a mount.
var attrOf = []struct {
	flag int
	attr uint64
}{
	{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID}, {unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
	{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC}, {unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME}, {unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME},
	{unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME}, {unix.MS_RELATIME, 0}, {unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

const (
	atimeFlags = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME | unix.MS_STRICTATIME
	// plainAttrs are those that a remount with flags sets or clears, whatever the source had.
	plainAttrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW
)

// attributes fails for flags that are properties of the file system or otherwise unusual.
func attributes(flags int) (attr uint64, err error) {
	for _, a := range attrOf {
		if flags&a.flag != 0 {
			attr |= a.attr
			flags &^= a.flag
		}
	}
	if flags != 0 {
		return 0, errUncovered
	}
	return attr, nil
}

func propagations(flags []int) ([]propagation, error) {
	var out []propagation
	for _, f := range flags {
		p := propagation{kind: uint64(f &^ unix.MS_REC)}
		if f&unix.MS_REC != 0 {
			p.recursive = 1
		}
		if p.kind != unix.MS_PRIVATE && p.kind != unix.MS_SLAVE { // shared reaches the host: left to libct
			return nil, errUncovered
		}
		out = append(out, p)
	}
	return out, nil
}

// safeTarget refuses what needs more than the stage's own checks.
func safeTarget(dest string) bool {
	return path.IsAbs(dest) && path.Clean(dest) == dest && dest != "/" && !strings.HasPrefix(dest, "/proc/")
}

// mounts adds the mounts of a container in their order. procfs has to come first: what is mounted later is kept out of it.
func (p *plan) mounts(c *configs.Config, groups map[string]string) error {
	if len(c.Mounts) == 0 || c.Mounts[0].Device != "proc" || c.Mounts[0].Destination != "/proc" {
		return errUncovered
	}
	for i, m := range c.Mounts {
		if !safeTarget(m.Destination) || m.IDMapping != nil || m.Extensions != 0 || i > 0 && m.Destination == "/proc" {
			return errUncovered
		}
		var err error
		switch m.Device {
		case "bind":
			err = p.bind(m)
		case "cgroup":
			if cgroups.IsCgroup2UnifiedMode() {
				err = p.fs(m, "cgroup2")
			} else {
				err = p.cgroupV1(c, m, groups)
			}
		case "proc", "sysfs", "tmpfs", "devpts", "mqueue":
			err = p.fs(m, m.Device)
		default:
			err = errUncovered
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) fs(m *configs.Mount, typ string) error {
	prop, err := propagations(m.PropagationFlags)
	if err != nil || m.RecAttr != nil {
		return errUncovered
	}
	attr, err := attributes(m.Flags)
	if err != nil {
		return err
	}
	var options []string
	// Written to first, then sealed: see seals.
	if typ == "tmpfs" || m.Destination == "/dev" {
		attr &^= unix.MOUNT_ATTR_RDONLY
	} else if m.Flags&unix.MS_RDONLY != 0 {
		options = append(options, "ro")
	}
	for o := range strings.SplitSeq(m.Data, ",") {
		if o != "" {
			options = append(options, o)
		}
	}
	p.op(opMount, typ, m.Source, m.Destination, typ == "proc" || typ == "sysfs", attr, options, prop)
	return nil
}

func (p *plan) bind(m *configs.Mount) error {
	prop, err := propagations(m.PropagationFlags)
	if err != nil {
		return err
	}
	if m.Data != "" && m.Data != "bind" && m.Data != "rbind" {
		return errUncovered
	}
	var set, clr, rset, rclr uint64
	flags := m.Flags &^ (unix.MS_BIND | unix.MS_REC)
	if flags != 0 || m.ClearedFlags != 0 {
		if set, err = attributes(flags); err != nil {
			return err
		}
		clr = plainAttrs &^ set
		if flags&atimeFlags != 0 {
			clr |= unix.MOUNT_ATTR__ATIME
		}
	}
	if m.RecAttr != nil {
		rset, rclr = m.RecAttr.Attr_set, m.RecAttr.Attr_clr
	}
	p.op(opBind, m.Source, m.Destination, m.Flags&unix.MS_REC != 0, set, clr, rset, rclr, prop)
	return nil
}

// hierarchies are the mounted cgroup v1 hierarchies and where this process is in them; they do not change while it lives.
var hierarchies = sync.OnceValues(func() (h struct {
	mounts []cgroups.Mount
	own    map[string]string
}, err error) {
	if h.mounts, err = cgroups.GetCgroupMounts(false); err != nil {
		return h, err
	}
	h.own, err = cgroups.ParseCgroupFile("/proc/self/cgroup")
	return h, err
})

// cgroupV1 shows the container its own cgroup of each hierarchy: on a tmpfs, as libcontainer does.
func (p *plan) cgroupV1(c *configs.Config, m *configs.Mount, groups map[string]string) error {
	h, err := hierarchies()
	if err != nil {
		return err
	}
	const flags = unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	base := configs.Mount{Source: "tmpfs", Destination: m.Destination, Flags: flags, Data: "mode=755", PropagationFlags: m.PropagationFlags}
	if err := p.fs(&base, "tmpfs"); err != nil {
		return err
	}
	private := c.Namespaces.Contains(configs.NEWCGROUP)
	for _, mm := range h.mounts {
		name := filepath.Base(mm.Mountpoint)
		at := path.Join(m.Destination, name)
		if private {
			one := configs.Mount{Source: "cgroup", Destination: at, Flags: flags | m.Flags&unix.MS_RDONLY, Data: name}
			if name == "systemd" {
				one.Source, one.Data = "systemd", "name=systemd"
			}
			if err := p.fs(&one, "cgroup"); err != nil {
				return err
			}
		} else {
			src, err := groupOf(mm, h.own, groups)
			if err != nil {
				return err
			}
			if err := p.bind(&configs.Mount{Source: src, Destination: at, Flags: unix.MS_BIND | unix.MS_REC | m.Flags, PropagationFlags: m.PropagationFlags}); err != nil {
				return err
			}
		}
		if strings.Contains(name, ",") {
			for one := range strings.SplitSeq(name, ",") {
				p.op(opLink, name, path.Join(m.Destination, one))
			}
		}
	}
	return nil
}

// groupOf is the container's cgroup in a hierarchy, or the shim's in one that the container is not placed in.
func groupOf(m cgroups.Mount, own, groups map[string]string) (string, error) {
	for _, s := range m.Subsystems {
		for _, key := range []string{s, "name=" + s} {
			if g := groups[key]; g != "" {
				return g, nil
			}
		}
	}
	dir, err := m.GetOwnCgroup(own)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(m.Root, dir)
	return filepath.Join(m.Mountpoint, rel), err
}
