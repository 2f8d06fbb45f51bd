package build

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// Builder builds images. It is started by its first use. Safe for concurrent use.
type Builder interface {
	// Session takes over a request that opens a client session (POST /session, Upgrade: h2c); returns when the session ends.
	Session(ctx context.Context, w http.ResponseWriter, r *http.Request) error
	// ServeConn speaks HTTP/2 gRPC on a connection whose upgrade was answered; returns when the client leaves.
	ServeConn(conn net.Conn) error
	// ServeHTTP answers a gRPC request that came over HTTP/2 on the main listener.
	ServeHTTP(w http.ResponseWriter, r *http.Request)
	// Build runs one build to its end. report is called in order, from one goroutine at a time.
	Build(ctx context.Context, r Request, report func(Progress)) (*Result, error)
	// Cancel ends the build that was started with this BuildID. No error if there is none.
	Cancel(ctx context.Context, buildID string) error
	// Prune removes build cache. Errors: ErrInvalidArgument for filters.
	Prune(ctx context.Context, o PruneOptions) (ids []string, bytes int64, err error)
	// Usage lists the records of the build cache; nil if nothing was ever built.
	Usage(ctx context.Context) ([]Record, error)
}

// Request is one build in the terms of the classic API.
type Request struct {
	BuildID              string    // chosen by the client, for Cancel
	Session              string    // client session that serves context and secrets; "" if Context does
	Context              io.Reader // tar archive, compressed or not; nil if Remote or Session serve it
	Remote               string    // URL of a git repository, a tar archive or a Dockerfile
	Dockerfile           string    // path within the context; "" = Dockerfile
	Tags                 []string  // normalised references
	Target               string
	Args                 map[string]*string // nil value: taken from the environment of nobody, so unset
	Labels               map[string]string
	Platform             string
	CacheFrom            []string
	NoCache, Pull, Quiet bool
	NetworkMode          string   // "" | default | host | none
	ExtraHosts           []string // name:ip
	ShmSize              int64    // bytes; 0 = default
	Ulimits              []Ulimit
	Limits               Limits
	CgroupParent         string
	Auth                 map[string]Auth // by registry host
	Outputs              []Output
	Trace                bool // report every status message whole (Progress.Trace) instead of text
}

// Output says where a result goes; none means the image store.
type Output struct {
	Type  string
	Attrs map[string]string
}

// Limits of RUN steps; zero = unset.
type Limits struct {
	Memory, MemorySwap, CPUShares, CPUPeriod, CPUQuota int64
	CpusetCpus, CpusetMems                             string
}

// Ulimit of RUN steps.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Auth is a registry credential. Never logged.
type Auth struct{ Username, Password, IdentityToken, RegistryToken string }

// String keeps secrets out of logs.
func (Auth) String() string { return "[redacted]" }

// Progress is one message: text of the build, or a status message whole.
type Progress struct {
	Text  string // newline included
	Trace []byte // protobuf moby.buildkit.v1.StatusResponse
}

// Result of a build.
type Result struct {
	ID digest.Digest // of the image; "" if no image was made
}

// FailedCommand is the error of a RUN step that ended with another code than 0.
type FailedCommand struct {
	Command string
	Code    int
	Cause   error
}

func (e *FailedCommand) Error() string { return e.Cause.Error() }

// Unwrap gives the builder's own words.
func (e *FailedCommand) Unwrap() error { return e.Cause }

// PruneOptions of Prune; bytes.
type PruneOptions struct {
	All                                       bool
	ReservedSpace, MaxUsedSpace, MinFreeSpace int64
	Until                                     time.Duration // only what was unused for so long
	Filters                                   []string      // key==value, key~=value, key!=value
}

// Record is one item of the build cache.
type Record struct {
	ID, Type, Description string
	Parents               []string
	InUse, Shared         bool
	Size                  int64 // bytes
	Created               time.Time
	LastUsed              *time.Time
	UsageCount            int
}
