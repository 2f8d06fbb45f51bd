package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// chain is a base chain and its rules.
type chain struct {
	name string
	typ  nftables.ChainType
	hook *nftables.ChainHook
	prio *nftables.ChainPriority
	head string // as nft prints it
	rule []rule
}

// Ruleset is a compiled table.
type Ruleset struct {
	name    string
	bridges []string
	chains  []chain
	ports   []Port
}

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
	families  = []bool{false, true} // v4, v6
)

// Compile is pure: the same state gives the same rules, in the same order.
func Compile(name string, s State) *Ruleset {
	rs := &Ruleset{name: name, ports: s.Ports}
	for _, b := range s.Bridges {
		rs.bridges = append(rs.bridges, b.Name)
	}
	slices.Sort(rs.bridges)
	raw := chain{name: "raw", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, prio: nftables.ChainPriorityRaw, head: "type filter hook prerouting priority raw"}
	// First of all: what claims to come to loopback from outside is dropped before any translation.
	raw.add(iif("lo", false), daddr(loopback4), drop())
	fwd := chain{name: "forward", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookForward, prio: nftables.ChainPriorityFilter, head: "type filter hook forward priority filter"}
	post := chain{name: "postrouting", typ: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, prio: nftables.ChainPriorityNATSource, head: "type nat hook postrouting priority srcnat"}
	fwd.add(ifset("oifname"), established(), accept())
	fwd.add(ifset("iifname"), established(), accept())
	for _, b := range s.Bridges {
		fwd.forward(b)
		for _, f := range b.Families {
			post.source(b, f)
		}
	}
	if s.CloseForward {
		fwd.add(ifsetNot("iifname"), ifsetNot("oifname"), drop())
	}
	rs.chains = []chain{raw, fwd, post}
	for _, c := range []chain{
		{name: "prerouting", typ: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, prio: nftables.ChainPriorityNATDest, head: "type nat hook prerouting priority dstnat"},
		{name: "output", typ: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, prio: nftables.ChainPriorityNATDest, head: "type nat hook output priority -100"},
	} {
		if c.name == "output" {
			c.add(daddr(loopback6), accept()) // it cannot be sent elsewhere: the daemon relays it
		}
		for _, six := range families {
			c.add(local(), family(six), translate(six, true))
			c.add(local(), family(six), translate(six, false))
		}
		rs.chains = append(rs.chains, c)
	}
	return rs
}

func (c *chain) add(parts ...rule) {
	var r rule
	var text []string
	for _, p := range parts {
		text = append(text, p.text)
		r.exprs = append(r.exprs, p.exprs...)
	}
	r.text = strings.Join(text, " ")
	c.rule = append(c.rule, r)
}

// forward writes what may pass to and from one bridge.
func (c *chain) forward(b Bridge) {
	in, out := oif(b.Name, true), iif(b.Name, true)
	within := drop()
	if b.ICC {
		within = accept()
	}
	if b.Internal {
		c.add(in, iif(b.Name, false), drop())
		c.add(out, oif(b.Name, false), drop())
		c.add(out, in, within)
		return
	}
	c.add(in, translated(), accept()) // a published port, whoever asks
	c.add(out, in, within)
	for _, t := range b.Trusted {
		c.add(in, iif(t, true), accept())
	}
	for _, f := range b.Families {
		six := f.Subnet.Addr().Is6()
		switch f.Mode {
		case Routed:
			c.add(in, family(six), ifsetNot("iifname"), icmp(six), accept())
			c.add(in, family(six), ifsetNot("iifname"), open(six), accept())
		case NATUnprotected:
			c.add(in, family(six), ifsetNot("iifname"), accept())
		}
	}
	c.add(in, drop())
}

// source writes whose address packets get that leave one bridge, or that come back into it.
func (c *chain) source(b Bridge, f Family) {
	if b.Internal || f.Mode == Routed || f.Mode == Isolated {
		return
	}
	if f.Masq {
		c.add(saddr(f.Subnet), oif(b.Name, false), masquerade(f.Source))
	}
	if f.Subnet.Addr().Is4() {
		c.add(saddr(loopback4), oif(b.Name, true), masquerade(netip.Addr{}))
	}
	// A container that asks for a port published by one of its own network: the answer must come back through here.
	c.add(saddr(f.Subnet), oif(b.Name, true), translated(), masquerade(netip.Addr{}))
}

// String is the table as nft would list it, more or less; for golden files.
func (rs *Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n\tset bridges { type ifname; elements = { %s } }\n", rs.name, strings.Join(rs.bridges, ", "))
	var lines []string
	for _, p := range rs.ports {
		i, _ := element(p)
		if maps[i].open {
			lines = append(lines, fmt.Sprintf("\t%s: %s . %d . %d\n", maps[i].name, p.Container, p.Proto, p.ContainerPort))
			continue
		}
		lines = append(lines, fmt.Sprintf("\t%s: %s . %d . %d -> %s\n", maps[i].name, p.HostIP, p.Proto, p.HostPort, netip.AddrPortFrom(p.Container, p.ContainerPort)))
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	for _, c := range rs.chains {
		fmt.Fprintf(&b, "\tchain %s {\n\t\t%s; policy accept;\n", c.name, c.head)
		for _, r := range c.rule {
			fmt.Fprintf(&b, "\t\t%s\n", r.text)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}
