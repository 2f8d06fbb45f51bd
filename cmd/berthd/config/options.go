package config

import "github.com/spf13/pflag"

type state int

const (
	wired       state = iota // taken into account
	harmless                 // accepted: it changes nothing that anybody could notice here
	unsupported              // known, refused
	flagOnly                 // wired, and no key of the file
)

// shape is the type of a value, as the file gives it.
type shape int

const (
	text shape = iota
	truth
	number
	list
	mapping
	anything // checked by the option's own value
)

// option is one of dockerd's options.
type option struct {
	flag, key string // key "" = the flag's name, "-" = there is no such key
	shape     shape
	state     state
	reload    bool // a running daemon takes a new value over
	keyOnly   bool // there is no such flag
}

func (o *option) name() string {
	if o.key == "" {
		return o.flag
	}
	return o.key
}

// options is every option of Engine 28.5, with what berth does about it.
var options = []option{
	{flag: "host", key: "hosts", shape: list},
	{flag: "data-root"}, {flag: "exec-root"}, {flag: "pidfile"}, {flag: "group"},
	{flag: "config-file", state: flagOnly}, {flag: "validate", state: flagOnly}, {flag: "version", state: flagOnly}, {flag: "sweep", state: flagOnly},
	{flag: "debug", shape: truth, reload: true}, {flag: "log-level"}, {flag: "log-format"}, {flag: "raw-logs", shape: truth, state: harmless},
	{flag: "bridge"}, {flag: "bip"}, {flag: "mtu", shape: number},
	{flag: "iptables", shape: truth}, {flag: "ip-forward", shape: truth}, {flag: "ip-masq", shape: truth}, {flag: "icc", shape: truth},
	{flag: "insecure-registry", key: "insecure-registries", shape: list, reload: true}, {flag: "registry-mirror", key: "registry-mirrors", shape: list, reload: true},
	{flag: "live-restore", shape: truth, reload: true}, {flag: "storage-driver"}, {flag: "experimental", shape: truth},
	{flag: "default-ulimit", key: "default-ulimits", shape: mapping}, {flag: "default-shm-size", shape: anything},
	{flag: "dns", shape: list}, {flag: "dns-search", shape: list}, {flag: "dns-opt", key: "dns-opts", shape: list},
	{flag: "init", shape: truth}, {flag: "init-path"}, {flag: "cgroup-parent"}, {flag: "exec-opt", key: "exec-opts", shape: list},
	{flag: "label", key: "labels", shape: list, reload: true}, {flag: "log-driver"}, {flag: "log-opt", key: "log-opts", shape: mapping},
	{flag: "shutdown-timeout", shape: number, reload: true}, {flag: "feature", key: "features", shape: mapping, reload: true},
	{flag: "max-concurrent-downloads", shape: number, reload: true}, {flag: "max-concurrent-uploads", shape: number, reload: true}, {flag: "max-download-attempts", shape: number, reload: true},
	{flag: "default-address-pool", key: "default-address-pools", shape: anything}, {flag: "add-runtime", key: "runtimes", shape: mapping}, {flag: "default-runtime"},
	{flag: "seccomp-profile"}, {flag: "no-new-privileges", shape: truth},
	{flag: "tls", shape: truth}, {flag: "tlsverify", shape: truth}, {flag: "tlscacert"}, {flag: "tlscert"}, {flag: "tlskey"},

	{flag: "userland-proxy", shape: truth, state: harmless}, {flag: "userland-proxy-path", state: harmless}, // there is no such process
	{flag: "network-control-plane-mtu", shape: number, state: harmless}, {flag: "swarm-default-advertise-addr", state: harmless}, // of swarms alone
	{flag: "allow-nondistributable-artifacts", shape: list, state: harmless}, // always allowed
	{flag: "swarm-raft-heartbeat-tick", shape: number, state: harmless, keyOnly: true}, {flag: "swarm-raft-election-tick", shape: number, state: harmless, keyOnly: true},

	{flag: "allow-direct-routing", state: unsupported}, {flag: "api-cors-header", state: unsupported}, {flag: "authorization-plugin", key: "authorization-plugins", state: unsupported},
	{flag: "bip6", state: unsupported}, {flag: "bridge-accept-fwmark", state: unsupported}, {flag: "builder", state: unsupported, keyOnly: true}, {flag: "cdi-spec-dir", key: "cdi-spec-dirs", state: unsupported},
	{flag: "containerd", state: unsupported}, {flag: "containerd-namespace", state: unsupported}, {flag: "containerd-plugins-namespace", key: "containerd-plugin-namespace", state: unsupported},
	{flag: "cpu-rt-period", state: unsupported}, {flag: "cpu-rt-runtime", state: unsupported}, {flag: "cri-containerd", state: unsupported}, {flag: "default-cgroupns-mode", state: unsupported},
	{flag: "default-gateway", state: unsupported}, {flag: "default-gateway-v6", state: unsupported}, {flag: "default-init", state: unsupported, keyOnly: true}, {flag: "default-ipc-mode", state: unsupported},
	{flag: "default-network-opt", key: "default-network-opts", state: unsupported}, {flag: "firewall-backend", state: unsupported}, {flag: "fixed-cidr", state: unsupported}, {flag: "fixed-cidr-v6", state: unsupported},
	{flag: "host-gateway-ip", key: "host-gateway-ips", state: unsupported}, {flag: "host-gateway-ip", state: unsupported, keyOnly: true}, {flag: "http-proxy", state: unsupported}, {flag: "https-proxy", state: unsupported}, {flag: "no-proxy", state: unsupported},
	{flag: "proxies", state: unsupported, keyOnly: true}, {flag: "ip", state: unsupported}, {flag: "ip-forward-no-drop", state: unsupported}, {flag: "ip6tables", state: unsupported}, {flag: "ipv6", state: unsupported},
	{flag: "metrics-addr", state: unsupported}, {flag: "network-diagnostic-port", state: unsupported}, {flag: "node-generic-resource", key: "node-generic-resources", state: unsupported},
	{flag: "oom-score-adjust", state: unsupported}, {flag: "resolv-conf", state: unsupported, keyOnly: true}, {flag: "rootless", state: unsupported}, {flag: "selinux-enabled", state: unsupported},
	{flag: "storage-opt", key: "storage-opts", state: unsupported}, {flag: "userns-remap", state: unsupported},
}

func (c *Config) flagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("berthd", pflag.ContinueOnError)
	f.SortFlags = false
	f.VarP(newList(&c.Hosts, validHost), "host", "H", "Daemon socket(s) to connect to")
	f.StringVar(&c.DataRoot, "data-root", "/var/lib/berth", "Root directory of persistent state")
	f.StringVar(&c.ExecRoot, "exec-root", "/run/berth", "Root directory for execution state files")
	f.StringVarP(&c.Pidfile, "pidfile", "p", "/run/berthd.pid", "Path to use for daemon PID file")
	f.StringVar(&c.File, "config-file", "/etc/berth/daemon.json", "Daemon configuration file")
	f.StringVarP(&c.Group, "group", "G", "docker", "Group for the unix socket")
	f.BoolVarP(&c.Debug, "debug", "D", false, "Enable debug mode")
	f.StringVarP(&c.LogLevel, "log-level", "l", "info", `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`)
	f.StringVar(&c.LogFormat, "log-format", "text", `Set the logging format ("text"|"json")`)
	f.StringVarP(&c.Bridge, "bridge", "b", "", "Name of the default bridge; made if it is not there")
	f.StringVar(&c.BIP, "bip", "", "IPv4 address for the default bridge")
	f.BoolVar(&c.IPTables, "iptables", true, "Enable addition of firewall rules")
	f.BoolVar(&c.IPForward, "ip-forward", true, "Enable IP forwarding in system configuration")
	f.BoolVar(&c.IPMasq, "ip-masq", true, "Enable IP masquerading")
	f.BoolVar(&c.ICC, "icc", true, "Enable inter-container communication for the default bridge network")
	f.IntVar(&c.MTU, "mtu", 0, "Set the MTU for the default bridge network")
	f.Var(&c.Pools, "default-address-pool", "Default address pools for networks")
	f.Var(newList(&c.Insecure, validInsecure), "insecure-registry", "Enable insecure registry communication")
	f.Var(newList(&c.Mirrors, validMirror), "registry-mirror", "Preferred registry mirror")
	f.IntVar(&c.MaxDownloads, "max-concurrent-downloads", 3, "Set the max concurrent downloads")
	f.IntVar(&c.MaxUploads, "max-concurrent-uploads", 5, "Set the max concurrent uploads")
	f.IntVar(&c.MaxAttempts, "max-download-attempts", 5, "Set the max download attempts for each pull")
	f.BoolVar(&c.LiveRestore, "live-restore", false, "Enable live restore of containers when daemon is not running")
	f.StringVarP(&c.StorageDriver, "storage-driver", "s", "", "Storage driver to use")
	f.Var(&c.Ulimits, "default-ulimit", "Default ulimits for containers")
	f.Var(&c.ShmSize, "default-shm-size", "Default shm size for containers")
	f.Var(newList(&c.DNS, validIP), "dns", "DNS server to use")
	f.Var(newList(&c.DNSSearch, validDomain), "dns-search", "DNS search domains to use")
	f.Var(newList(&c.DNSOpts, nil), "dns-opt", "DNS options to use")
	f.BoolVar(&c.Init, "init", false, "Run an init in the container to forward signals and reap processes")
	f.StringVar(&c.InitPath, "init-path", "", "Path to the docker-init binary")
	f.Var(&c.Runtimes, "add-runtime", "Register an additional OCI compatible runtime")
	f.StringVar(&c.DefaultRuntime, "default-runtime", stockRuntime, "Default OCI runtime for containers")
	f.StringVar(&c.SeccompProfile, "seccomp-profile", "builtin", `Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile`)
	f.BoolVar(&c.NoNewPrivileges, "no-new-privileges", false, "Set no-new-privileges by default for new containers")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "Set parent cgroup for all containers")
	f.Var(newList(&c.ExecOpts, nil), "exec-opt", "Runtime execution options")
	f.Var(newList(&c.Labels, validLabel), "label", "Set key=value labels to the daemon")
	f.StringVar(&c.LogDriver, "log-driver", "json-file", "Default driver for container logs")
	f.Var(&c.LogOpts, "log-opt", "Default log driver options for containers")
	f.IntVar(&c.ShutdownTimeout, "shutdown-timeout", 15, "Set the default shutdown timeout in seconds")
	f.BoolVar(&c.Experimental, "experimental", false, "Enable experimental features")
	f.Var(&c.Features, "feature", "Enable feature in the daemon")
	f.BoolVar(&c.TLS, "tls", false, "Use TLS; implied by --tlsverify. false, said in words, allows TCP without it")
	f.BoolVar(&c.TLSVerify, "tlsverify", false, "Use TLS and verify the remote")
	f.StringVar(&c.CACert, "tlscacert", certFile("ca.pem"), "Trust certs signed only by this CA")
	f.StringVar(&c.Cert, "tlscert", certFile("cert.pem"), "Path to TLS certificate file")
	f.StringVar(&c.Key, "tlskey", certFile("key.pem"), "Path to TLS key file")
	f.BoolVar(&c.Validate, "validate", false, "Validate daemon configuration and exit")
	f.BoolVarP(&c.Version, "version", "v", false, "Print version information and quit")
	f.BoolVar(&c.Sweep, "sweep", false, "Remove what is left on the host (bridge, rules, containers' leftovers) and exit")
	for _, o := range options {
		if o.keyOnly || f.Lookup(o.flag) != nil {
			continue
		}
		usage := "Accepted for compatibility"
		if o.state == unsupported {
			usage = "Not supported yet"
		}
		f.Var(&ignoredValue{bool: o.shape == truth}, o.flag, usage)
		f.Lookup(o.flag).Hidden = true
		f.Lookup(o.flag).NoOptDefVal = "true"
	}
	return f
}
