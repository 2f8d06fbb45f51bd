package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func file(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMergeAndRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, json string
		args       []string
		want       string // part of the error; "" for none
	}{
		{"plain", `{"debug": true, "hosts": ["unix:///x"], "mtu": 1400}`, nil, ""},
		{"empty file", ``, nil, ""},
		{"a mark of byte order", "\xef\xbb\xbf{\"debug\": true}", nil, ""},
		{"null is nothing", `{"dns": null, "debug": null}`, []string{"--label", "a=b"}, ""},
		{"unknown key", `{"foo": 1}`, nil, "the following directives don't match any configuration option: foo"},
		{"unknown keys", `{"foo": 1, "bar": 2}`, nil, "the following directives don't match any configuration option: bar, foo"},
		{"letter case matters", `{"DEBUG": true}`, nil, "don't match any configuration option: DEBUG"},
		{"flag name is no key", `{"host": ["unix:///x"]}`, nil, "don't match any configuration option: host"},
		{"the file itself is no key", `{"config-file": "x"}`, nil, "don't match any configuration option: config-file"},
		{"both places", `{"debug": true}`, []string{"--debug"}, "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)"},
		{"a list in both places", `{"hosts": ["tcp://x:1"]}`, []string{"-H", "unix:///x"}, "hosts: (from flag: [unix:///x], from file: [tcp://x:1])"},
		{"a map in both places", `{"log-opts": {"max-size": "1m"}}`, []string{"--log-opt", "a=b"}, "log-opts: (from flag: map[a:b], from file: map[max-size:1m])"},
		{"pools in both places", `{"default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]}`, []string{"--default-address-pool", "base=1.0.0.0/8,size=16"}, "default-address-pools: (from flag: 1.0.0.0/8 16, from file: [map[base:10.0.0.0/8 size:24]])"},
		{"something harmless in both places", `{"userland-proxy": false}`, []string{"--userland-proxy=false"}, "userland-proxy: (from flag: false, from file: false)"},
		{"not yet", `{"userns-remap": "default"}`, nil, "known but not supported yet: userns-remap"},
		{"not yet as a flag", `{}`, []string{"--userns-remap=default"}, "--userns-remap is known but not supported yet"},
		{"not yet as a key alone", `{"builder": {"gc": {}}}`, nil, "known but not supported yet: builder"},
		{"unknown flag", `{}`, []string{"--foo"}, "unknown flag: --foo"},
		{"argument", `{}`, []string{"extra"}, "accepts no argument(s)"},
		{"broken", `{`, nil, "unable to configure the Docker daemon with file"},
		{"broken, the reason", `{`, nil, "unexpected EOF"},
		{"more than one document", `{} {}`, nil, "unexpected content after JSON"},
		{"bad type of a truth", `{"debug": "x"}`, nil, "json: cannot unmarshal string into Go struct field Config.debug of type bool"},
		{"bad type of a number", `{"mtu": "x"}`, nil, "json: cannot unmarshal string into Go struct field Config.mtu of type int"},
		{"bad type of a text", `{"group": 5}`, nil, "json: cannot unmarshal number into Go struct field Config.group of type string"},
		{"bad type of a list", `{"dns": "1.1.1.1"}`, nil, "json: cannot unmarshal string into Go struct field Config.dns of type []string"},
		{"bad type of a feature", `{"features": {"buildkit": "x"}}`, nil, "json: cannot unmarshal string into Go struct field Config.features of type bool"},
		{"no address", `{"dns": ["x"]}`, nil, "configuration validation from file failed: x is not an ip address"},
		{"no address as a flag", `{}`, []string{"--dns=x"}, `invalid argument "x" for "--dns" flag: x is not an ip address`},
		{"no label", `{"labels": ["a"]}`, nil, "configuration validation from file failed: bad attribute format: a"},
		{"labels that differ", `{"labels": ["a=b", "a=c"]}`, nil, "conflict labels for a=c and a=b"},
		{"no domain", `{}`, []string{"--dns-search", "a_b..c"}, "a_b..c is not a valid domain"},
		{"no ulimit", `{}`, []string{"--default-ulimit=foo"}, `invalid argument "foo" for "--default-ulimit" flag: invalid ulimit argument: foo`},
		{"soft above hard", `{"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 1, "Soft": 2}}}`, nil, "ulimit soft limit must be less than or equal to hard limit: 2 > 1"},
		{"no size", `{"default-shm-size": "x"}`, nil, `invalid size: "x"`},
		{"reserved runtime", `{"runtimes": {"runc": {"path": "x"}}}`, nil, "configuration validation from file failed: runtime name 'runc' is reserved"},
		{"reserved runtime as a flag", `{}`, []string{"--add-runtime", "runc=foo"}, "runtime name 'runc' is reserved"},
		{"no runtime", `{}`, []string{"--add-runtime", "foo"}, "invalid runtime argument: foo"},
		{"a runtime by type", `{"runtimes": {"g": {"runtimeType": "io.containerd.runsc.v1"}}}`, nil, "known but not supported yet"},
		{"unknown default runtime", `{"default-runtime": "foo"}`, nil, "specified default runtime 'foo' does not exist"},
		{"downloads below none", `{"max-concurrent-downloads": -1}`, nil, "invalid max concurrent downloads: -1"},
		{"attempts below none", `{"max-download-attempts": -1}`, nil, "invalid max download attempts: -1"},
		{"mtu below none", `{"mtu": -1}`, nil, "invalid default MTU: -1"},
		{"a mirror without a scheme", `{"registry-mirrors": ["foo:5000"]}`, nil, `invalid mirror: no scheme specified for "foo:5000": must use either 'https://' or 'http://'`},
		{"a mirror with a query", `{}`, []string{"--registry-mirror=http://a/?x"}, `invalid mirror: query or fragment at end of the URI "http://a/?x"`},
		{"a mirror with a password", `{}`, []string{"--registry-mirror=http://u:secret@a"}, `invalid mirror: username/password not allowed in URI "http://u:xxxxx@a"`},
		{"a mirror with a path", `{}`, []string{"--registry-mirror=http://a/x"}, `invalid mirror: path, query, or fragment at end of the URI "http://a/x"`},
		{"a storage driver that is not there", `{"storage-driver": "btrfs"}`, nil, "the storage driver btrfs is not supported"},
		{"pool without a pair", `{}`, []string{"--default-address-pool", "x"}, "invalid field 'x' must be a key=value pair"},
		{"pool larger than its base", `{}`, []string{"--default-address-pool", "base=10.0.0.0/24,size=16"}, "invalid default-address-pool 10.0.0.0/24 16"},
		{"unknown exec option", `{"exec-opts": ["x=y"]}`, nil, "invalid exec-opt (x=y): unknown option: 'x'"},
		{"exec option without a value", `{"exec-opts": ["x"]}`, nil, "invalid exec-opt (x): must be formatted 'opt=value'"},
		{"a driver of cgroups that is not there", `{"exec-opts": ["native.cgroupdriver=systemd"]}`, nil, "systemd driver is known but not supported yet"},
		{"the driver of cgroups that is there", `{"exec-opts": ["native.cgroupdriver=cgroupfs"]}`, nil, ""},
		{"the store as a feature", `{"features": {"containerd-snapshotter": true, "buildkit": false}}`, nil, ""},
		{"without the store", `{"features": {"containerd-snapshotter": false}}`, nil, "cannot be switched off"},
		{"another feature", `{"features": {"cdi": true}}`, nil, "the feature cdi is known but not supported yet"},
		{"log level", `{"log-level": "foo"}`, nil, "invalid logging level: foo"},
		{"log format", `{"log-format": "foo"}`, nil, "invalid log format: foo"},
		{"tcp", `{}`, []string{"-H", "tcp://127.0.0.1:1"}, "--tls=false"},
		{"tcp, and it is meant", `{"tls": false}`, []string{"-H", "tcp://127.0.0.1:1"}, ""},
		{"tcp with a path", `{}`, []string{"-H", "tcp://127.0.0.1:1/x", "--tls=false"}, "should not contain a path element"},
		{"tcp with a word as port", `{}`, []string{"-H", "tcp://127.0.0.1:x", "--tls=false"}, "invalid port"},
		{"certificates that are not there", `{}`, []string{"--tlsverify", "--tlscacert=/nonexistent/ca"}, "could not use TLS"},
		{"bad bip", `{}`, []string{"--bip", "1.2.3.4"}, "invalid --bip"},
		{"bad host", `{}`, []string{"-H", "x"}, "invalid bind address"},
		{"unknown scheme", `{"hosts": ["x://y"]}`, nil, "invalid bind address (x://y)"},
		{"no profile", `{"seccomp-profile": "/nonexistent/x.json"}`, nil, "opening seccomp profile (/nonexistent/x.json) failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(append(tc.args, "--config-file", file(t, tc.json)))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := Parse([]string{"--config-file", "/nonexistent/daemon.json"}); err == nil {
		t.Fatal("a file that was named must exist")
	}
}

func TestValuesOfTheFile(t *testing.T) {
	c, err := Parse([]string{"--mtu", "1300", "--config-file", file(t, `{
		"hosts": ["unix:///a", "fd://"], "log-opts": {"max-size": "1m"}, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},
		"default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "runtimes": {"other": {"path": "/x", "runtimeArgs": ["--a"]}}, "default-runtime": "other",
		"registry-mirrors": ["http://m"], "insecure-registries": ["http://r:5000"], "default-shm-size": "128M", "icc": false, "features": {"buildkit": true}, "bip": "10.1.0.1/16"
	}`)})
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"hosts": len(c.Hosts) == 2 && c.Hosts[1] == "fd://", "log-opts": c.LogOpts["max-size"] == "1m", "default-ulimits": c.Ulimits["nofile"].Soft == 1 && c.Ulimits["nofile"].Hard == 2,
		"pools": len(c.Pools) == 1 && c.Pools[0].String() == "10.0.0.0/8 24", "runtimes": c.Runtimes["other"].Path == "/x" && c.Runtimes["other"].Args[0] == "--a",
		"mirrors": c.Mirrors[0] == "http://m/", "insecure": c.Insecure[0] == "r:5000", "shm": c.ShmSize == 128<<20, "icc": !c.ICC, "iptables stays": c.IPTables, "mtu": c.MTU == 1300, "bip": c.Prefix.Bits() == 16,
		"features": c.Features["buildkit"],
	} {
		if !ok {
			t.Errorf("%s: %+v", what, c)
		}
	}
}

// TestEveryOptionIsWhole: a flag for each, a key for each, and no two of a name.
func TestEveryOptionIsWhole(t *testing.T) {
	f := (&Config{}).flagSet()
	keys := map[string]bool{}
	for _, o := range options {
		if !o.keyOnly && f.Lookup(o.flag) == nil {
			t.Errorf("no flag --%s", o.flag)
		}
		if keys[o.name()] {
			t.Errorf("two keys %s", o.name())
		}
		keys[o.name()] = true
	}
}

func TestReload(t *testing.T) {
	p := file(t, `{"debug": true, "labels": ["a=b"], "mtu": 1400}`)
	args := []string{"--config-file", p, "--shutdown-timeout", "3"}
	c, err := Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(text string) (*Config, error) {
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return c.Reload(args)
	}
	all := `{"debug": false, "labels": ["x=y"], "mtu": 1500, "live-restore": true, "insecure-registries": ["r"], "registry-mirrors": ["http://m"], "max-concurrent-downloads": 7, "max-concurrent-uploads": 8, "max-download-attempts": 9, "features": {"buildkit": true}}`
	n, err := rewrite(all)
	if err != nil || n.Debug || n.Labels[0] != "x=y" || !n.LiveRestore || n.Insecure[0] != "r" || n.Mirrors[0] != "http://m/" || n.MaxDownloads != 7 || n.MaxUploads != 8 || n.MaxAttempts != 9 || !n.Features["buildkit"] {
		t.Fatalf("%+v, %v", n, err)
	}
	if n.MTU != 1400 || n.ShutdownTimeout != 3 {
		t.Errorf("what is not reloadable, or not given, changed: %+v", n)
	}
	if a := n.Attributes(); a["labels"] != `["x=y"]` || a["live-restore"] != "true" || a["shutdown-timeout"] != "3" {
		t.Errorf("%v", a)
	}
	c = n
	if n, err = rewrite(`{}`); err != nil || n.Labels[0] != "x=y" {
		t.Errorf("what the file no longer gives stays: %+v, %v", n, err)
	}
	if _, err = rewrite(`{"shutdown-timeout": 5}`); err == nil {
		t.Error("a flag and the file")
	}
	if _, err = rewrite(`{"debug": "x"}`); err == nil {
		t.Error("a bad file")
	}
	for _, o := range options {
		if o.reload && o.state != wired {
			t.Errorf("%s is reloadable, but not wired", o.name())
		}
	}
}
