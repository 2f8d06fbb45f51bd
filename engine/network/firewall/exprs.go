package firewall

import (
	"net/netip"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is a piece of a rule or a whole one: how nft writes it, and the instructions.
type rule struct {
	text  string
	exprs []expr.Any
}

func ifname(s string) []byte { return append([]byte(s), make([]byte, unix.IFNAMSIZ-len(s))...) }

func iface(word string, key expr.MetaKey, name string, is bool) rule {
	op, sign := expr.CmpOpEq, ""
	if !is {
		op, sign = expr.CmpOpNeq, "!= "
	}
	return rule{word + " " + sign + `"` + name + `"`, []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: ifname(name)}}}
}

func iif(name string, is bool) rule { return iface("iifname", expr.MetaKeyIIFNAME, name, is) }
func oif(name string, is bool) rule { return iface("oifname", expr.MetaKeyOIFNAME, name, is) }

func inSet(word string, not bool) rule {
	key := expr.MetaKeyIIFNAME
	if word == "oifname" {
		key = expr.MetaKeyOIFNAME
	}
	sign := ""
	if not {
		sign = "!= "
	}
	return rule{word + " " + sign + "@bridges", []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: bridgeSet, Invert: not}}}
}

func ifset(word string) rule    { return inSet(word, false) }
func ifsetNot(word string) rule { return inSet(word, true) }

func verdict(text string, v expr.VerdictKind) rule {
	return rule{text, []expr.Any{&expr.Verdict{Kind: v}}}
}
func drop() rule   { return verdict("drop", expr.VerdictDrop) }
func accept() rule { return verdict("accept", expr.VerdictAccept) }

func family(six bool) rule {
	p, text := byte(unix.NFPROTO_IPV4), "meta nfproto ipv4"
	if six {
		p, text = unix.NFPROTO_IPV6, "meta nfproto ipv6"
	}
	return rule{text, []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}}}}
}

// where an address stands in its header: offset of the source, of the destination, and length, in bytes.
func where(six bool) (src, dst, n uint32) {
	if six {
		return 8, 24, 16
	}
	return 12, 16, 4
}

func address(word string, source bool, p netip.Prefix) rule {
	six := p.Addr().Is6()
	src, dst, n := where(six)
	proto := "ip "
	if six {
		proto = "ip6 "
	}
	if !source {
		src = dst
	}
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	f := family(six)
	return rule{proto + word + " " + p.Masked().String(), append(f.exprs,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: src, Len: n},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	)}
}

func saddr(p netip.Prefix) rule { return address("saddr", true, p) }
func daddr(p netip.Prefix) rule { return address("daddr", false, p) }

func ctBits(text string, key expr.CtKey, bits uint32) rule {
	return rule{text, []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}}
}

func established() rule {
	return ctBits("ct state established,related", expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// translated matches connections whose destination was rewritten (IPS_DST_NAT).
func translated() rule { return ctBits("ct status dnat", expr.CtKeySTATUS, 1<<5) }

func local() rule {
	return rule{"fib daddr type local", []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}}
}

func icmp(six bool) rule {
	p, text := byte(unix.IPPROTO_ICMP), "meta l4proto icmp"
	if six {
		p, text = unix.IPPROTO_ICMPV6, "meta l4proto ipv6-icmp"
	}
	return rule{text, []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}}}}
}

// masquerade gives packets the outgoing interface's address, or a fixed one.
func masquerade(to netip.Addr) rule {
	if !to.IsValid() {
		return rule{"masquerade", []expr.Any{&expr.Masq{}}}
	}
	nf := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		nf = unix.NFPROTO_IPV6
	}
	return rule{"snat to " + to.String(), []expr.Any{&expr.Immediate{Register: 1, Data: to.AsSlice()}, &expr.NAT{Type: expr.NATTypeSourceNAT, Family: nf, RegAddrMin: 1}}}
}

// key loads [daddr .] l4proto . dport into registers, four bytes a part, beginning with register 1's first four.
func key(six, withIP bool) []expr.Any {
	_, dst, n := where(six)
	at := uint32(unix.NFT_REG32_00)
	var es []expr.Any
	if withIP {
		es = append(es, &expr.Payload{DestRegister: at, Base: expr.PayloadBaseNetworkHeader, Offset: dst, Len: n})
		at += n / 4
	}
	return append(es,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: at},
		&expr.Payload{DestRegister: at + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	)
}

// translate looks the destination up in a map and rewrites it.
func translate(six, withIP bool) rule {
	m := maps[index(six, withIP)]
	_, _, n := where(six)
	nf, proto := uint32(unix.NFPROTO_IPV4), "ip"
	if six {
		nf, proto = unix.NFPROTO_IPV6, "ip6"
	}
	what := "meta l4proto . th dport"
	if withIP {
		what = proto + " daddr . " + what
	}
	return rule{strings.Join([]string{"dnat", proto, "to", what, "map", "@" + m.name}, " "), append(key(six, withIP),
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, DestRegister: 1, IsDestRegSet: true, SetName: m.name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: nf, RegAddrMin: 1, RegProtoMin: unix.NFT_REG32_00 + n/4, Specified: true},
	)}
}

// open matches what the routed networks of a family publish.
func open(six bool) rule {
	m := maps[openIndex(six)]
	proto := "ip"
	if six {
		proto = "ip6"
	}
	return rule{proto + " daddr . meta l4proto . th dport @" + m.name, append(key(six, true), &expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: m.name})}
}
