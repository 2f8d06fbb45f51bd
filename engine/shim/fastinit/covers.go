//go:build cgo && linux

package fastinit

import (
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/capability"
	"github.com/moby/sys/userns"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// kernelHas reports whether the kernel knows every call the stage makes that is newer than 5.0.
var kernelHas = sync.OnceValue(func() bool {
	if userns.RunningInUserNS() {
		return false // devices have to be bound, limits may be ignored: libct knows
	}
	for _, call := range []uintptr{unix.SYS_OPENAT2, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_CLOSE_RANGE, unix.SYS_CLONE3, unix.SYS_PIDFD_OPEN} {
		// Nonsense for each of them: known calls say so with another error.
		if _, _, e := unix.Syscall6(call, ^uintptr(0), 0, ^uintptr(0), ^uintptr(0), 0, 0); e == unix.ENOSYS || e == unix.EPERM {
			return false
		}
	}
	return true
})

// covered says what of a container is left to libct. What is not listed is either done here or refused by specconv.
func covered(c *configs.Config, p *specs.Process) error {
	hooks := 0
	for _, h := range c.Hooks {
		hooks += len(h)
	}
	switch {
	case !kernelHas(), p == nil, len(p.Args) == 0,
		hooks > 0, c.NoPivotRoot, c.ParentDeathSignal != 0, c.RootPropagation != 0, c.NoNewKeyring,
		c.Namespaces.Contains(configs.NEWUSER), c.Namespaces.Contains(configs.NEWTIME), c.UIDMappings != nil, c.GIDMappings != nil,
		c.MountLabel != "", len(c.NetDevices) > 0, len(c.Networks) > 0, len(c.Routes) > 0,
		c.IntelRdt != nil, c.MemoryPolicy != nil, c.RootlessEUID, c.RootlessCgroups, c.Personality != nil,
		c.Cgroups == nil, c.Cgroups.Systemd, c.Cgroups.OwnerUID != nil:
		return errUncovered
	}
	return coveredProcess(p)
}

func coveredProcess(p *specs.Process) error {
	if len(p.Args) == 0 || p.ApparmorProfile != "" || p.SelinuxLabel != "" || p.Scheduler != nil || p.IOPriority != nil || p.ExecCPUAffinity != nil {
		return errUncovered
	}
	zero := func(s string) bool { return strings.IndexByte(s, 0) >= 0 }
	if slices.ContainsFunc(p.Args, zero) || zero(p.Cwd) || int32(p.User.UID) < 0 || int32(p.User.GID) < 0 {
		return errUncovered
	}
	return nil
}

// capNumbers knows the capabilities of this kernel by their names.
var capNumbers = sync.OnceValues(func() (map[string]int, error) {
	all, err := capability.ListSupported()
	out := map[string]int{}
	for _, c := range all {
		out["CAP_"+strings.ToUpper(c.String())] = int(c)
	}
	return out, err
})

// capabilitySets are bounding, effective, permitted, inheritable and ambient as bits. A name that the kernel does not know is
// left out, as by libcontainer. Without sets nothing would be dropped: that is not done here.
func capabilitySets(c *specs.LinuxCapabilities) (out [5]uint64, err error) {
	if c == nil {
		return out, errUncovered
	}
	known, err := capNumbers()
	if err != nil {
		return out, err
	}
	for i, set := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
		for _, name := range set {
			if n, ok := known[name]; ok {
				out[i] |= 1 << n
			}
		}
	}
	return out, nil
}
