package compat

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/docker/docker/api/types/network"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/network"
)

func (s *Server) networkCreate(c *Ctx) (any, error) {
	var r api.CreateRequest
	if err := c.decode(&r, true); err != nil {
		return nil, err
	}
	o, err := wire.NetworkCreate(&r)
	if err != nil {
		return nil, err
	}
	id, err := s.Networks.Create(c.Context(), o)
	if err != nil {
		return nil, err
	}
	return map[string]string{"Id": string(id), "Warning": ""}, nil
}

func (s *Server) networkList(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "name", "id", "driver", "label", "scope", "type", "dangling")
	if err != nil {
		return nil, err
	}
	for _, v := range f["type"] {
		if v != "custom" && v != "builtin" {
			return nil, wire.Internal("invalid filter: 'type'='%s'", v)
		}
	}
	for _, v := range f["dangling"] {
		if v != "true" && v != "1" && v != "false" && v != "0" {
			return nil, wire.Invalid(`invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`)
		}
	}
	out := []wire.ListedNetwork{}
	for _, n := range s.Networks.List() {
		eps, err := s.Networks.Containers(n.ID)
		if err != nil {
			return nil, err
		}
		if !networkWanted(f, n, len(eps) > 0) {
			continue
		}
		l := wire.ListedNetwork{Inspect: wire.Network(n)}
		if c.version < 28 {
			l.Containers = s.residents(eps)
		}
		out = append(out, l)
	}
	return out, nil
}

func networkWanted(f wire.Filters, n *network.Network, used bool) bool {
	in := func(key string, ok func(string) bool) bool {
		return len(f[key]) == 0 || slices.ContainsFunc(f[key], ok)
	}
	match := func(what string) func(string) bool {
		return func(v string) bool {
			re, err := regexp.Compile(v)
			return strings.HasPrefix(what, v) || err == nil && re.MatchString(what)
		}
	}
	return in("name", match(n.Name)) && in("id", match(string(n.ID))) && in("driver", func(v string) bool { return v == n.Driver }) &&
		in("type", func(v string) bool { return v == "builtin" == n.Predefined }) && in("scope", func(v string) bool { return v == "local" }) &&
		in("dangling", func(v string) bool { return wire.Bool(v) == (!n.Predefined && !used) }) && wire.Labels(f["label"], n.Labels)
}

// residents are the running containers on a network.
func (s *Server) residents(eps map[string]network.Endpoint) map[string]api.EndpointResource {
	out := map[string]api.EndpointResource{}
	for id, ep := range eps {
		if sn, err := s.Containers.Get(id); err == nil { // else it is gone meanwhile
			out[id] = wire.EndpointResource(sn.Name, ep)
		}
	}
	return out
}

func (s *Server) networkInspect(c *Ctx) (any, error) {
	if v := c.query.Get("verbose"); v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return nil, wire.Invalid("invalid value for verbose: %s: %v", v, err)
		}
	}
	n, err := s.Networks.Get(c.Param("id"))
	if err != nil {
		return nil, err
	}
	if scope := c.query.Get("scope"); scope != "" && scope != "local" {
		return nil, wire.NotFound("network %s not found", c.Param("id"))
	}
	eps, err := s.Networks.Containers(n.ID)
	if err != nil {
		return nil, err
	}
	out := wire.Network(n)
	out.Containers = s.residents(eps)
	return out, nil
}

func (s *Server) networkRemove(c *Ctx) (any, error) {
	return nil, s.Networks.Remove(c.Context(), c.Param("id"))
}

func (s *Server) networkConnect(c *Ctx) (any, error) {
	var r api.ConnectOptions
	if err := c.decode(&r, true); err != nil {
		return nil, err
	}
	a, err := wire.Attachment(r.EndpointConfig)
	if err != nil {
		return nil, err
	}
	return nil, s.Containers.Connect(c.Context(), c.Param("id"), r.Container, a)
}

func (s *Server) networkDisconnect(c *Ctx) (any, error) {
	var r api.DisconnectOptions
	if err := c.decode(&r, true); err != nil {
		return nil, err
	}
	return nil, s.Containers.Disconnect(c.Context(), c.Param("id"), r.Container, r.Force)
}

func (s *Server) networkPrune(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	var until time.Time
	for _, v := range f["until"] {
		if until, err = wire.Time("until", v); err != nil {
			return nil, wire.Invalid("failed to parse value as time or duration: invalid seconds %q: invalid syntax", v)
		}
	}
	names, err := s.Networks.Prune(c.Context(), func(n *network.Network) bool {
		return (until.IsZero() || n.Created.Before(until)) && pruneLabels(f, n.Labels)
	})
	if err != nil {
		return nil, err
	}
	return api.PruneReport{NetworksDeleted: names}, nil
}
