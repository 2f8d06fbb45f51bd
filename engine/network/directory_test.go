package network

import (
	"net/netip"
	"slices"
	"testing"
)

// place is an endpoint with an address and names.
func place(n ID, name, addr string, names ...string) Endpoint {
	return Endpoint{Network: n, Name: name, IPv4: netip.MustParsePrefix(addr + "/24"), DNSNames: names}
}

func TestDirectory(t *testing.T) {
	d := newDirectory()
	d.set("a", []Endpoint{place("1", "one", "10.0.1.2", "alpha", "web"), place("2", "two", "10.0.2.2", "alpha")})
	d.set("b", []Endpoint{place("1", "one", "10.0.1.3", "Beta", "web")})
	c := place("2", "two", "10.0.2.4", "gamma")
	c.Links = map[string]string{"Friend": "alpha"}
	d.set("c", []Endpoint{c})
	d.set("bridged", []Endpoint{{Network: "0", Name: "bridge", IPv4: netip.MustParsePrefix("172.17.0.2/16")}})
	for _, tc := range []struct {
		from, name string
		want       []string
	}{
		{"a", "beta", []string{"10.0.1.3"}},
		{"a", "web", []string{"10.0.1.2", "10.0.1.3"}},
		{"a", "gamma", []string{"10.0.2.4"}},
		{"a", "gamma.two", []string{"10.0.2.4"}},
		{"a", "gamma.one", nil},
		{"b", "gamma", nil}, // not on its networks
		{"c", "alpha", []string{"10.0.2.2"}},
		{"c", "friend", []string{"10.0.2.2"}},
		{"a", "friend", nil}, // somebody else's link
		{"bridged", "alpha", nil},
		{"nobody", "alpha", nil},
	} {
		addrs, known := d.lookup(tc.from, tc.name)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tc.want) || known != (tc.want != nil) {
			t.Errorf("%s asks for %s: %v, %v; want %v", tc.from, tc.name, got, known, tc.want)
		}
	}
	if name, ok := d.reverse("a", netip.MustParseAddr("10.0.1.3")); !ok || name != "Beta.one" {
		t.Errorf("reverse: %q, %v", name, ok)
	}
	if name, ok := d.reverse("c", netip.MustParseAddr("10.0.1.3")); ok {
		t.Errorf("an address on another network has the name %q", name)
	}
	d.set("b", nil)
	if _, known := d.lookup("a", "beta"); known {
		t.Error("a container that left is still known")
	}
	for _, id := range []string{"a", "c", "bridged"} {
		d.set(id, nil)
	}
	if len(d.nets) != 0 || len(d.own) != 0 {
		t.Errorf("the directory is not empty: %v, %v", d.nets, d.own)
	}
}

func TestNamesAreSaidOnce(t *testing.T) {
	id := "0123456789abcdef"
	if got := Names("web", id, []string{"al", "al", "web"}, id[:12]); !slices.Equal(got, []string{"web", "al", id[:12]}) {
		t.Errorf("%v", got)
	}
}
