package compat

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"

	buildapi "github.com/docker/docker/api/types/build"

	"github.com/berthd/berth/compat/stream"
	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/build"
)

// imageBuild serves POST /build: the classic request with the classic stream (version=1), or with the builder's own status
// messages (version=2).
func (s *Server) imageBuild(c *Ctx) (any, error) {
	r, err := wire.BuildRequest(c.query, c.Header.Get("X-Registry-Config"))
	if err != nil {
		return nil, err
	}
	_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/1.1 only
	switch r.Remote {
	case "":
		r.Context, r.Session = c.Body, ""
	case "client-session":
		r.Remote = ""
	}
	p := &progress{c: c}
	res, err := s.Build.Build(c.Context(), *r, func(m build.Progress) {
		if m.Trace != nil {
			p.send(map[string]any{"id": "moby.buildkit.trace", "aux": m.Trace})
			return
		}
		p.send(map[string]any{"stream": m.Text})
	})
	if err != nil {
		var f *build.FailedCommand
		if errors.As(err, &f) {
			p.send(map[string]any{"errorDetail": map[string]any{"code": f.Code, "message": f.Error()}, "error": f.Error()})
			return nil, done
		}
		return p.end(err)
	}
	if res.ID == "" {
		return p.end(nil)
	}
	id := map[string]string{"ID": res.ID.String()}
	switch {
	case r.Trace:
		p.send(map[string]any{"id": "moby.image.id", "aux": id})
	case r.Quiet:
		p.send(map[string]any{"stream": res.ID.String() + "\n"})
	default:
		p.send(map[string]any{"aux": id})
		p.send(map[string]any{"stream": "Successfully built " + res.ID.Encoded()[:12] + "\n"})
		for _, t := range r.Tags {
			p.send(map[string]any{"stream": "Successfully tagged " + wire.FamiliarName(t) + "\n"})
		}
	}
	return p.end(nil)
}

func (s *Server) buildCancel(c *Ctx) (any, error) {
	id := c.query.Get("id")
	if id == "" {
		return nil, wire.Invalid("build ID not provided")
	}
	return nil, s.Build.Cancel(c.Context(), id)
}

func (s *Server) buildPrune(c *Ctx) (any, error) {
	o, err := wire.BuildPrune(c.query, s.BuildFilter)
	if err != nil {
		return nil, err
	}
	ids, bytes, err := s.Build.Prune(c.Context(), o)
	if err != nil {
		return nil, err
	}
	return buildapi.CachePruneReport{CachesDeleted: ids, SpaceReclaimed: uint64(bytes)}, nil
}

// buildCache is the builder's part of `docker system df`.
func (s *Server) buildCache(ctx context.Context) ([]buildapi.CacheRecord, error) {
	recs, err := s.Build.Usage(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]buildapi.CacheRecord, 0, len(recs))
	for _, r := range recs {
		out = append(out, buildapi.CacheRecord{
			ID: r.ID, Parents: slices.Clone(r.Parents), Type: r.Type, Description: r.Description, InUse: r.InUse, Shared: r.Shared, Size: r.Size,
			CreatedAt: r.Created, LastUsedAt: r.LastUsed, UsageCount: r.UsageCount,
		})
	}
	return out, nil
}

// buildSession serves POST /session: the connection becomes the client's session.
func (s *Server) buildSession(c *Ctx) (any, error) {
	if c.Header.Get("Upgrade") != "h2c" {
		return nil, wire.Invalid("no upgrade proto in request")
	}
	if err := s.Build.Session(c.Context(), c.w, c.Request); err != nil {
		return nil, wire.Invalid("%v", err)
	}
	return nil, done
}

// buildGRPC serves POST /grpc: HTTP/2 on the upgraded connection.
func (s *Server) buildGRPC(c *Ctx) (any, error) {
	if c.Header.Get("Upgrade") != "h2c" {
		return nil, wire.Invalid("no upgrade proto in request")
	}
	conn, err := stream.Upgrade(c.w, "h2c")
	if err != nil {
		return nil, done // the client is gone
	}
	if err := s.Build.ServeConn(conn); err != nil && !errors.Is(err, net.ErrClosed) {
		s.Log.Error("the builder does not start", "error", err)
	}
	return nil, done
}
