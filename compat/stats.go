package compat

import (
	"encoding/json"
	"net/http"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
)

// containerStats streams samples. Without stream there is one answer; unless one-shot is asked it carries the sample of a
// second before too, so that clients can compute a rate.
func (s *Server) containerStats(c *Ctx) (any, error) {
	stream := c.query.Get("stream") == "" || c.flag("stream")
	oneShot := c.flag("one-shot")
	if stream && oneShot {
		return nil, wire.Invalid("cannot have stream=true and one-shot=true")
	}
	sn, seq, err := s.Containers.Stats(c.Context(), c.Param("id"), !oneShot)
	if err != nil {
		return nil, err
	}
	var before container.Usage
	if !stream {
		n := 0
		for u := range seq {
			if n++; n == 2 || oneShot || u.Read.IsZero() {
				return wire.Stats(sn, u, before), nil
			}
			before = u
		}
		return wire.Stats(sn, before, container.Usage{}), nil // the client left or the container did
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(c.w)
	_ = rc.Flush() // a client that left: noticed at the first write
	enc := json.NewEncoder(c.w)
	for u := range seq {
		if enc.Encode(wire.Stats(sn, u, before)) != nil {
			break
		}
		_ = rc.Flush() // as above
		before = u
	}
	return nil, done
}
