package container

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/signal"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/logs/drivers"
	"github.com/berthd/berth/engine/network"
)

// check refuses what cannot be a container, in dockerd's words, and takes out limits that this host cannot enforce; the
// warnings say which. s is complete: merged with the image, defaults filled in.
func (m *Manager) check(s *Spec) (warnings []string, err error) {
	for _, f := range []func(*Spec) error{checkProcess, m.checkHost, checkModes} {
		if err := f(s); err != nil {
			return nil, err
		}
	}
	if warnings, err = checkLimits(&s.Resources, m.d.Host, false); err != nil {
		return nil, err
	}
	if s.Resources.OomScoreAdj < -1000 || s.Resources.OomScoreAdj > 1000 {
		return nil, errkind.InvalidArgument("Invalid value %d, range for oom score adj is [-1000, 1000]", s.Resources.OomScoreAdj)
	}
	for _, d := range s.Network.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			return nil, errkind.InvalidArgument("invalid JSON: %w", err) // where clients know it from
		}
	}
	if s.Network.Mode == network.Host && len(s.Network.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	if s.Namespaces.Cgroup == "private" && !m.d.Host.CgroupNamespaces {
		warnings = append(warnings, "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
		s.Namespaces.Cgroup = "host"
	}
	return warnings, m.d.Specs.Validate(s)
}

// checkProcess looks at what runs.
func checkProcess(s *Spec) error {
	if len(s.Process.Argv()) == 0 {
		return errkind.InvalidArgument("no command specified")
	}
	if w := s.Process.WorkingDir; w != "" && !path.IsAbs(w) {
		return errkind.InvalidArgument("the working directory '%s' is invalid, it needs to be an absolute path", w)
	}
	if w := s.Stop.Signal; w != "" {
		if _, err := signal.ParseSignal(w); err != nil {
			return errkind.InvalidArgument("invalid signal: %s", w)
		}
	}
	for _, e := range s.Process.Env {
		if e == "" || strings.HasPrefix(e, "=") {
			return errkind.InvalidArgument("invalid environment variable: %s", e)
		}
	}
	return checkHealth(s.Health)
}

// checkHost looks at the rest that needs no namespaces or limits.
func (m *Manager) checkHost(s *Spec) error {
	if s.AutoRemove && s.Restart.Name != "no" {
		return errkind.InvalidArgument("can't create 'AutoRemove' container with restart policy")
	}
	for name, a := range s.Network.Attachments {
		if len(a.LinkLocal) > 0 {
			return errkind.NotImplemented("link-local addresses in network %s: not supported yet", name)
		}
	}
	for _, h := range s.Network.ExtraHosts {
		name, ip, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return errkind.InvalidArgument("bad format for add-host: %q", h)
		}
		if _, err := netip.ParseAddr(strings.TrimSpace(ip)); err != nil && ip != hostGateway {
			return errkind.InvalidArgument("invalid IP address in add-host: %q", ip)
		}
	}
	if err := checkPolicy(s.Restart); err != nil {
		return err
	}
	if w := strings.ToLower(s.Isolation); w != "" && w != "default" {
		return errkind.InvalidArgument("invalid isolation (%s): linux only supports 'default'", s.Isolation)
	}
	if s.Resources.IOMaximumIOps != 0 {
		return errkind.InvalidArgument("invalid option: QoS maximum IOPs configuration is not supported on linux")
	}
	if s.Resources.IOMaximumBandwidth != 0 {
		return errkind.InvalidArgument("invalid option: QoS maximum bandwidth configuration is not supported on linux")
	}
	if _, ok := s.Annotations[""]; ok {
		return errkind.InvalidArgument("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	if s.Storage.ShmSize < 0 {
		return errkind.InvalidArgument("SHM size can not be less than 0")
	}
	// Quotas need a backing file system with project quotas, which the snapshotter does not use.
	for k := range s.Storage.StorageOpt {
		if k != "size" {
			return errkind.Internal("Unknown option %s", k)
		}
		return errkind.Internal("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
	}
	if _, err := m.intent(s); err != nil {
		return err
	}
	if _, ok := m.d.Defaults.Runtimes[s.Runtime]; !ok && s.Runtime != builtinRuntime {
		return errkind.InvalidArgument("unknown or invalid runtime name: %s", s.Runtime)
	}
	if err := logs.ValidateOptions(logs.Config{Driver: s.Log.Driver, Options: s.Log.Options}); err != nil || !drivers.Remote(s.Log.Driver) {
		return err
	}
	return drivers.Validate(s.Log.Driver, s.Log.Options)
}

// checkModes looks at the words for namespaces. User is not looked at: without remapping every word means the same.
func checkModes(s *Spec) error {
	joined := func(mode string) bool { return len(mode) > len(joinPrefix) && strings.HasPrefix(mode, joinPrefix) }
	n := s.Namespaces
	switch {
	case s.Network.Mode == joinPrefix:
		return errkind.InvalidArgument("invalid network mode: invalid container format container:<name|id>")
	case !joined(n.IPC) && !slices.Contains([]string{"none", "private", "shareable", "host"}, n.IPC):
		return errkind.InvalidArgument("invalid IPC mode: %s", n.IPC)
	case !joined(n.PID) && n.PID != "" && n.PID != "host":
		return errkind.InvalidArgument("invalid PID mode: %s", n.PID)
	case n.UTS != "" && n.UTS != "host":
		return errkind.InvalidArgument("invalid UTS mode: %s", n.UTS)
	case n.Cgroup != "private" && n.Cgroup != "host":
		return errkind.InvalidArgument("invalid cgroup namespace mode: %s", n.Cgroup)
	}
	return nil
}

// checkPolicy refuses a restart policy that is none; the name is filled in.
func checkPolicy(p RestartPolicy) error {
	switch p.Name {
	case "no", "always", "unless-stopped":
		if p.MaxRetries != 0 {
			text := "invalid restart policy: maximum retry count can only be used with 'on-failure'"
			if p.MaxRetries < 0 {
				text += " and cannot be negative"
			}
			return errkind.InvalidArgument("%s", text)
		}
		return nil
	case "on-failure":
		if p.MaxRetries < 0 {
			return errkind.InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
		}
		return nil
	}
	return errkind.InvalidArgument("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", p.Name)
}
