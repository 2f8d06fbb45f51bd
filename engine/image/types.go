package image

import (
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what a container is made from: one platform of a target.
type Image struct {
	ID       digest.Digest      // of the target descriptor (manifest or index): Engine 29's image id
	Target   ocispec.Descriptor // what the name points at
	Manifest ocispec.Descriptor // the platform's manifest; equals Target for a single-platform image
	Platform ocispec.Platform
	Config   Config
	Layers   []digest.Digest // diff ids, base first
	Created  *time.Time
	Author   string
	Comment  string
	Names    []string // normalised tagged references that point at Target, sorted
}

// Config is the run configuration in an image, with Docker's additions to the OCI one.
type Config struct {
	User         string              `json:"User"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd"`
	Volumes      map[string]struct{} `json:"Volumes"`
	WorkingDir   string              `json:"WorkingDir"`
	Labels       map[string]string   `json:"Labels"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	StopTimeout  *int                `json:"StopTimeout,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
	Healthcheck  *Healthcheck        `json:"Healthcheck,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
}

// Healthcheck of an image; durations in nanoseconds as they stand in the config.
type Healthcheck struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// Summary is one row of a list: an image id with all names that point at it.
type Summary struct {
	ID       digest.Digest
	Target   ocispec.Descriptor
	Tags     []string // familiar names with tag
	Digests  []string // familiar name@digest, one for each repository
	Created  time.Time
	Size     int64 // bytes: compressed blobs and unpacked snapshots
	Shared   int64 // bytes of layers that other images have too; only if asked for
	Labels   map[string]string
	Platform ocispec.Platform
	Parent   string
	Comment  string
	Author   string

	Manifests []Manifest // only if asked for
}

// Details is Summary and what inspect adds.
type Details struct {
	Summary
	Image      *Image
	LastTagged time.Time // zero if never
}

// HistoryEntry is one step of an image's making, newest first in lists.
type HistoryEntry struct {
	ID        string // image id for the first entry, "<missing>" for the others
	Created   time.Time
	CreatedBy string
	Tags      []string // nil when none
	Size      int64    // bytes of the layer, 0 for empty ones
	Comment   string
}

// Deleted is one line of a removal's answer: exactly one field is set.
type Deleted struct {
	Untagged string // familiar reference
	Deleted  string // digest
}

// Progress is one message of a long operation, in the terms of Docker's progress stream.
type Progress struct {
	ID      string // layer (12 hex digits) or tag; "" for plain lines
	Status  string // "Pulling fs layer", "Downloading", …; "" if Stream is set
	Stream  string // plain text, newline included (load)
	Current int64  // bytes
	Total   int64  // bytes; 0 if unknown
	Layer   bool   // the row belongs to a layer: progressDetail is sent even if empty
	Hide    bool   // hidecounts
	Aux     any    // machine-readable result, or nil
}

// ProgressFunc receives progress in order, from one goroutine at a time. It must not block for long.
type ProgressFunc func(Progress)

// User is a container that needs an image.
type User struct {
	ContainerID string
	Running     bool
	Ref         string // the reference the container was created with
}

// Auth is what a client sent for a registry. Never logged.
type Auth struct {
	Username, Password, ServerAddress, IdentityToken, RegistryToken string
}

// String keeps secrets out of logs.
func (Auth) String() string { return "[redacted]" }
