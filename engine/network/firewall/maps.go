package firewall

import (
	"encoding/binary"

	"github.com/google/nftables"
)

const bridgeSet = "bridges"

// portMap is one of the table's maps from a published port to a container's, or (open) a set of container ports.
type portMap struct {
	name              string
	six, withIP, open bool
}

var maps = [6]portMap{
	{name: "ports4"}, {name: "ports4_ip", withIP: true}, {name: "ports6", six: true}, {name: "ports6_ip", six: true, withIP: true},
	{name: "open4", withIP: true, open: true}, {name: "open6", six: true, withIP: true, open: true},
}

func index(six, withIP bool) int {
	i := 0
	if six {
		i = 2
	}
	if withIP {
		i++
	}
	return i
}

func openIndex(six bool) int {
	if six {
		return 5
	}
	return 4
}

func (m portMap) set(t *nftables.Table) *nftables.Set {
	ip := nftables.TypeIPAddr
	if m.six {
		ip = nftables.TypeIP6Addr
	}
	parts := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	if m.withIP {
		parts = append([]nftables.SetDatatype{ip}, parts...)
	}
	s := &nftables.Set{Table: t, Name: m.name, IsMap: !m.open, Concatenation: true, KeyType: nftables.MustConcatSetType(parts...)}
	if !m.open {
		s.DataType = nftables.MustConcatSetType(ip, nftables.TypeInetService)
	}
	return s
}

// element tells which map a port belongs to, and its entry. Parts of a concatenation are padded to four bytes.
func element(p Port) (int, nftables.SetElement) {
	six := p.Container.Is6()
	tail := func(b []byte, proto uint8, port uint16) []byte {
		b = append(b, proto, 0, 0, 0)
		return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
	}
	if p.Routed {
		return openIndex(six), nftables.SetElement{Key: tail(p.Container.AsSlice(), p.Proto, p.ContainerPort)}
	}
	var key []byte
	withIP := !p.HostIP.IsUnspecified()
	if withIP {
		key = p.HostIP.AsSlice()
	}
	val := binary.BigEndian.AppendUint16(p.Container.AsSlice(), p.ContainerPort)
	return index(six, withIP), nftables.SetElement{Key: tail(key, p.Proto, p.HostPort), Val: append(val, 0, 0)}
}
