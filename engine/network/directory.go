package network

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// directory is who is called what on which network. Safe for concurrent use.
type directory struct {
	mu   sync.RWMutex
	nets map[ID]*segment
	own  map[string][]Endpoint // by container
}

// segment is the directory of one network. Names are in small letters.
type segment struct {
	names map[string][]resident
	addrs map[netip.Addr]string // the first name of who has it
}

type resident struct {
	container string
	addrs     []netip.Addr
}

func newDirectory() *directory {
	return &directory{nets: map[ID]*segment{}, own: map[string][]Endpoint{}}
}

// set makes a container's endpoints known, in place of those it had; none makes it unknown.
func (d *directory) set(container string, eps []Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ep := range d.own[container] {
		d.drop(container, ep)
	}
	if len(eps) == 0 {
		delete(d.own, container)
		return
	}
	d.own[container] = eps
	for _, ep := range eps {
		if len(ep.DNSNames) == 0 {
			continue
		}
		s := d.nets[ep.Network]
		if s == nil {
			s = &segment{map[string][]resident{}, map[netip.Addr]string{}}
			d.nets[ep.Network] = s
		}
		r := resident{container: container}
		for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
			if p.IsValid() {
				r.addrs = append(r.addrs, p.Addr())
				s.addrs[p.Addr()] = ep.DNSNames[0]
			}
		}
		for _, n := range ep.DNSNames {
			n = strings.ToLower(n)
			s.names[n] = append(s.names[n], r)
		}
	}
}

func (d *directory) drop(container string, ep Endpoint) {
	s := d.nets[ep.Network]
	if s == nil {
		return
	}
	for _, n := range ep.DNSNames {
		n = strings.ToLower(n)
		s.names[n] = slices.DeleteFunc(s.names[n], func(r resident) bool { return r.container == container })
		if len(s.names[n]) == 0 {
			delete(s.names, n)
		}
	}
	for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
		if p.IsValid() {
			delete(s.addrs, p.Addr())
		}
	}
	if len(s.names) == 0 {
		delete(d.nets, ep.Network)
	}
}

// lookup finds a name for a container: its own links first, then the names on each of its networks, then names with the
// network's behind a dot.
func (d *directory) lookup(container, name string) ([]netip.Addr, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	eps := d.own[container]
	for i := range eps {
		for alias, target := range eps[i].Links {
			if strings.EqualFold(alias, name) {
				if addrs, ok := d.find(eps[i].Network, strings.ToLower(target)); ok {
					return addrs, true
				}
			}
		}
	}
	for i := range eps {
		if addrs, ok := d.find(eps[i].Network, name); ok {
			return addrs, true
		}
	}
	for i := range eps {
		if short, ok := strings.CutSuffix(name, "."+strings.ToLower(eps[i].Name)); ok {
			if addrs, ok := d.find(eps[i].Network, short); ok {
				return addrs, true
			}
		}
	}
	return nil, false
}

func (d *directory) find(n ID, name string) ([]netip.Addr, bool) {
	s := d.nets[n]
	if s == nil {
		return nil, false
	}
	rs, ok := s.names[name]
	if len(rs) == 1 {
		return rs[0].addrs, true // shared, never changed
	}
	var out []netip.Addr
	for _, r := range rs {
		out = append(out, r.addrs...)
	}
	return out, ok
}

// reverse finds the name of an address on one of the container's networks.
func (d *directory) reverse(container string, a netip.Addr) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, ep := range d.own[container] {
		if s := d.nets[ep.Network]; s != nil {
			if name, ok := s.addrs[a]; ok {
				return name + "." + ep.Name, true
			}
		}
	}
	return "", false
}

// endpoints of a container, not to be changed.
func (d *directory) endpoints(container string) []Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.own[container]
}
