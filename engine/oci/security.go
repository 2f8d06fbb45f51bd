package oci

import (
	"strings"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/container"
)

const (
	unconfined = "unconfined"
	builtin    = "builtin"
	// defaultAppArmor is the profile of containers that ask for none, where the kernel has AppArmor.
	defaultAppArmor = "docker-default"
)

// Validate refuses what can be told without the host: unknown capabilities and security options.
func (b *Builder) Validate(c *container.Spec) error {
	if _, err := b.capabilities(c); err != nil {
		return err
	}
	_, err := b.options(c)
	return err
}

func (b *Builder) options(c *container.Spec) (container.SecurityOptions, error) {
	return container.ParseSecurityOpt(c.Security.SecurityOpt, container.SecurityOptions{NoNewPrivileges: b.o.NoNewPrivileges})
}

// secure applies the profiles, the devices and the hidden paths.
func (b *Builder) secure(s *specs.Spec, c *container.Spec, o container.SecurityOptions, caps []string) error {
	s.Process.NoNewPrivileges, s.Process.ApparmorProfile = o.NoNewPrivileges, b.apparmor(c, o)
	if c.Security.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		s.Linux.Devices = hostDevices()
	}
	if c.Security.MaskedPaths != nil {
		s.Linux.MaskedPaths = c.Security.MaskedPaths
	}
	if c.Security.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = c.Security.ReadonlyPaths
	}
	nodes, _, err := devices(c.Resources.Devices)
	if err != nil {
		return err
	}
	s.Linux.Devices = append(s.Linux.Devices, nodes...)
	if err := deviceRequests(c.Resources.DeviceRequests); err != nil {
		return err
	}
	s.Linux.Seccomp, err = b.seccomp(s, c.Security.Privileged, o.Seccomp, caps)
	return err
}

// apparmor is the profile of a process; "" where the kernel has none.
func (b *Builder) apparmor(c *container.Spec, o container.SecurityOptions) string {
	switch {
	case !b.o.AppArmor:
		return ""
	case o.AppArmor != "":
		return o.AppArmor
	case c.Security.Privileged:
		return unconfined
	}
	return defaultAppArmor
}

// seccomp picks the filter: the container's own, then the daemon's, then the built-in one; nil for none.
func (b *Builder) seccomp(s *specs.Spec, privileged bool, profile string, caps []string) (*specs.LinuxSeccomp, error) {
	if profile == "" && !privileged {
		profile = b.o.Seccomp
	}
	switch {
	case profile == unconfined, profile == "" && privileged:
		return nil, nil //nolint:nilnil // none
	case profile != "" && profile != builtin:
		return seccomp.LoadProfile(profile, s)
	}
	// Which calls are allowed depends on the capabilities alone.
	key := strings.Join(caps, ",")
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.mu.profiles[key]; p != nil {
		return p, nil
	}
	p, err := seccomp.GetDefaultProfile(s)
	if err == nil {
		b.mu.profiles[key] = p
	}
	return p, err
}
