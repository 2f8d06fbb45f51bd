package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/network"
)

// localHosts begins every hosts file.
const localHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// files writes hostname, hosts and resolv.conf, or names those of the container whose network is shared.
func (m *Manager) files(s *Snapshot, j joins) ([]File, error) {
	dir := m.dir(s.ID)
	if err := fsx.MkdirAll("container.dir", dir, 0o710); err != nil {
		return nil, err
	}
	out := []File{}
	if owner := j.netOwner; owner != nil {
		for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
			out = append(out, File{filepath.Join(m.dir(owner.ID), name), "/etc/" + name})
		}
		return out, nil
	}
	for name, text := range map[string]string{"hosts": m.hosts(s, j.links) + strings.Join(own(s), ""), "hostname": s.Spec.Hostname + "\n", "resolv.conf": m.resolv(s)} {
		p := filepath.Join(dir, name)
		// Not durable on purpose: it is written anew at every start.
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil { //nolint:forbidigo // see above
			return nil, err
		}
		out = append(out, File{p, "/etc/" + name})
	}
	return out, nil
}

// refile rewrites the files of a running container whose endpoints changed. What its user wrote into them is left alone:
// lines that the engine put into hosts are exchanged, resolv.conf only if it is still the engine's.
func (m *Manager) refile(before, after *Snapshot) error {
	hosts := filepath.Join(m.dir(after.ID), "hosts")
	b, err := os.ReadFile(hosts)
	if err != nil {
		return err
	}
	was, is := own(before), own(after)
	var lines []string
	for l := range strings.Lines(string(b)) {
		if !slices.Contains(was, l) {
			lines = append(lines, l)
		}
	}
	// Written in place: the container sees this very file.
	if err := os.WriteFile(hosts, []byte(strings.Join(append(lines, is...), "")), 0o644); err != nil { //nolint:forbidigo // see files
		return err
	}
	resolv := filepath.Join(m.dir(after.ID), "resolv.conf")
	if b, err = os.ReadFile(resolv); err != nil || string(b) != m.resolv(before) {
		return err
	}
	return os.WriteFile(resolv, []byte(m.resolv(after)), 0o644) //nolint:forbidigo // see files
}

// own are the lines by which a container finds itself.
func own(s *Snapshot) []string {
	name := s.Spec.Hostname
	if d := s.Spec.Domainname; d != "" {
		name += "." + d
	}
	if short, _, dotted := strings.Cut(name, "."); dotted {
		name += " " + short
	}
	var out []string
	for _, ep := range s.Endpoints {
		if ep.IPv4.IsValid() {
			out = append(out, ep.IPv4.Addr().String()+"\t"+name+"\n")
		}
		if ep.IPv6.IsValid() {
			out = append(out, ep.IPv6.Addr().String()+"\t"+name+"\n")
		}
	}
	return out
}

// hosts is the beginning of a hosts file: what does not depend on the container's own addresses.
func (m *Manager) hosts(s *Snapshot, links []linked) string {
	hosts := localHosts
	if s.Spec.Network.Mode == network.Host {
		if b, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = string(b)
		}
	}
	for _, h := range s.Spec.Network.ExtraHosts {
		name, ip, _ := strings.Cut(h, ":")
		if ip == hostGateway {
			ip = m.d.Networks.HostGateway()
		}
		hosts += ip + "\t" + name + "\n"
	}
	for _, l := range links {
		hosts += l.hostsLine()
	}
	return hosts
}

func saysNdots(options []string) bool {
	return slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") })
}

// resolv is the container's resolv.conf: the engine's own resolver on user-defined networks, else the host's.
func (m *Manager) resolv(s *Snapshot) string {
	embedded := slices.ContainsFunc(s.Endpoints, func(ep network.Endpoint) bool { return ep.DNSNames != nil })
	r := network.HostResolv(s.Spec.Network.Mode == network.Host || embedded)
	pick := func(user, daemon, host []string) []string {
		if len(user) > 0 {
			return user
		}
		if len(daemon) > 0 {
			return daemon
		}
		return host
	}
	d, n := m.d.Defaults, s.Spec.Network
	servers, options := pick(n.DNS, d.DNS, r.Nameservers), pick(n.DNSOptions, d.DNSOptions, r.Options)
	if embedded {
		servers = []string{network.Resolver}
		if !saysNdots(options) {
			options = append(slices.Clone(options), "ndots:0")
		}
	}
	var b strings.Builder
	for _, ns := range servers {
		b.WriteString("nameserver " + ns + "\n")
	}
	if search := pick(n.DNSSearch, d.DNSSearch, r.Search); len(search) > 0 && search[0] != "." {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}
