package logs

import "time"

// Names of the drivers whose files the shim writes itself.
const (
	JSONFile = "json-file"
	Local    = "local"
	None     = "none"
)

// Config says how a container's output is kept. Zero value: json-file without options.
type Config struct {
	Driver  string            `json:"driver"`  // "" means json-file
	Options map[string]string `json:"options"` // driver options as the user gave them (max-size, max-file, …)
	// Retain keeps rotated files beyond their number until the file SentFile says that their records were sent.
	Retain bool `json:"retain,omitempty"`
}

// Stream tells stdout from stderr. The numbers are those of Docker's stream framing.
type Stream uint8

// The streams.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// MaxRecord is the longest piece of a line kept in one record, in bytes, as in dockerd.
const MaxRecord = 16 * 1024

// Record is one line of output, or one piece of a line longer than MaxRecord.
type Record struct {
	Time    time.Time         // when the end of the piece was read, UTC
	Stream  Stream            // which descriptor it was written to
	Line    []byte            // with its newline, if it had one; pieces of a long line but the last have none
	Partial bool              // more of the same line follows
	Seq     uint64            // counted from 1 by the writer of a local log; 0 where records have no numbers
	Attrs   map[string]string // from log options labels and env; shown by details=1
	Last    bool              // set by Read: nothing more is at hand right now, so what was collected should be sent on
}

// Writer takes the output of one container. The shim is its only user. Not safe for concurrent use.
type Writer interface {
	Write(r Record) error
	Close() error
}

// ReadOptions selects records. See Read.
type ReadOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Tail           int       // number of last records to begin with; negative: all. Applied before Since and Until
	Since, Until   time.Time // inclusive bounds; zero: none
	After          uint64    // only records with a higher number
}
