package firewall

import "net/netip"

// Mode says how containers of a network are reached from outside, for one address family.
type Mode string

// The modes; the strings are those of the bridge driver's option gateway_mode.
const (
	NAT            Mode = "nat" // published ports by translation, the rest is dropped
	NATUnprotected Mode = "nat-unprotected"
	Routed         Mode = "routed"   // no translation; published ports and ICMP reach the containers' own addresses
	Isolated       Mode = "isolated" // no address of the host on the network
)

// Family is the part of a network that belongs to one address family.
type Family struct {
	Subnet netip.Prefix
	Mode   Mode       // "" = NAT
	Masq   bool       // what leaves the network gets the host's address
	Source netip.Addr // of masqueraded packets; invalid: the outgoing interface's
}

// Bridge is one bridge network.
type Bridge struct {
	Name     string
	Families []Family // at most one of each
	ICC      bool     // containers may reach each other
	Internal bool     // nothing goes in or out
	Trusted  []string // interfaces whose packets are let in unseen
}

// Port is one published port. HostIP and Container are of the same family.
type Port struct {
	Proto         uint8      // IPPROTO_TCP, _UDP or _SCTP
	HostIP        netip.Addr // unspecified: all addresses of the family
	HostPort      uint16
	Container     netip.Addr
	ContainerPort uint16
	Routed        bool // opens the container's own address; nothing is translated
}

// State is everything the table is made from.
type State struct {
	Bridges []Bridge
	Ports   []Port
	// CloseForward drops what is forwarded between two interfaces that are not ours: this daemon switched forwarding on, and
	// the host was no router before.
	CloseForward bool
}
