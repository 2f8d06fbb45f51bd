package firewall

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files")

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr       { return netip.MustParseAddr(s) }

func TestCompile(t *testing.T) {
	v4 := Family{Subnet: prefix("172.18.0.0/16"), Mode: NAT, Masq: true}
	v6 := Family{Subnet: prefix("fd00:1::/64"), Mode: NAT, Masq: true}
	for name, s := range map[string]State{
		"empty": {},
		"default": {
			Bridges: []Bridge{{Name: "docker0", Families: []Family{{Subnet: prefix("172.17.0.0/16"), Masq: true}}, ICC: true}},
			Ports: []Port{
				{Proto: unix.IPPROTO_TCP, HostIP: ip("0.0.0.0"), HostPort: 8080, Container: ip("172.17.0.2"), ContainerPort: 80},
				{Proto: unix.IPPROTO_UDP, HostIP: ip("127.0.0.1"), HostPort: 53, Container: ip("172.17.0.2"), ContainerPort: 5353},
			},
		},
		"dual": {
			Bridges:      []Bridge{{Name: "br-a", Families: []Family{v4, v6}}},
			Ports:        []Port{{Proto: unix.IPPROTO_SCTP, HostIP: ip("::"), HostPort: 9, Container: ip("fd00:1::2"), ContainerPort: 99}},
			CloseForward: true,
		},
		"internal": {Bridges: []Bridge{{Name: "br-i", Families: []Family{v4}, ICC: true, Internal: true}}},
		"routed": {
			Bridges: []Bridge{{Name: "br-r", Families: []Family{{Subnet: v4.Subnet, Mode: Routed}, {Subnet: v6.Subnet, Mode: NATUnprotected, Masq: true, Source: ip("2001:db8::1")}}, ICC: true, Trusted: []string{"wg0"}}},
			Ports:   []Port{{Proto: unix.IPPROTO_TCP, HostIP: ip("0.0.0.0"), Container: ip("172.18.0.2"), ContainerPort: 80, Routed: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Compile("berth-test", s).String()
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s is out of date; the rules are now:\n%s", file, got)
			}
		})
	}
}

func TestElementsArePaddedToFourBytes(t *testing.T) {
	i, e := element(Port{Proto: 6, HostIP: ip("10.0.0.1"), HostPort: 0x1234, Container: ip("172.17.0.2"), ContainerPort: 80})
	if maps[i].name != "ports4_ip" || string(e.Key) != "\x0a\x00\x00\x01\x06\x00\x00\x00\x12\x34\x00\x00" || string(e.Val) != "\xac\x11\x00\x02\x00\x50\x00\x00" {
		t.Errorf("map %s, key %x, value %x", maps[i].name, e.Key, e.Val)
	}
}

func TestOnlyForeignChangesOfRulesCount(t *testing.T) {
	msg := func(typ uint16, payload ...byte) []byte {
		b := make([]byte, 20, 20+len(payload))
		b[0] = byte(20 + len(payload))
		b[4], b[5] = byte(typ), byte(typ>>8)
		return append(b, payload...)
	}
	const sub = unix.NFNL_SUBSYS_NFTABLES << 8
	gen := func(pid int) []byte {
		return msg(sub|unix.NFT_MSG_NEWGEN, 8, 0, unix.NFTA_GEN_PROC_PID, 0, byte(pid>>24), byte(pid>>16), byte(pid>>8), byte(pid))
	}
	elem, table := msg(sub|unix.NFT_MSG_NEWSETELEM), msg(sub|unix.NFT_MSG_DELTABLE)
	me, other := gen(os.Getpid()), gen(1)
	for name, tc := range map[string]struct {
		msgs [][]byte
		want bool
	}{
		"elements": {[][]byte{elem, other}, false}, "a table": {[][]byte{table, other}, true}, "our table": {[][]byte{table, me}, false},
		"ours, then theirs": {[][]byte{table, me, table, other}, true}, "theirs about elements, after ours": {[][]byte{table, me, elem, other}, false}, "nonsense": {[][]byte{{1, 2, 3}}, false},
	} {
		var whole []byte
		var c, one changes
		got := false
		for _, m := range tc.msgs {
			whole = append(whole, m...)
			got = one.foreign(m) || got
		}
		if c.foreign(whole) != tc.want || got != tc.want {
			t.Errorf("%s: not %v", name, tc.want)
		}
	}
}
