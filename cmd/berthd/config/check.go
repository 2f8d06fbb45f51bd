package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// check looks at the whole; errors name the option.
func (c *Config) check() error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix:///run/berth.sock"}
	}
	if c.ShmSize == 0 {
		c.ShmSize = 64 << 20
	}
	said := func(name string) bool { return c.flags.Changed(name) || c.inFile[name] }
	c.saidNo = !c.TLSVerify && (said("tlsverify") || !c.TLS && said("tls"))
	c.TLS = c.TLS || said("tlsverify") // with false: encrypted, and anybody may come
	for _, f := range []func() error{c.checkHosts, c.checkNetwork, c.checkNumbers, c.checkLabels, c.checkRuntimes, c.checkFeatures, c.checkTLS, c.checkSeccomp} {
		if err := f(); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, c.LogLevel) {
		return fmt.Errorf("invalid logging level: %s", c.LogLevel)
	}
	if !slices.Contains([]string{"", "overlay2", "overlayfs", "native", "vfs"}, c.StorageDriver) {
		return fmt.Errorf("the storage driver %s is not supported: use overlay2 (overlayfs) or vfs (native)", c.StorageDriver)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("invalid log format: %s", c.LogFormat)
	}
	return nil
}

// checkHosts: who reaches a TCP socket without client certificates is root here, so it must be meant.
func (c *Config) checkHosts() error {
	for _, h := range c.Hosts {
		if strings.HasPrefix(h, "tcp://") && !c.TLSVerify && !c.saidNo {
			return fmt.Errorf("binding %s without client certificates gives root to whoever reaches it: use --tlsverify, or say --tls=false or --tlsverify=false if that is meant", h)
		}
	}
	return nil
}

func (c *Config) checkNetwork() error {
	if c.BIP != "" {
		p, err := netip.ParsePrefix(c.BIP)
		if err != nil || !p.Addr().Is4() {
			return fmt.Errorf("invalid --bip %q: want an IPv4 address with a prefix length", c.BIP)
		}
		c.Prefix = p
	}
	for _, p := range c.Pools {
		if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen() {
			return fmt.Errorf("invalid default-address-pool %s: want a base and a size between its prefix length and %d", p, p.Base.Addr().BitLen())
		}
	}
	return nil
}

func (c *Config) checkNumbers() error {
	for _, n := range []struct {
		what  string
		value int
	}{
		{"default MTU", c.MTU}, {"max concurrent downloads", c.MaxDownloads}, {"max concurrent uploads", c.MaxUploads}, {"max download attempts", c.MaxAttempts},
	} {
		if n.value < 0 {
			return fmt.Errorf("invalid %s: %d", n.what, n.value)
		}
	}
	if c.flags.Changed("max-download-attempts") && c.MaxAttempts == 0 {
		return fmt.Errorf("invalid max download attempts: %d", c.MaxAttempts)
	}
	return nil
}

func (c *Config) checkLabels() error {
	seen := map[string]string{}
	var out []string
	for _, l := range c.Labels {
		k, v, _ := strings.Cut(l, "=")
		if old, ok := seen[k]; ok && old != v {
			return fmt.Errorf("conflict labels for %s=%s and %s=%s", k, v, k, old)
		} else if !ok {
			out = append(out, l)
		}
		seen[k] = v
	}
	c.Labels = out
	return nil
}

func (c *Config) checkRuntimes() error {
	if _, ok := c.Runtimes[c.DefaultRuntime]; !ok && c.DefaultRuntime != stockRuntime {
		return fmt.Errorf("specified default runtime '%s' does not exist", c.DefaultRuntime)
	}
	for name, r := range c.Runtimes {
		switch {
		case r.Path == "" && r.Type == "":
			return fmt.Errorf("runtime %s: either a runtimeType or a path must be configured", name)
		case r.Path != "" && r.Type != "":
			return fmt.Errorf("runtime %s: cannot configure both path and runtimeType for the same runtime", name)
		case r.Type != "" || len(r.Options) > 0:
			return fmt.Errorf("runtime %s: a runtimeType is known but not supported yet: configure a path", name)
		}
	}
	for _, o := range c.ExecOpts {
		k, v, ok := strings.Cut(o, "=")
		switch {
		case !ok:
			return fmt.Errorf("invalid exec-opt (%s): must be formatted 'opt=value'", o)
		case k != "native.cgroupdriver":
			return fmt.Errorf("invalid exec-opt (%s): unknown option: '%s'", o, k)
		case v == "systemd":
			return fmt.Errorf("invalid exec-opt (%s): the systemd driver is known but not supported yet", o)
		case v != "cgroupfs":
			return fmt.Errorf("invalid exec-opt (%s): option 'native.cgroupdriver' must be cgroupfs or systemd", o)
		}
	}
	return nil
}

// checkFeatures: what berth always does may be asked for, what it never does may be declined.
func (c *Config) checkFeatures() error {
	for name, on := range c.Features {
		switch name {
		case "buildkit", "containerd-snapshotter":
			if name == "containerd-snapshotter" && !on {
				return errors.New("the feature containerd-snapshotter cannot be switched off: there is one image store")
			}
		default:
			if on {
				return fmt.Errorf("the feature %s is known but not supported yet", name)
			}
		}
	}
	return nil
}

func (c *Config) checkTLS() error {
	if !c.TLS {
		return nil
	}
	files := []string{c.Cert, c.Key}
	if c.TLSVerify {
		files = append(files, c.CACert)
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("could not use TLS: %w", err)
		}
	}
	return nil
}

func (c *Config) checkSeccomp() error {
	switch c.SeccompProfile {
	case "", "builtin", "unconfined":
		return nil
	}
	b, err := os.ReadFile(c.SeccompProfile)
	if err != nil {
		return fmt.Errorf("opening seccomp profile (%s) failed: %w", c.SeccompProfile, err)
	}
	if !json.Valid(b) {
		return fmt.Errorf("decoding seccomp profile (%s) failed: it is not JSON", c.SeccompProfile)
	}
	return nil
}
