package buildkit

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/http2"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/shim"
)

// Runtime is what steps need of shims.
type Runtime interface {
	BundleDir(id string) string
	Launch(ctx context.Context, b shim.Bundle) (shim.Task, error)
}

// Networks gives steps a place on the default bridge.
type Networks interface {
	// Attach makes a network namespace with an endpoint for a step and names its file.
	Attach(ctx context.Context, id string) (path string, err error)
	// Detach undoes Attach. Idempotent.
	Detach(ctx context.Context, id string) error
}

// Options of a Builder; Registry may be nil, everything else is needed.
type Options struct {
	Root     string // data-root/buildkit
	Stores   image.Stores
	Named    func(name string, id digest.Digest, fresh bool) // an image got a name
	Runtime  Runtime
	Networks Networks
	// Harden gives a step the limits of a default container: capabilities, seccomp, masked paths; insecure lifts them.
	Harden                     func(s *specs.Spec, insecure bool) error
	CgroupParent               string
	HostGateway                string // address that "host-gateway" stands for
	Registry                   func(host string) (mirrors []string, insecure bool)
	DNS, DNSSearch, DNSOptions []string
	KeepStorage                int64 // bytes of cache that automatic collection leaves; 0 = a tenth of the disk
	Version                    string
	Log                        *slog.Logger
}

// Builder is a build.Builder.
type Builder struct {
	o    Options
	gate chan struct{} // one opens, the others wait
	mu   struct {
		sync.Mutex
		core   *core
		closed bool
		builds map[string]context.CancelCauseFunc // by BuildID
	}
}

var _ build.Builder = (*Builder)(nil)

// New makes a builder. Nothing is opened before it is used.
func New(o Options) *Builder {
	b := &Builder{o: o, gate: make(chan struct{}, 1)}
	b.mu.builds = map[string]context.CancelCauseFunc{}
	return b
}

var errClosed = errors.New("the builder is shutting down")

// open returns the running core and starts it if need be.
func (b *Builder) open(ctx context.Context) (*core, error) {
	if c, err := b.running(); c != nil || err != nil {
		return c, err
	}
	select {
	case b.gate <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-b.gate }()
	if c, err := b.running(); c != nil || err != nil {
		return c, err
	}
	c, err := openCore(context.WithoutCancel(ctx), &b.o)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return nil, errors.Join(errClosed, c.close())
	}
	b.mu.core = c
	return c, nil
}

func (b *Builder) running() (*core, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return nil, errClosed
	}
	return b.mu.core, nil
}

// used reports whether anything was ever built below the data root.
func (b *Builder) used() bool {
	_, err := os.Stat(b.o.Root)
	return err == nil
}

// Close ends running builds and closes the databases.
func (b *Builder) Close() error {
	b.mu.Lock()
	c := b.mu.core
	b.mu.core, b.mu.closed = nil, true
	for _, cancel := range b.mu.builds {
		cancel(errClosed)
	}
	b.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.close()
}

// Session implements build.Builder.
func (b *Builder) Session(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	c, err := b.open(ctx)
	if err != nil {
		return err
	}
	return c.sessions.HandleHTTPRequest(ctx, w, r)
}

// ServeConn implements build.Builder.
func (b *Builder) ServeConn(conn net.Conn) error {
	c, err := b.open(context.Background()) //nolint:forbidigo // the connection is the life of what it carries
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	(&http2.Server{}).ServeConn(conn, &http2.ServeConnOpts{Handler: c.grpc})
	return nil
}

// ServeHTTP implements build.Builder.
func (b *Builder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := b.open(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	c.grpc.ServeHTTP(w, r)
}
