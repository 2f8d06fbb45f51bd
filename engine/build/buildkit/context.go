package buildkit

import (
	"context"
	"net"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/rootdir"
)

// served is a session of this daemon with itself: it hands a classic request's context and credentials to BuildKit as a client
// would.
type served struct {
	id   string
	s    *session.Session
	dir  string
	file *dockerfile // nil if only BuildKit knows it
}

// serve unpacks the context and opens the session.
func (c *core) serve(ctx context.Context, r *build.Request) (_ *served, err error) {
	v := &served{}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if v.s, err = session.NewSession(ctx, ""); err != nil {
		return nil, err
	}
	v.id = v.s.ID()
	if r.Context != nil {
		if v.dir, err = os.MkdirTemp(filepath.Join(c.exec.o.Root, "executor"), "context-"); err != nil {
			return nil, err
		}
		if v.file, err = unpackContext(ctx, v.dir, r); err != nil {
			return nil, err
		}
		fs, err := fsutil.NewFS(v.dir)
		if err != nil {
			return nil, err
		}
		v.s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": fs, "dockerfile": fs}))
	}
	v.s.Allow(&credentials{hosts: r.Auth})
	go func() {
		_ = v.s.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) { // ends with close
			ours, theirs := net.Pipe()
			go func() { _ = c.sessions.HandleConn(context.WithoutCancel(ctx), theirs, meta) }() // ends with the pipe
			return ours, nil
		})
	}()
	return v, nil
}

func (v *served) close() {
	if v.s != nil {
		_ = v.s.Close() // nothing is lost
	}
	if v.dir != "" {
		_ = os.RemoveAll(v.dir) // else the next start removes it
	}
}

// unpackContext unpacks a context, or a bare Dockerfile, into dir and reads the plan.
func unpackContext(ctx context.Context, dir string, r *build.Request) (*dockerfile, error) {
	root, err := rootdir.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	tr, err := image.Decompress(r.Context)
	if err != nil {
		return nil, err
	}
	defer tr.Close()
	if err := root.Unpack(ctx, "/", tr, rootdir.UnpackOptions{Owner: &[2]int{0, 0}}); err != nil {
		return nil, err
	}
	return plan(root, r)
}

// credentials answers BuildKit's questions for registry credentials.
type credentials struct {
	auth.UnimplementedAuthServer
	hosts map[string]build.Auth
}

func (c *credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials implements the auth service.
func (c *credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := r.Host
	if host == "registry-1.docker.io" {
		host = "https://index.docker.io/v1/"
	}
	a, ok := c.hosts[host]
	if !ok {
		return &auth.CredentialsResponse{}, nil
	}
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
}

// GetTokenAuthority implements the auth service: there is none, plain credentials are used.
func (c *credentials) GetTokenAuthority(context.Context, *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	return nil, status.Error(codes.Unavailable, "no token authority")
}
