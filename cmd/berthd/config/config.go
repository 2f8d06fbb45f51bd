// Package config reads berthd's flags and daemon.json. Names and rules are dockerd's: an unknown key is refused, and so is a
// value given in both places.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// Config is the merged configuration; values as typed.
type Config struct {
	Hosts                                      []string
	DataRoot, ExecRoot, Pidfile, File, Group   string
	Debug, Validate, Version, Sweep            bool
	LogLevel, Bridge, BIP, StorageDriver       string
	IPTables, IPForward, IPMasq, ICC           bool
	LiveRestore, Init                          bool
	InitPath, CgroupParent, LogDriver, ShmSize string
	Insecure, Mirrors, Ulimits, Labels         []string
	Downloads, Uploads, Attempts               int
	DNS, DNSSearch, DNSOpts, LogOpts           []string
	MTU, ShutdownTimeout                       int
	TLS                                        bool
	Prefix                                     netip.Prefix // of BIP
}

// keys maps a daemon.json key to its flag where the names differ.
var keys = map[string]string{
	"hosts": "host", "registry-mirrors": "registry-mirror", "insecure-registries": "insecure-registry", "default-ulimits": "default-ulimit",
	"dns-opts": "dns-opt", "labels": "label", "log-opts": "log-opt",
}

// unsupported are dockerd's options that berth knows but cannot honour yet.
var unsupported = []string{
	"add-runtime", "allow-direct-routing", "api-cors-header", "authorization-plugin", "bridge-accept-fwmark", "cdi-spec-dir", "cgroup-parent-systemd", "containerd", "containerd-namespace",
	"containerd-plugins-namespace", "cpu-rt-period", "cpu-rt-runtime", "cri-containerd", "default-address-pool", "default-cgroupns-mode", "default-gateway", "default-gateway-v6", "default-ipc-mode",
	"default-network-opt", "default-runtime", "exec-opt", "experimental", "feature", "fixed-cidr", "fixed-cidr-v6", "host-gateway-ip", "http-proxy", "https-proxy", "ip", "ip6tables", "ipv6",
	"metrics-addr", "network-control-plane-mtu", "no-new-privileges", "no-proxy", "node-generic-resource",
	"oom-score-adjust", "seccomp-profile", "selinux-enabled", "storage-opt", "swarm-default-advertise-addr", "tlscacert", "tlscert", "tlskey", "tlsverify", "userland-proxy", "userland-proxy-path", "userns-remap",
	"runtimes", "builder", "features", "default-address-pools", "exec-opts", "storage-opts", "authorization-plugins", "proxies",
}

func (c *Config) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("berthd", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "Daemon socket(s) to connect to")
	f.StringVar(&c.DataRoot, "data-root", "/var/lib/berth", "Root directory of persistent state")
	f.StringVar(&c.ExecRoot, "exec-root", "/run/berth", "Root directory for execution state files")
	f.StringVarP(&c.Pidfile, "pidfile", "p", "/run/berthd.pid", "Path to use for daemon PID file")
	f.StringVar(&c.File, "config-file", "/etc/berth/daemon.json", "Daemon configuration file")
	f.StringVarP(&c.Group, "group", "G", "docker", "Group for the unix socket")
	f.BoolVarP(&c.Debug, "debug", "D", false, "Enable debug mode")
	f.StringVarP(&c.LogLevel, "log-level", "l", "info", `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`)
	f.StringVarP(&c.Bridge, "bridge", "b", "", "Name of the default bridge; made if it is not there")
	f.StringVar(&c.BIP, "bip", "", "IPv4 address for the default bridge")
	f.BoolVar(&c.IPTables, "iptables", true, "Enable addition of firewall rules")
	f.BoolVar(&c.IPForward, "ip-forward", true, "Enable IP forwarding in system configuration")
	f.BoolVar(&c.IPMasq, "ip-masq", true, "Enable IP masquerading")
	f.BoolVar(&c.ICC, "icc", true, "Enable inter-container communication for the default bridge network")
	f.IntVar(&c.MTU, "mtu", 0, "Set the MTU for the default bridge network")
	f.StringArrayVar(&c.Insecure, "insecure-registry", nil, "Enable insecure registry communication")
	f.StringArrayVar(&c.Mirrors, "registry-mirror", nil, "Preferred registry mirror")
	f.IntVar(&c.Downloads, "max-concurrent-downloads", 3, "Set the max concurrent downloads")
	f.IntVar(&c.Uploads, "max-concurrent-uploads", 5, "Set the max concurrent uploads")
	f.IntVar(&c.Attempts, "max-download-attempts", 5, "Set the max download attempts for each pull")
	f.BoolVar(&c.LiveRestore, "live-restore", false, "Enable live restore of containers when daemon is not running")
	f.StringVarP(&c.StorageDriver, "storage-driver", "s", "", "Storage driver to use")
	f.StringArrayVar(&c.Ulimits, "default-ulimit", nil, "Default ulimits for containers")
	f.StringArrayVar(&c.DNS, "dns", nil, "DNS server to use")
	f.StringArrayVar(&c.DNSSearch, "dns-search", nil, "DNS search domains to use")
	f.StringArrayVar(&c.DNSOpts, "dns-opt", nil, "DNS options to use")
	f.BoolVar(&c.Init, "init", false, "Run an init in the container to forward signals and reap processes")
	f.StringVar(&c.InitPath, "init-path", "", "Path to the docker-init binary")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "Set parent cgroup for all containers")
	f.StringArrayVar(&c.Labels, "label", nil, "Set key=value labels to the daemon")
	f.StringVar(&c.LogDriver, "log-driver", "json-file", "Default driver for container logs")
	f.StringArrayVar(&c.LogOpts, "log-opt", nil, "Default log driver options for containers")
	f.StringVar(&c.ShmSize, "default-shm-size", "64M", "Default shm size for containers")
	f.IntVar(&c.ShutdownTimeout, "shutdown-timeout", 15, "Set the default shutdown timeout in seconds")
	f.BoolVar(&c.TLS, "tls", true, "Use TLS; false must be said for a TCP socket, since TLS is not supported yet")
	f.BoolVar(&c.Validate, "validate", false, "Validate daemon configuration and exit")
	f.BoolVarP(&c.Version, "version", "v", false, "Print version information and quit")
	f.BoolVar(&c.Sweep, "sweep", false, "Remove what is left on the host (bridge, rules, containers' leftovers) and exit")
	for _, name := range unsupported {
		if f.Lookup(name) == nil {
			f.String(name, "", "Not supported yet")
			_ = f.MarkHidden(name) // it exists
		}
	}
	return f
}

// Parse reads the command line and the file it names.
func Parse(args []string) (*Config, error) {
	c := &Config{}
	f := c.flags()
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("berthd accepts no arguments: %s", strings.Join(f.Args(), " "))
	}
	for _, name := range unsupported {
		if f.Changed(name) {
			return nil, fmt.Errorf("the option --%s is known but not supported yet", name)
		}
	}
	if err := c.merge(f); err != nil {
		return nil, err
	}
	return c, c.check()
}

// merge takes the file's values; the rules are dockerd's.
func (c *Config) merge(f *pflag.FlagSet) error {
	raw, err := os.ReadFile(c.File)
	if errors.Is(err, os.ErrNotExist) && !f.Changed("config-file") {
		return nil
	}
	fail := func(err error) error {
		return fmt.Errorf("unable to configure the Docker daemon with file %s: %w", c.File, err)
	}
	if err != nil {
		return fail(err)
	}
	if strings.TrimSpace(string(raw)) == "" {
		return nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return fail(err)
	}
	var unknown, both, notYet []string
	for k, v := range m {
		name := k
		if n, ok := keys[k]; ok {
			name = n
		}
		fl := f.Lookup(name)
		switch {
		case fl == nil || name != k && keys[k] == "" || slices.Contains([]string{"config-file", "validate", "version", "sweep"}, name) || isListFlag(k):
			unknown = append(unknown, k)
		case slices.Contains(unsupported, name):
			notYet = append(notYet, k)
		case f.Changed(name):
			both = append(both, fmt.Sprintf("%s: (from flag: %s, from file: %s)", k, fl.Value, v))
		default:
			if err := set(f, name, v); err != nil {
				return fail(fmt.Errorf("%s: %w", k, err))
			}
		}
	}
	sort.Strings(unknown)
	sort.Strings(both)
	switch {
	case len(unknown) > 0:
		return fail(fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", ")))
	case len(both) > 0:
		return fail(fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(both, ", ")))
	case len(notYet) > 0:
		return fail(fmt.Errorf("the following directives are known but not supported yet: %s", strings.Join(notYet, ", ")))
	}
	return nil
}

// isListFlag reports the flag form of keys that have another name in the file.
func isListFlag(k string) bool {
	for _, v := range keys {
		if v == k {
			return true
		}
	}
	return false
}

// set gives a flag the value of a JSON document: a string, number or boolean, a list, or an object of strings or ulimits.
func set(f *pflag.FlagSet, name string, raw json.RawMessage) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := f.Set(name, fmt.Sprint(x)); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for k, x := range v {
			text := k + "=" + fmt.Sprint(x)
			if u, ok := x.(map[string]any); ok {
				text = fmt.Sprintf("%s=%v:%v", k, u["Soft"], u["Hard"])
			}
			if err := f.Set(name, text); err != nil {
				return err
			}
		}
		return nil
	}
	return f.Set(name, fmt.Sprint(v))
}

func (c *Config) check() error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{"unix:///run/berth.sock"}
	}
	for _, h := range c.Hosts {
		scheme, _, ok := strings.Cut(h, "://")
		if !ok || !slices.Contains([]string{"unix", "tcp", "fd"}, scheme) {
			return fmt.Errorf("invalid bind address (%s): should start with unix://, tcp:// or fd://", h)
		}
		if scheme == "tcp" && c.TLS {
			return fmt.Errorf("binding %s without TLS gives root to whoever reaches it: say --tls=false to do so", h)
		}
	}
	if c.BIP != "" {
		p, err := netip.ParsePrefix(c.BIP)
		if err != nil || !p.Addr().Is4() {
			return fmt.Errorf("invalid --bip %q: want an IPv4 address with a prefix length", c.BIP)
		}
		c.Prefix = p
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, c.LogLevel) {
		return fmt.Errorf("invalid logging level: %s", c.LogLevel)
	}
	if c.MTU < 0 {
		return fmt.Errorf("invalid default MTU: %d", c.MTU)
	}
	switch {
	case c.Downloads < 0:
		return fmt.Errorf("invalid max concurrent downloads: %d", c.Downloads)
	case c.Uploads < 0:
		return fmt.Errorf("invalid max concurrent uploads: %d", c.Uploads)
	case c.Attempts < 1:
		return fmt.Errorf("invalid max download attempts: %d", c.Attempts)
	}
	for _, u := range c.Ulimits {
		if _, err := units.ParseUlimit(u); err != nil {
			return err
		}
	}
	_, err := units.RAMInBytes(c.ShmSize)
	return err
}
