package compat

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

func (s *Server) imageLoad(c *Ctx) (any, error) {
	_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/1.1 only
	p := &progress{c: c}
	err := s.Images.Load(c.Context(), c.Body, image.LoadOptions{Quiet: c.query.Get("quiet") == "" || c.flag("quiet")}, p.row)
	// What follows an archive's end is padding. Left unread it would cost the client its connection.
	_, _ = io.CopyN(io.Discard, c.Body, 1<<20)
	if err != nil && !p.started {
		p.started = true
		c.w.Header().Set("Content-Type", "application/json")
		c.w.WriteHeader(http.StatusOK)
	}
	return p.end(err)
}

// parsePlatform reads os[/arch[/variant]]; nil if nothing is asked for.
func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // nothing is an answer
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, wire.Invalid("%s", err.Error())
	}
	return &p, nil
}

// credentials are read liberally: any alphabet, with or without padding; what does not decode means anonymous.
func credentials(h string) *image.Auth {
	h = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(h), "=")
	b, err := base64.RawURLEncoding.DecodeString(h)
	var a registry.AuthConfig
	if err != nil || len(b) == 0 || json.Unmarshal(b, &a) != nil || a == (registry.AuthConfig{}) {
		return nil
	}
	return &image.Auth{Username: a.Username, Password: a.Password, ServerAddress: a.ServerAddress, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
}

func (s *Server) imageCreate(c *Ctx) (any, error) {
	p := &progress{c: c}
	if src := c.query.Get("fromSrc"); src != "" {
		if src != "-" {
			return nil, wire.NotYet("import from a URL")
		}
		if len(c.query["changes"]) > 0 {
			cfg, err := image.ParseChanges(c.query["changes"], image.Config{})
			if err != nil {
				return nil, err
			}
			return s.importImage(c, p, cfg)
		}
		return s.importImage(c, p, image.Config{})
	}
	o := image.PullOptions{Ref: c.query.Get("fromImage"), Tag: c.query.Get("tag"), Auth: credentials(c.Header.Get("X-Registry-Auth"))}
	o.All = o.Tag == ""
	var err error
	if o.Platform, err = parsePlatform(c.query.Get("platform")); err != nil {
		return nil, err
	}
	return p.end(s.Images.Pull(c.Context(), o, p.row))
}

func (s *Server) importImage(c *Ctx, p *progress, cfg image.Config) (any, error) {
	pf, err := parsePlatform(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	id, err := s.Images.Import(c.Context(), c.Body, image.ImportOptions{
		Repo: c.query.Get("repo"), Tag: c.query.Get("tag"), Message: c.query.Get("message"), Changes: cfg, Platform: pf,
	})
	if err == nil {
		p.row(image.Progress{Status: id.String()})
	}
	return p.end(err)
}
