package compat

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

func (s *Server) imageLoad(c *Ctx) (any, error) {
	_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/1.1 only
	p := &progress{c: c}
	pf, err := wire.PlatformJSON(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	err = s.Images.Load(c.Context(), c.Body, image.LoadOptions{Quiet: c.query.Get("quiet") == "" || c.flag("quiet"), Platform: pf}, p.row)
	if err != nil && !p.started {
		p.started = true
		c.w.Header().Set("Content-Type", "application/json")
		c.w.WriteHeader(http.StatusOK)
	}
	return p.end(err)
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
	pf, err := wire.Platform(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	if src := c.query.Get("fromSrc"); src != "" {
		return s.importImage(c, p, src, pf)
	}
	o := image.PullOptions{Ref: c.query.Get("fromImage"), Tag: c.query.Get("tag"), Auth: credentials(c.Header.Get("X-Registry-Auth")), Platform: pf}
	o.All = o.Tag == ""
	return p.end(s.Images.Pull(c.Context(), o, p.row))
}

func (s *Server) importImage(c *Ctx, p *progress, src string, pf *ocispec.Platform) (any, error) {
	o := image.ImportOptions{Repo: c.query.Get("repo"), Tag: c.query.Get("tag"), Message: c.query.Get("message"), Platform: pf}
	var err error
	if o.Changes, err = image.ParseChanges(c.query["changes"], image.Config{}); err != nil {
		return nil, err
	}
	if _, err := image.Name(o.Repo, o.Tag); err != nil {
		return nil, err
	}
	body := c.Body
	if src != "-" {
		if !strings.Contains(src, "://") {
			src = "http://" + src
		}
		if body, err = s.Images.Fetch(c.Context(), src); err != nil {
			return nil, err
		}
		defer body.Close()
		p.row(image.Progress{Status: "Downloading from " + src})
		if o.Message == "" {
			o.Message = "Imported from " + src
		}
	} else if o.Message == "" {
		o.Message = "Imported from -"
	}
	id, err := s.Images.Import(c.Context(), body, o)
	if err == nil {
		p.row(image.Progress{Status: id.String()})
	}
	return p.end(err)
}
