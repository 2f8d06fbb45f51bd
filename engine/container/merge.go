package container

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/network"
)

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
	for _, mode := range []*string{&s.Network.Mode, &s.Namespaces.IPC, &s.Namespaces.PID} {
		*mode = m.fullMode(*mode)
	}
	s.Security.SecurityOpt = defaultSecurityOpt(s)
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
	}
	options := map[string]string{}
	if s.Log.Driver == m.d.Defaults.LogDriver {
		maps.Copy(options, m.d.Defaults.LogOptions)
	}
	maps.Copy(options, s.Log.Options)
	s.Log.Options = options
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
		if m.d.Host.CgroupV2 && !s.Security.Privileged && !o.OldCgroupnsDefault {
			s.Namespaces.Cgroup = "private"
		}
	}
	if s.Runtime == "" {
		s.Runtime = m.d.Defaults.Runtime
	}
	if s.Resources.OomKillDisable == nil && m.d.Host.OomKillDisable {
		s.Resources.OomKillDisable = new(bool)
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

// fullMode writes a mode "container:x" with the full id, so that renaming x changes nothing. One that names no container
// stays as it is.
func (m *Manager) fullMode(mode string) string {
	ref, ok := strings.CutPrefix(mode, joinPrefix)
	if !ok || ref == "" {
		return mode
	}
	d, err := m.Get(ref)
	if err != nil {
		return mode
	}
	return joinPrefix + string(d.ID)
}
