package compat

import (
	"encoding/json"
	"net/http"

	"github.com/berthd/berth/engine/image"
)

// progress writes one JSON object and CRLF for each message. Until the first one an error can still become a status.
type progress struct {
	c       *Ctx
	started bool
}

func (p *progress) send(v any) {
	if !p.started {
		p.started = true
		p.c.w.Header().Set("Content-Type", "application/json")
		p.c.w.WriteHeader(http.StatusOK)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	_, _ = p.c.w.Write(append(b, '\r', '\n'))     // a client that left: the work is cancelled by its context
	_ = http.NewResponseController(p.c.w).Flush() // as above
}

func (p *progress) row(r image.Progress) {
	m := map[string]any{}
	if r.Stream != "" {
		m["stream"] = r.Stream
	}
	if r.Status != "" {
		m["status"] = r.Status
	}
	if r.ID != "" {
		m["id"] = r.ID
	}
	if r.Layer {
		d := map[string]any{}
		if r.Total > 0 {
			d["current"], d["total"] = r.Current, r.Total
		}
		if r.Hide {
			d["hidecounts"] = true
		}
		m["progressDetail"] = d
	}
	if r.Aux != nil {
		m["aux"] = r.Aux
	}
	p.send(m)
}

// end reports how it went: as a status if nothing was sent yet, in the stream otherwise.
func (p *progress) end(err error) (any, error) {
	if err != nil && !p.started {
		return nil, err
	}
	if err != nil {
		p.send(map[string]any{"errorDetail": map[string]string{"message": err.Error()}, "error": err.Error()})
	}
	return nil, done
}
