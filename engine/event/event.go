package event

import "time"

// Type is the kind of object an event is about.
type Type string

// The types. The strings are those of the Docker API.
const (
	Container Type = "container"
	Image     Type = "image"
	Network   Type = "network"
	Volume    Type = "volume"
	Daemon    Type = "daemon"
	Builder   Type = "builder"
)

// Event tells that something happened to an object. It is immutable once published; Attributes must not be changed.
type Event struct {
	Type       Type              `json:"type"`
	Action     string            `json:"action"` // one of the Action… constants; exec_create and friends carry ": <command line>"
	ID         string            `json:"id"`     // full id, or name where the API uses names (volumes, image pulls)
	Attributes map[string]string `json:"attributes"`
	Time       time.Time         `json:"time"` // UTC, nanoseconds
}
