package oci

import (
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Harden gives the specification of a build step what a container gets without options: capabilities, seccomp profile, masked
// and read-only paths, device rules. insecure gives it what a privileged container gets.
func (b *Builder) Harden(s *specs.Spec, insecure bool) error {
	caps := defaultCaps
	if insecure {
		caps = b.o.AllCaps
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps}
	if s.Process.User.UID == 0 {
		s.Process.Capabilities.Permitted, s.Process.Capabilities.Effective = caps, caps
	}
	if insecure {
		s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
		return nil
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = MaskedPaths, ReadonlyPaths
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	s.Linux.Resources.Devices = defaultDevices()
	p, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return err
	}
	s.Linux.Seccomp = p
	return nil
}
