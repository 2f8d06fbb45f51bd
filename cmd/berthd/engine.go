package main

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/berthd/berth/cmd/berthd/config"
	"github.com/berthd/berth/cmd/internal/version"
	"github.com/berthd/berth/engine"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/shim"
)

// engineConfig turns options into the engine's plain values.
func engineConfig(c *config.Config, log *slog.Logger) (engine.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return engine.Config{}, err
	}
	ec := engine.Config{
		DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, ShimBinary: filepath.Join(filepath.Dir(self), "berth-shim"), StorageDriver: c.StorageDriver, BridgeName: c.Bridge, BridgeIP: c.Prefix,
		MTU: c.MTU, Firewall: c.IPTables, Forward: c.IPForward, ICC: c.ICC, Masq: c.IPMasq,
		Registry: registry.Config{Insecure: c.Insecure, Mirrors: c.Mirrors}, MaxDownloads: c.MaxDownloads, MaxUploads: c.MaxUploads, MaxAttempts: c.MaxAttempts, LiveRestore: c.LiveRestore,
		DefaultInit: c.Init, InitPath: c.InitPath, CgroupParent: c.CgroupParent, DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOpts, LogDriver: c.LogDriver, LogOptions: map[string]string{}, ShmSize: int64(c.ShmSize),
		DefaultRuntime: c.DefaultRuntime, Runtimes: map[string]shim.Runtime{}, SeccompProfile: c.SeccompProfile, NoNewPrivileges: c.NoNewPrivileges, Version: version.Version, Log: log,
	}
	ec.CrashAt = os.Getenv("BERTH_CRASH")
	for _, p := range []string{"/usr/libexec/docker/docker-init", "/usr/bin/docker-init", "/usr/sbin/docker-init", "/usr/bin/tini-static"} {
		if _, err := os.Stat(p); err == nil && ec.InitPath == "" {
			ec.InitPath = p
		}
	}
	maps.Copy(ec.LogOptions, c.LogOpts)
	for _, p := range c.Pools {
		ec.AddressPools = append(ec.AddressPools, engine.AddressPool{Base: p.Base, Size: p.Size})
	}
	for name, r := range c.Runtimes {
		ec.Runtimes[name] = shim.Runtime{Path: r.Path, Args: r.Args}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Ulimits)) {
		l := c.Ulimits[name]
		ec.Ulimits = append(ec.Ulimits, container.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	switch c.SeccompProfile {
	case "", "builtin", "unconfined":
	default:
		b, err := os.ReadFile(c.SeccompProfile)
		if err != nil {
			return ec, fmt.Errorf("opening seccomp profile (%s) failed: %w", c.SeccompProfile, err)
		}
		ec.SeccompProfile = string(b)
	}
	return ec, nil
}
