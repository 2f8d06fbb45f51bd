package container

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/network"
)

// Link lets a container on the default bridge find another by a name of its own.
type Link struct {
	Container ID // the one that is found
	Alias     string
}

// linkDeprecated is what create says about any link.
const linkDeprecated = "Links on the default bridge network are deprecated and will be removed in a future release. Use a custom network instead."

// parseLink reads "name", "name:alias" and inspect's "/name:/other/alias".
func parseLink(s string) (name, alias string, err error) {
	if s == "" {
		return "", "", errkind.Internal("empty string specified for links")
	}
	f := strings.Split(s, ":")
	switch {
	case len(f) > 2:
		return "", "", errkind.Internal("bad format for links: %s", s)
	case len(f) == 1:
		return s, s, nil
	case strings.HasPrefix(f[0], "/"):
		return f[0][1:], filepath.Base(f[1]), nil
	}
	return f[0], f[1], nil
}

// link turns the user's words for links into the containers they mean.
func (m *Manager) link(s *Spec) (warnings []string, err error) {
	for _, l := range s.Network.Links {
		name, alias, err := parseLink(l)
		if err != nil {
			return nil, err
		}
		d, err := m.Get(name)
		for err == nil && strings.HasPrefix(d.Spec.Network.Mode, joinPrefix) {
			d, err = m.Get(strings.TrimPrefix(d.Spec.Network.Mode, joinPrefix))
		}
		if err != nil {
			return nil, errkind.InvalidArgument("could not get container for %s: %s", name, err)
		}
		if d.Spec.Network.Mode == network.Host {
			return nil, errkind.InvalidArgument("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
		s.Network.Linked = append(s.Network.Linked, Link{d.ID, alias})
	}
	if len(s.Network.Linked) > 0 && s.Network.Mode == network.Bridge {
		warnings = append(warnings, linkDeprecated)
	}
	s.Network.Links = nil
	return warnings, nil
}

// LinkNames tells, for one answer, how links show: of gives the words that a container's inspect has, names the further
// names that its links give to other containers.
func (m *Manager) LinkNames() (of func(*Snapshot) []string, names map[ID][]string) {
	names = map[ID][]string{}
	for _, s := range m.List() {
		for _, l := range s.Spec.Network.Linked {
			names[l.Container] = append(names[l.Container], "/"+s.Name+"/"+l.Alias)
		}
	}
	return func(s *Snapshot) (out []string) {
		for _, l := range s.Spec.Network.Linked {
			if d, err := m.Get(string(l.Container)); err == nil {
				out = append(out, "/"+d.Name+":/"+s.Name+"/"+l.Alias)
			}
		}
		return out
	}, names
}

// linked is a link of a container that starts: what it sees of the other.
type linked struct {
	alias, name string
	ip          string
	spec        *Spec
}

// resolveLinks looks the other sides up. A container that was removed since is no longer linked.
func (m *Manager) resolveLinks(s *Snapshot) (out []linked, err error) {
	if s.Spec.Network.Mode != network.Bridge {
		return nil, nil // on networks of the user names are found by DNS
	}
	for _, l := range s.Spec.Network.Linked {
		d, err := m.Get(string(l.Container))
		if err != nil {
			continue
		}
		if !d.State.Phase.Live() {
			return nil, errkind.Internal("Cannot link to a non running container: /%s AS /%s/%s", d.Name, s.Name, l.Alias)
		}
		if ip := bridgeAddress(d); ip != "" {
			out = append(out, linked{l.Alias, d.Name, ip, d.Spec})
		}
	}
	return out, nil
}

func bridgeAddress(s *Snapshot) string {
	for _, ep := range s.Endpoints {
		if ep.Name == network.Bridge && ep.IPv4.IsValid() {
			return ep.IPv4.Addr().String()
		}
	}
	return ""
}

// hostsLine is the line of /etc/hosts for a link.
func (l linked) hostsLine() string {
	names := l.alias + " " + l.spec.Hostname
	if l.alias != l.name {
		names += " " + l.name
	}
	return l.ip + "\t" + names + "\n"
}

// linkEnv is the environment that links give to a container called name. Source: what dockerd sets, variable by variable.
func linkEnv(name string, ls []linked) (env []string) {
	for _, l := range ls {
		key := strings.ReplaceAll(strings.ToUpper(l.alias), "-", "_")
		ports := exposedPorts(l.spec)
		if len(ports) > 0 {
			env = append(env, fmt.Sprintf("%s_PORT=%s", key, ports[0].url(l.ip)))
		}
		for i, p := range ports {
			k := fmt.Sprintf("%s_PORT_%d_%s", key, p.number, strings.ToUpper(p.proto))
			if last := lastInRow(ports, i); last > i+1 && (i == 0 || lastInRow(ports, i-1) == i-1) {
				q := ports[last]
				env = append(env, k+"_START="+p.url(l.ip), fmt.Sprintf("%s_PORT_START=%d", k, p.number), k+"_END="+q.url(l.ip), fmt.Sprintf("%s_PORT_END=%d", k, q.number))
			}
			env = append(env, k+"="+p.url(l.ip), k+"_ADDR="+l.ip, fmt.Sprintf("%s_PORT=%d", k, p.number), k+"_PROTO="+p.proto)
		}
		env = append(env, key+"_NAME=/"+name+"/"+l.alias)
		for _, e := range l.spec.Process.Env {
			if k, v, ok := strings.Cut(e, "="); ok && k != "HOME" && k != "PATH" {
				env = append(env, key+"_ENV_"+k+"="+v)
			}
		}
	}
	return env
}

type exposed struct {
	number int
	proto  string
}

func (p exposed) url(ip string) string { return fmt.Sprintf("%s://%s:%d", p.proto, ip, p.number) }

func exposedPorts(s *Spec) (out []exposed) {
	for k := range s.Network.ExposedPorts {
		num, proto, _ := strings.Cut(k, "/")
		if n, err := strconv.Atoi(num); err == nil {
			out = append(out, exposed{n, proto})
		}
	}
	slices.SortFunc(out, func(a, b exposed) int {
		return cmp.Or(cmp.Compare(a.number, b.number), strings.Compare(a.proto, b.proto))
	})
	return out
}

// lastInRow is the index of the last port that follows ps[i] without a gap.
func lastInRow(ps []exposed, i int) int {
	for i+1 < len(ps) && ps[i+1].number == ps[i].number+1 && ps[i+1].proto == ps[i].proto {
		i++
	}
	return i
}

// refreshLinks writes the new address of a container that has just started into the hosts files of those that link to it.
func (m *Manager) refreshLinks(child *Snapshot) {
	ip := bridgeAddress(child)
	if ip == "" {
		return
	}
	for _, s := range m.List() {
		if !s.State.Phase.Live() || s.ID == child.ID {
			continue
		}
		for _, l := range s.Spec.Network.Linked {
			if l.Container != child.ID {
				continue
			}
			line := linked{l.Alias, child.Name, ip, child.Spec}.hostsLine()
			if err := replaceHost(filepath.Join(m.dir(s.ID), "hosts"), l.Alias, line); err != nil {
				m.d.Log.Warn("telling a container where its link is now", "container", s.ID, "error", err)
			}
		}
	}
}

// replaceHost puts line in the place of the one whose first name is alias. The file is written in place: it is mounted.
func replaceHost(file, alias, line string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var out strings.Builder
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[1] == alias {
			l = line
		}
		out.WriteString(l)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0) //nolint:forbidigo // see above
	if err != nil {
		return err
	}
	_, err = f.WriteString(out.String())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
