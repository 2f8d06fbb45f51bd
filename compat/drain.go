package compat

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// What is still read of an upload whose handler has seen enough: a client that sends more, or nothing, loses its connection.
const (
	drainBytes = 1 << 20
	drainTime  = 5 * time.Second
)

// drain reads an upload to its end before the answer is. net/http does that by itself only for handlers that are not full duplex;
// for these it begins to watch the connection for the next request when it finds the end too late, and breaks it.
func (c *Ctx) drain() {
	if c.route.kind != upload || c.ProtoMajor > 1 || c.Body == nil {
		return
	}
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Now().Add(drainTime)) // of a connection of our own
	n, err := io.CopyN(io.Discard, c.Body, drainBytes)
	if errors.Is(err, io.EOF) {
		_ = rc.SetReadDeadline(time.Time{}) // as above
		return
	}
	if n == drainBytes || err != nil {
		c.w.Header().Set("Connection", "close") // of no effect if the answer has begun
	}
}
