package network

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network/firewall"
)

func ephemeral() (first, last uint16) {
	first, last = 32768, 60999
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &first, &last) // the default stays on nonsense
	}
	return first, last
}

// listening are the ports that somebody on the host has bound, whatever the address. Source: proc(5).
func listening() map[Port]bool {
	out := map[Port]bool{}
	for _, proto := range []Proto{"tcp", "udp"} {
		for _, suffix := range []string{"", "6"} {
			f, err := os.Open("/proc/net/" + string(proto) + suffix)
			if err != nil {
				continue // no such family here
			}
			for sc := bufio.NewScanner(f); sc.Scan(); {
				w := strings.Fields(sc.Text())
				if len(w) < 4 || proto == "tcp" && w[3] != "0A" && w[3] != "07" { // listening or bound only
					continue
				}
				_, hex, ok := strings.Cut(w[1], ":")
				if n, err := strconv.ParseUint(hex, 16, 16); ok && err == nil {
					out[Port{uint16(n), proto}] = true
				}
			}
			_ = f.Close() // read only
		}
	}
	return out
}

// portKey orders by protocol and number, so that the addresses of one port stand together.
func portKey(p Published) string {
	return fmt.Sprintf("%s/%d/%s", p.Container.Proto, p.HostPort, p.HostIP)
}

// portFree reports whether no container has the port on any of the addresses.
func portFree(tx *store.Tx, proto Proto, port uint16, addrs []netip.Addr) bool {
	free := true
	prefix := fmt.Sprintf("%s/%d/", proto, port)
	_ = tx.Scan(store.Ports, prefix, func(key string, _ func(any) error) error { // nothing in it fails
		have, err := netip.ParseAddr(key[len(prefix):])
		for _, a := range addrs {
			if err != nil || have == a || have.Is4() == a.Is4() && (have.IsUnspecified() || a.IsUnspecified()) {
				free = false
			}
		}
		return nil
	})
	return free
}

// assignPorts publishes through the endpoints that lead outside: chosen anew, or those of have, kept when the way out
// changes. Whatever no endpoint can carry is freed.
func (m *Manager) assignPorts(tx *store.Tx, containerID string, eps []Endpoint, in Intent, d Draw, have []Published) error {
	for i := range eps {
		eps[i].Ports = nil
	}
	gw4, gw6 := gateway(eps, false), gateway(eps, true)
	if gw4 == nil && gw6 == nil {
		for _, p := range have {
			if err := tx.Delete(store.Ports, portKey(p)); err != nil {
				return err
			}
		}
		return nil
	}
	if have == nil {
		first := gw4
		if first == nil {
			first = gw6
		}
		n, err := m.Get(string(first.Network))
		if err != nil {
			return err
		}
		o, err := parseBridge(n)
		if err != nil {
			return err
		}
		if have, err = m.planPorts(tx, containerID, first, in, o, d); err != nil {
			return err
		}
	}
	for _, p := range have {
		to := gw4
		if p.HostIP.Is6() && gw6 != nil || gw4 == nil {
			to = gw6
		}
		to.Ports = append(to.Ports, p)
	}
	return nil
}

// planPorts decides every host port and takes it.
func (m *Manager) planPorts(tx *store.Tx, containerID string, ep *Endpoint, in Intent, o bridgeOptions, d Draw) ([]Published, error) {
	reqs := slices.Clone(in.Publish)
	if in.PublishAll {
		for _, e := range in.Exposed {
			if !slices.ContainsFunc(reqs, func(r PortRequest) bool { return r.Container == e }) {
				reqs = append(reqs, PortRequest{Container: e})
			}
		}
	}
	out := []Published{}
	for _, r := range reqs {
		addrs := []netip.Addr{r.HostIP}
		switch {
		case r.HostIP.IsValid():
		case o.HostBinding.IsValid():
			addrs[0] = o.HostBinding
		case m.six:
			addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		default:
			addrs[0] = netip.IPv4Unspecified()
		}
		port := uint16(0)
		if o.Mode4 != firewall.Routed { // a routed network publishes the containers' own ports
			var err error
			if port, err = pickPort(tx, r, addrs, d); err != nil {
				return nil, errExternal(ep, errkind.Internal("Bind for %s:%d failed: %w", addrs[0], r.First, err))
			}
		}
		for _, a := range addrs {
			p := Published{Container: r.Container, HostIP: a, HostPort: port}
			if err := tx.Put(store.Ports, portKey(p), containerID); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

var errAllocated = errors.New("port is already allocated")

func pickPort(tx *store.Tx, r PortRequest, addrs []netip.Addr, d Draw) (uint16, error) {
	if r.First != 0 {
		ranged := r.Last > r.First
		for p := int(r.First); p <= int(max(r.First, r.Last)); p++ {
			if portFree(tx, r.Container.Proto, uint16(p), addrs) && !(ranged && d.busy[Port{uint16(p), r.Container.Proto}]) {
				return uint16(p), nil
			}
		}
		return 0, errAllocated
	}
	first, last := ephemeral()
	for i := 0; i <= int(last-first); i++ {
		p := first + (d.port-first+uint16(i))%(last-first+1)
		if !d.busy[Port{p, r.Container.Proto}] && portFree(tx, r.Container.Proto, p, addrs) {
			return p, nil
		}
	}
	return 0, errAllocated
}
