package compat

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"

	eventapi "github.com/docker/docker/api/types/events"
	netapi "github.com/docker/docker/api/types/network"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/network"
)

func (s *Server) ping(c *Ctx) (any, error) {
	h := c.w.Header()
	h.Set("Builder-Version", s.builderVersion())
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if c.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil, done
	}
	_, _ = c.w.Write([]byte("OK")) // the client may be gone
	return nil, done
}

func (s *Server) events(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters")) // unknown ones are ignored here
	if err != nil {
		return nil, err
	}
	since, err := wire.Timestamp("since", c.query.Get("since"))
	if err != nil {
		return nil, err
	}
	until, err := wire.Timestamp("until", c.query.Get("until"))
	if err != nil {
		return nil, err
	}
	if !until.IsZero() && since.After(until) {
		return nil, wire.Invalid("`since` time (%d) cannot be after `until` time (%d)", since.Unix(), until.Unix())
	}
	seq := s.Events.Subscribe(c.Context(), func(e *event.Event) bool {
		return wire.EventVisible(c.version, string(e.Type), e.Action) && wire.EventWanted(f, e)
	}, since, until)
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(c.w)
	_ = rc.Flush() // a client that left: noticed at the first write
	enc := json.NewEncoder(c.w)
	enc.SetEscapeHTML(false)
	for e := range seq {
		m := eventapi.Message{Type: eventapi.Type(e.Type), Action: eventapi.Action(e.Action), Actor: eventapi.Actor{ID: e.ID, Attributes: e.Attributes}, Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano()}
		if e.Type == event.Container || e.Type == event.Image {
			m.Status, m.ID, m.From = e.Action, e.ID, e.Attributes["image"] //nolint:staticcheck // old clients read them
		}
		if enc.Encode(m) != nil {
			break
		}
		_ = rc.Flush() // as above
	}
	return nil, done
}

func (s *Server) networkList(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "name", "id", "driver", "label", "scope", "type", "dangling")
	if err != nil {
		return nil, err
	}
	in := func(list []string, ok func(string) bool) bool {
		return len(list) == 0 || slices.ContainsFunc(list, ok)
	}
	out := []netapi.Inspect{}
	for _, n := range s.Networks.List() {
		if in(f["name"], func(v string) bool {
			re, err := regexp.Compile(v)
			return v == n.Name || err == nil && re.MatchString(n.Name)
		}) &&
			in(f["id"], func(v string) bool { return strings.HasPrefix(string(n.ID), v) }) && in(f["driver"], func(v string) bool { return v == n.Driver }) &&
			in(f["type"], func(v string) bool { return v == "builtin" == n.Predefined }) && in(f["scope"], func(v string) bool { return v == "local" }) &&
			wire.Labels(f["label"], n.Labels) {
			out = append(out, wire.Network(n))
		}
	}
	return out, nil
}

func (s *Server) networkInspect(c *Ctx) (any, error) {
	n, err := s.Networks.Get(c.Param("id"))
	if err != nil {
		return nil, err
	}
	out := wire.Network(n)
	eps, err := s.Networks.Containers(n.ID)
	if err != nil {
		return nil, err
	}
	for id, ep := range eps {
		sn, err := s.Containers.Get(id)
		if err != nil {
			continue // gone meanwhile
		}
		out.Containers[id] = resource(sn.Name, ep)
	}
	return out, nil
}

func resource(name string, ep network.Endpoint) netapi.EndpointResource {
	r := netapi.EndpointResource{Name: name, EndpointID: ep.ID, MacAddress: ep.MAC}
	if ep.IPv4.IsValid() {
		r.IPv4Address = ep.IPv4.String()
	}
	return r
}
