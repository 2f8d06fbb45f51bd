package volume

import "time"

// Volume is a directory that outlives containers. Immutable once made.
type Volume struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Mountpoint string            `json:"mountpoint"` // absolute
	Created    time.Time         `json:"created"`
	Labels     map[string]string `json:"labels"`  // nil when none were given
	Options    map[string]string `json:"options"` // nil when none were given
	Anonymous  bool              `json:"anonymous"`
	// Pending: made for a container whose row is not there yet. A crash in between leaves it so, and Sweep removes it.
	Pending bool `json:"pending,omitempty"`
}
