package engine

import (
	"maps"
	"os"
	"time"

	"github.com/berthd/berth/engine/event"
)

// Reloadable is what a running engine takes over.
type Reloadable struct {
	LiveRestore bool
	Attributes  map[string]string // of the event
}

// Reload takes new values over, all at once, and tells so.
func (e *Engine) Reload(r Reloadable) {
	e.keep.Store(r.LiveRestore)
	name, _ := os.Hostname() // "" is shown
	attrs := map[string]string{"name": name}
	maps.Copy(attrs, r.Attributes)
	e.Events.Publish(event.Event{Type: event.Daemon, Action: "reload", ID: e.ID, Attributes: attrs, Time: time.Now().UTC()})
}
