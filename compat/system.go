package compat

import (
	"encoding/json"
	"net/http"

	eventapi "github.com/docker/docker/api/types/events"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/event"
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
