// Package firewall keeps berth's one nftables table: address translation for published ports, masquerading, and the drops
// that keep unpublished ports unreachable. It speaks netlink; no program is run.
//
// The chains are fixed; a published port is one map element. Sync replaces the table in a single transaction, so there is
// no moment without rules.
package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Port is one published port.
type Port struct {
	TCP           bool
	HostIP        netip.Addr // 0.0.0.0 for all
	HostPort      uint16
	Container     netip.Addr
	ContainerPort uint16
}

// Bridge is one bridge network.
type Bridge struct {
	Name   string
	Subnet netip.Prefix
	ICC    bool // containers may reach each other
	Masq   bool
}

// Table is the named table. Safe for concurrent use.
type Table struct {
	name string
	mu   sync.Mutex // one transaction at a time
}

// New makes the handle; nothing is touched.
func New(name string) *Table { return &Table{name: name} }

var mapNames = [4]string{"tcp_any", "tcp_ip", "udp_any", "udp_ip"}

func (t *Table) table() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyIPv4}
}

func portMap(t *nftables.Table, i int) *nftables.Set {
	s := &nftables.Set{Table: t, Name: mapNames[i], IsMap: true, KeyType: nftables.TypeInetService, DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
	if i%2 == 1 {
		s.KeyType = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
		s.Concatenation = true
	}
	return s
}

// element tells which map a port belongs to, and its entry. Parts of a concatenation are padded to four bytes.
func element(p Port) (int, nftables.SetElement) {
	i := 0
	if !p.TCP {
		i = 2
	}
	key := binaryutil.BigEndian.PutUint16(p.HostPort)
	if !p.HostIP.IsUnspecified() {
		i++
		a := p.HostIP.As4()
		key = append(append(a[:], key...), 0, 0)
	}
	a := p.Container.As4()
	val := binary.BigEndian.AppendUint16(a[:], p.ContainerPort)
	return i, nftables.SetElement{Key: key, Val: append(val, 0, 0)}
}

// Sync makes the table exactly what bridges and ports say, in one transaction.
func (t *Table) Sync(bridges []Bridge, ports []Port) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tab := t.table()
	c.AddTable(tab) // so that the deletion cannot fail
	c.DelTable(tab)
	c.AddTable(tab)
	var sets [4]*nftables.Set
	elems := [4][]nftables.SetElement{}
	for _, p := range ports {
		i, e := element(p)
		elems[i] = append(elems[i], e)
	}
	for i := range sets {
		sets[i] = portMap(tab, i)
		if err := c.AddSet(sets[i], elems[i]); err != nil {
			return err
		}
	}
	t.chains(c, tab, sets, bridges)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// Publish adds ports to a table that Sync made; Unpublish removes them and succeeds if they are gone.
func (t *Table) Publish(ports []Port) error { return t.change(ports, (*nftables.Conn).SetAddElements) }

// Unpublish is the inverse of Publish.
func (t *Table) Unpublish(ports []Port) error {
	err := t.change(ports, (*nftables.Conn).SetDeleteElements)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (t *Table) change(ports []Port, f func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(ports) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	for _, p := range ports {
		i, e := element(p)
		if err := f(c, portMap(t.table(), i), []nftables.SetElement{e}); err != nil {
			return err
		}
	}
	return c.Flush()
}

// Remove deletes the table.
func (t *Table) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.AddTable(t.table())
	c.DelTable(t.table())
	return c.Flush()
}

func (t *Table) chains(c *nftables.Conn, tab *nftables.Table, sets [4]*nftables.Set, bridges []Bridge) {
	chain := func(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: tab, Type: typ, Hooknum: hook, Priority: &prio})
	}
	rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
		var es []expr.Any
		for _, p := range parts {
			es = append(es, p...)
		}
		c.AddRule(&nftables.Rule{Table: tab, Chain: ch, Exprs: es})
	}
	// First of all: what claims to come to loopback from outside is dropped before any translation.
	raw := chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	rule(raw, iif("lo", false), daddr(loopback), verdict(expr.VerdictDrop))

	fwd := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	for _, b := range bridges {
		rule(fwd, oif(b.Name, true), ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
		rule(fwd, oif(b.Name, true), ctDNAT(), verdict(expr.VerdictAccept))
		if b.ICC {
			rule(fwd, iif(b.Name, true), oif(b.Name, true), verdict(expr.VerdictAccept))
		}
		rule(fwd, oif(b.Name, true), verdict(expr.VerdictDrop))
		if b.Masq {
			rule(post, saddr(b.Subnet), oif(b.Name, false), []expr.Any{&expr.Masq{}})
		}
		rule(post, saddr(loopback), oif(b.Name, true), []expr.Any{&expr.Masq{}})
		rule(post, saddr(b.Subnet), oif(b.Name, true), ctDNAT(), []expr.Any{&expr.Masq{}})
	}
	for _, ch := range []*nftables.Chain{
		chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest),
		chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest),
	} {
		for i, s := range sets {
			proto := byte(unix.IPPROTO_TCP)
			if i >= 2 {
				proto = unix.IPPROTO_UDP
			}
			rule(ch, translate(s, proto, i%2 == 1))
		}
	}
}

func ifname(s string) []byte { return append([]byte(s), make([]byte, unix.IFNAMSIZ-len(s))...) }

func iface(key expr.MetaKey, name string, is bool) []expr.Any {
	op := expr.CmpOpEq
	if !is {
		op = expr.CmpOpNeq
	}
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: ifname(name)}}
}

func iif(name string, is bool) []expr.Any { return iface(expr.MetaKeyIIFNAME, name, is) }
func oif(name string, is bool) []expr.Any { return iface(expr.MetaKeyOIFNAME, name, is) }

func verdict(v expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: v}} }

func address(offset uint32, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	net := p.Masked().Addr().As4()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: net[:]},
	}
}

func saddr(p netip.Prefix) []expr.Any { return address(12, p) }
func daddr(p netip.Prefix) []expr.Any { return address(16, p) }

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func ctState(bits uint32) []expr.Any { return ctBits(expr.CtKeySTATE, bits) }

// ctDNAT matches connections whose destination was translated (IPS_DST_NAT).
func ctDNAT() []expr.Any { return ctBits(expr.CtKeySTATUS, 1<<5) }

// translate looks the destination up in a map of address . port and rewrites it.
func translate(s *nftables.Set, proto byte, withIP bool) []expr.Any {
	port := uint32(1)
	es := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
	if withIP {
		es = append(es, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4})
		port = 9 // the second four bytes of register 1
	}
	return append(es,
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: s.Name, SetID: s.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 9, Specified: true},
	)
}
