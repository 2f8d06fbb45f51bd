package container

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestParseLink(t *testing.T) {
	for in, want := range map[string][2]string{"a": {"a", "a"}, "a:b": {"a", "b"}, "/a:/p/b": {"a", "b"}} {
		n, a, err := parseLink(in)
		if err != nil || n != want[0] || a != want[1] {
			t.Errorf("%s: %s %s %v", in, n, a, err)
		}
	}
	for in, want := range map[string]string{"": "empty string specified for links", "a:b:c": "bad format for links: a:b:c"} {
		if _, _, err := parseLink(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestLinkEnvironment(t *testing.T) {
	l := linked{"al-ias", "ch", "1.2.3.4", &Spec{
		Hostname: "chh", Process: Process{Env: []string{"PGPASS=x", "PATH=/bin", "HOME=/", "EMPTY"}},
		Network: NetworkSpec{ExposedPorts: map[string]struct{}{"53/udp": {}, "10/tcp": {}, "11/tcp": {}, "12/tcp": {}}},
	}}
	want := []string{
		"AL_IAS_PORT=tcp://1.2.3.4:10",
		"AL_IAS_PORT_10_TCP_START=tcp://1.2.3.4:10", "AL_IAS_PORT_10_TCP_PORT_START=10", "AL_IAS_PORT_10_TCP_END=tcp://1.2.3.4:12", "AL_IAS_PORT_10_TCP_PORT_END=12",
		"AL_IAS_PORT_10_TCP=tcp://1.2.3.4:10", "AL_IAS_PORT_10_TCP_ADDR=1.2.3.4", "AL_IAS_PORT_10_TCP_PORT=10", "AL_IAS_PORT_10_TCP_PROTO=tcp",
		"AL_IAS_PORT_11_TCP=tcp://1.2.3.4:11", "AL_IAS_PORT_11_TCP_ADDR=1.2.3.4", "AL_IAS_PORT_11_TCP_PORT=11", "AL_IAS_PORT_11_TCP_PROTO=tcp",
		"AL_IAS_PORT_12_TCP=tcp://1.2.3.4:12", "AL_IAS_PORT_12_TCP_ADDR=1.2.3.4", "AL_IAS_PORT_12_TCP_PORT=12", "AL_IAS_PORT_12_TCP_PROTO=tcp",
		"AL_IAS_PORT_53_UDP=udp://1.2.3.4:53", "AL_IAS_PORT_53_UDP_ADDR=1.2.3.4", "AL_IAS_PORT_53_UDP_PORT=53", "AL_IAS_PORT_53_UDP_PROTO=udp",
		"AL_IAS_NAME=/pa/al-ias", "AL_IAS_ENV_PGPASS=x",
	}
	if got := linkEnv("pa", []linked{l}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := l.hostsLine(); got != "1.2.3.4\tal-ias chh ch\n" {
		t.Errorf("%q", got)
	}
}

func TestReplaceHost(t *testing.T) {
	f := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(f, []byte("127.0.0.1\tlocalhost\n1.1.1.1\tdb x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceHost(f, "db", "2.2.2.2\tdb x\n"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(f); string(b) != "127.0.0.1\tlocalhost\n2.2.2.2\tdb x\n" {
		t.Errorf("%q", b)
	}
}
