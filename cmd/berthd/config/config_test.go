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
		{"unknown key", `{"foo": 1}`, nil, "don't match any configuration option: foo"},
		{"flag name is no key", `{"host": ["unix:///x"]}`, nil, "don't match any configuration option: host"},
		{"both places", `{"debug": true}`, []string{"--debug"}, "specified both as a flag and in the configuration file: debug"},
		{"not yet", `{"userns-remap": "default"}`, nil, "known but not supported yet: userns-remap"},
		{"not yet as a flag", `{}`, []string{"--userns-remap=default"}, "--userns-remap is known but not supported yet"},
		{"no downloads", `{"max-concurrent-downloads": -1}`, nil, "invalid max concurrent downloads: -1"},
		{"no attempts", `{"max-download-attempts": 0}`, nil, "invalid max download attempts: 0"},
		{"default pools are not used yet", `{"default-address-pools": []}`, nil, "known but not supported yet: default-address-pools"},
		{"broken", `{`, nil, "unable to configure the Docker daemon with file"},
		{"bad type", `{"mtu": "x"}`, nil, "mtu"},
		{"tcp", `{}`, []string{"-H", "tcp://127.0.0.1:1"}, "--tls=false"},
		{"bad bip", `{}`, []string{"--bip", "1.2.3.4"}, "invalid --bip"},
		{"bad host", `{}`, []string{"-H", "x"}, "invalid bind address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(append(tc.args, "--config-file", file(t, tc.json)))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
	c, err := Parse([]string{"--config-file", file(t, `{"hosts": ["unix:///a", "unix:///b"], "log-opts": {"max-size": "1m"}, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}}}`)})
	if err != nil || len(c.Hosts) != 2 || c.LogOpts[0] != "max-size=1m" || c.Ulimits[0] != "nofile=1:2" {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := Parse([]string{"--config-file", "/nonexistent/daemon.json"}); err == nil {
		t.Fatal("a file that was named must exist")
	}
}
