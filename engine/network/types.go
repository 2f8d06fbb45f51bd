package network

import (
	"net/netip"
	"time"
)

// ID of a network: 64 hex digits. Predefined networks have ordinary ids too.
type ID string

// Names of the predefined networks and of their drivers.
const (
	Bridge = "bridge"
	Host   = "host"
	None   = "none"
	Null   = "null" // driver of the network none
)

// Network is a segment that containers join. Immutable once made.
type Network struct {
	ID         ID                `json:"id"`
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	Driver     string            `json:"driver"`
	EnableIPv4 bool              `json:"enableIPv4"`
	EnableIPv6 bool              `json:"enableIPv6"`
	Internal   bool              `json:"internal"`
	Attachable bool              `json:"attachable"`
	Options    map[string]string `json:"options"` // never nil
	Labels     map[string]string `json:"labels"`  // never nil
	IPAM       IPAM              `json:"ipam"`
	Predefined bool              `json:"predefined"`
	ConfigOnly bool              `json:"configOnly"` // only a template for others
	ConfigFrom string            `json:"configFrom"` // name of the template; "" = none
	Template   []Pool            `json:"template"`   // of a ConfigOnly network: the addressing as given
}

// Drivers.
const (
	Macvlan = "macvlan"
	Ipvlan  = "ipvlan"
)

// IPAM is the addressing of a network.
type IPAM struct {
	Driver  string            `json:"driver"`
	Options map[string]string `json:"options"` // nil when none
	Pools   []Pool            `json:"pools"`   // nil for host and none
}

// Pool is one subnet of a network.
type Pool struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Range   netip.Prefix          `json:"range"`   // invalid: whole subnet
	Gateway netip.Addr            `json:"gateway"` // the bridge's own address
	Aux     map[string]netip.Addr `json:"aux"`
	Given   bool                  `json:"given"` // the user named the subnet, so static addresses are allowed
}

// Endpoint is one container's place in one network. Addresses are invalid (zero) until planned.
type Endpoint struct {
	ID        string       `json:"id"` // 64 hex digits, new at each start
	Network   ID           `json:"network"`
	Name      string       `json:"name"` // of the network, as the user wrote it
	IPv4      netip.Prefix `json:"ipv4"`
	IPv6      netip.Prefix `json:"ipv6"`
	Gateway4  netip.Addr   `json:"gateway4"`
	Gateway6  netip.Addr   `json:"gateway6"`
	MAC       string       `json:"mac"` // aa:bb:cc:dd:ee:ff
	Interface string       `json:"interface"`
	Ports     []Published  `json:"ports"`    // what is published through this endpoint, numbers decided
	DNSNames  []string     `json:"dnsNames"` // nil on the default bridge
	// Container is the container's name when it joined; error texts and hosts files show it.
	Container  string            `json:"container"`
	GwPriority int               `json:"gwPriority"`
	Internal   bool              `json:"internal"` // no way out: never the default route
	Links      map[string]string `json:"links"`    // names that only this container knows, to containers' names or ids
	DriverOpts map[string]string `json:"driverOpts"`
	Upstreams  []string          `json:"upstreams"` // name servers the user gave; nil: the host's
	Ndots      bool              `json:"ndots"`     // the user said what ndots is
}

// Proto is a transport: tcp, udp or sctp.
type Proto string

// Port is a container port.
type Port struct {
	Number uint16 `json:"number"`
	Proto  Proto  `json:"proto"`
}

// PortRequest asks for a published port.
type PortRequest struct {
	Container Port       `json:"container"`
	HostIP    netip.Addr `json:"hostIP"` // invalid: all addresses of both families
	First     uint16     `json:"first"`  // host port range; 0: any free one from the ephemeral range
	Last      uint16     `json:"last"`   // equal to First for a single port
}

// Published is a port that is reachable from outside. One request without HostIP gives one entry per address family, with
// the same host port.
type Published struct {
	Container Port       `json:"container"`
	HostIP    netip.Addr `json:"hostIP"` // 0.0.0.0 or :: for all
	HostPort  uint16     `json:"hostPort"`
}

// Intent is what a container asks of the network.
type Intent struct {
	Mode        string                `json:"mode"`        // default | bridge | host | none | container:<id> | a network's name or id
	Attachments map[string]Attachment `json:"attachments"` // by network name; what is not there is not joined
	Hostname    string                `json:"hostname"`
	DNS         []string              `json:"dns"`        // name servers given by the user; nil: the host's
	Ndots       bool                  `json:"ndots"`      // the options given by the user say what ndots is
	Publish     []PortRequest         `json:"publish"`    // from port bindings
	PublishAll  bool                  `json:"publishAll"` // every exposed port gets a host port
	Exposed     []Port                `json:"exposed"`
	Disabled    bool                  `json:"disabled"`
}

// Attachment is what the user asked of one network. nil slices and maps stay nil: they are shown as they were given.
type Attachment struct {
	IPv4       netip.Addr        `json:"ipv4"`
	IPv6       netip.Addr        `json:"ipv6"`
	LinkLocal  []netip.Addr      `json:"linkLocal"`
	HasIPAM    bool              `json:"hasIPAM"` // an IPAMConfig object was given, even if empty
	Links      []string          `json:"links"`
	Aliases    []string          `json:"aliases"`
	MAC        string            `json:"mac"`
	DriverOpts map[string]string `json:"driverOpts"`
	GwPriority int               `json:"gwPriority"`
	// What a start or a connect found out; empty before.
	NetworkID ID       `json:"networkID"`
	DNSNames  []string `json:"dnsNames"`
}

// Sandbox is a container's network namespace.
type Sandbox struct {
	ContainerID string
	Path        string // file that pins the namespace; "" for host mode
}
