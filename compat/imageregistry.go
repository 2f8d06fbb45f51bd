package compat

import (
	"errors"
	"io"
	"strings"

	"github.com/docker/docker/api/types/registry"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

func (s *Server) imagePush(c *Ctx) (any, error) {
	p, err := wire.PlatformJSON(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	out := &progress{c: c}
	o := image.PushOptions{Ref: c.Param("name"), Tag: c.query.Get("tag"), Platform: p, Auth: credentials(c.Header.Get("X-Registry-Auth"))}
	return out.end(s.Images.Push(c.Context(), o, out.row))
}

// imageSave answers for one name in the path and for several in the query, which may be repeated or a list with commas.
func (s *Server) imageSave(c *Ctx) (any, error) {
	p, err := wire.PlatformJSON(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	var names []string
	if n := c.Param("name"); n != "" {
		names = []string{n}
	} else {
		for _, list := range c.query["names"] {
			for n := range strings.SplitSeq(list, ",") {
				if n != "" {
					names = append(names, n)
				}
			}
		}
	}
	begun := false
	err = s.Images.Save(c.Context(), names, p, func() io.Writer {
		begun = true
		c.w.Header().Set("Content-Type", "application/x-tar")
		return c.w
	})
	return c.streamed(begun, err, nil)
}

func (s *Server) distribution(c *Ctx) (any, error) {
	r, err := s.Images.Distribution(c.Context(), c.Param("name"), credentials(c.Header.Get("X-Registry-Auth")))
	if err != nil {
		return nil, err
	}
	return registry.DistributionInspect{Descriptor: r.Descriptor, Platforms: r.Platforms}, nil
}

func (s *Server) imageSearch(c *Ctx) (any, error) {
	q, err := wire.Search(c.query)
	if err != nil {
		return nil, err
	}
	found, err := s.Images.Search(c.Context(), q.Term, q.Limit, credentials(c.Header.Get("X-Registry-Auth")))
	if err != nil {
		return nil, err
	}
	out := []registry.SearchResult{}
	for _, f := range found {
		if q.Keep(f) {
			out = append(out, registry.SearchResult{Name: f.Name, Description: f.Description, StarCount: f.Stars, IsOfficial: f.Official})
		}
	}
	return out, nil
}

// auth checks credentials. The answer is for the user's eyes; who needs a token gets one with each request.
func (s *Server) auth(c *Ctx) (any, error) {
	var a registry.AuthConfig
	if err := c.decode(&a, false); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, wire.Invalid("invalid X-Registry-Auth header: invalid JSON: EOF")
		}
		return nil, err
	}
	err := s.Images.Login(c.Context(), image.Auth{Username: a.Username, Password: a.Password, ServerAddress: a.ServerAddress, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken})
	if err != nil {
		return nil, err
	}
	return registry.AuthenticateOKBody{Status: "Login Succeeded"}, nil
}
