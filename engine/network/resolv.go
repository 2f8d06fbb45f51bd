package network

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Resolver is where containers on user-defined networks ask for names.
const Resolver = "127.0.0.11"

// ResolvConf is the content of a resolv.conf.
type ResolvConf struct {
	Nameservers []string
	Search      []string
	Options     []string
}

// HostResolv reads the host's resolv.conf. Resolvers on loopback are no use in another network namespace: unless loopback is
// true they are left out, and public ones stand in when none is left.
func HostResolv(loopback bool) ResolvConf {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return ResolvConf{Nameservers: slices.Clone(publicResolvers)}
	}
	defer f.Close()
	r := parseResolv(bufio.NewScanner(f), loopback)
	if len(r.Nameservers) == 0 {
		r.Nameservers = slices.Clone(publicResolvers)
	}
	return r
}

// publicResolvers are dockerd's choice for a host that has none.
var publicResolvers = []string{"8.8.8.8", "8.8.4.4"}

func parseResolv(sc *bufio.Scanner, loopback bool) (r ResolvConf) {
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(w[1]); err == nil && (loopback || !a.IsLoopback()) {
				r.Nameservers = append(r.Nameservers, w[1])
			}
		case "search":
			r.Search = w[1:]
		case "options":
			r.Options = append(r.Options, w[1:]...)
		}
	}
	return r
}
