package compat

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	imageapi "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

// progress writes one JSON object and CRLF for each message. Until the first one an error can still become a status.
type progress struct {
	c       *Ctx
	started bool
}

func (p *progress) send(v any) {
	if !p.started {
		p.started = true
		p.c.w.Header().Set("Content-Type", "application/json")
		p.c.w.WriteHeader(http.StatusOK)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	_, _ = p.c.w.Write(append(b, '\r', '\n'))     // a client that left: the work is cancelled by its context
	_ = http.NewResponseController(p.c.w).Flush() // as above
}

func (p *progress) row(r image.Progress) {
	m := map[string]any{}
	if r.Stream != "" {
		m["stream"] = r.Stream
	}
	if r.Status != "" {
		m["status"] = r.Status
	}
	if r.ID != "" {
		m["id"] = r.ID
	}
	if r.Layer {
		d := map[string]any{}
		if r.Total > 0 {
			d["current"], d["total"] = r.Current, r.Total
		}
		if r.Hide {
			d["hidecounts"] = true
		}
		m["progressDetail"] = d
	}
	if r.Aux != nil {
		m["aux"] = r.Aux
	}
	p.send(m)
}

// end reports how it went: as a status if nothing was sent yet, in the stream otherwise.
func (p *progress) end(err error) (any, error) {
	if err != nil && !p.started {
		return nil, err
	}
	if err != nil {
		p.send(map[string]any{"errorDetail": map[string]string{"message": err.Error()}, "error": err.Error()})
	}
	return nil, done
}

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

func parsePlatform(s string) *ocispec.Platform {
	if s == "" {
		return nil
	}
	f := strings.Split(s, "/")
	p := &ocispec.Platform{OS: f[0], Architecture: runtime.GOARCH}
	if len(f) > 1 {
		p.Architecture = f[1]
	}
	if len(f) > 2 {
		p.Variant = f[2]
	}
	return p
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
	o.Platform = parsePlatform(c.query.Get("platform"))
	return p.end(s.Images.Pull(c.Context(), o, p.row))
}

func (s *Server) importImage(c *Ctx, p *progress, cfg image.Config) (any, error) {
	id, err := s.Images.Import(c.Context(), c.Body, image.ImportOptions{
		Repo: c.query.Get("repo"), Tag: c.query.Get("tag"), Message: c.query.Get("message"), Changes: cfg, Platform: parsePlatform(c.query.Get("platform")),
	})
	if err == nil {
		p.row(image.Progress{Status: id.String()})
	}
	return p.end(err)
}

func (s *Server) imageList(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return nil, err
	}
	all, err := s.Images.List(c.Context(), image.ListOptions{All: c.flag("all")})
	if err != nil {
		return nil, err
	}
	used := map[string]int64{}
	for _, sn := range s.Containers.List() {
		used[sn.Spec.Image.ID]++
	}
	out := []imageapi.Summary{}
	for _, i := range all {
		if d := f["dangling"]; len(d) > 0 && wire.Bool(d[0]) != (len(i.Tags) == 0) || !wire.Labels(f["label"], i.Labels) || !referenced(f["reference"], i.Tags) {
			continue
		}
		row := imageapi.Summary{
			ID: i.ID.String(), Created: i.Created.Unix(), Labels: i.Labels, RepoTags: i.Tags, RepoDigests: i.Digests, Size: i.Size, SharedSize: -1, Containers: -1, ParentID: i.Parent,
		}
		if row.Labels == nil {
			row.Labels = map[string]string{}
		}
		row.Containers, row.Descriptor = used[row.ID], &i.Target
		out = append(out, row)
	}
	return out, nil
}

func referenced(patterns, tags []string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(tags, func(t string) bool {
			name := t[:strings.LastIndexByte(t, ':')]
			a, _ := path.Match(p, t)
			b, _ := path.Match(p, name)
			return a || b
		})
	})
}

func (s *Server) imageInspect(c *Ctx) (any, error) {
	d, err := s.Images.Inspect(c.Context(), c.Param("name"), nil)
	if err != nil {
		return nil, err
	}
	driver, _ := s.Images.Driver()
	r := wire.ImageInspect{Config: d.Image.Config}
	r.InspectResponse = imageapi.InspectResponse{
		ID: d.ID.String(), RepoTags: d.Tags, RepoDigests: d.Digests, Comment: d.Comment, Author: d.Author, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant,
		Os: d.Platform.OS, Size: d.Size, GraphDriver: storage.DriverData{Name: driver}, RootFS: imageapi.RootFS{Type: "layers"}, Metadata: imageapi.Metadata{LastTagTime: d.LastTagged},
	}
	for _, l := range d.Image.Layers {
		r.RootFS.Layers = append(r.RootFS.Layers, l.String())
	}
	if d.Image.Created != nil {
		r.Created = d.Image.Created.UTC().Format(time.RFC3339Nano)
	}
	r.Descriptor = &d.Target
	return r, nil
}

func (s *Server) imageHistory(c *Ctx) (any, error) {
	h, err := s.Images.History(c.Context(), c.Param("name"))
	if err != nil {
		return nil, err
	}
	out := []imageapi.HistoryResponseItem{}
	for _, e := range h {
		out = append(out, imageapi.HistoryResponseItem{ID: e.ID, Created: e.Created.Unix(), CreatedBy: e.CreatedBy, Tags: e.Tags, Size: e.Size, Comment: e.Comment})
	}
	return out, nil
}

func (s *Server) imageTag(c *Ctx) (any, error) {
	return nil, s.Images.Tag(c.Context(), c.Param("name"), c.query.Get("repo"), c.query.Get("tag"))
}

func (s *Server) imageDelete(c *Ctx) (any, error) {
	gone, err := s.Images.Delete(c.Context(), c.Param("name"), image.DeleteOptions{Force: c.flag("force"), NoPrune: c.flag("noprune")})
	if err != nil {
		return nil, err
	}
	out := []imageapi.DeleteResponse{}
	for _, g := range gone {
		out = append(out, imageapi.DeleteResponse{Untagged: g.Untagged, Deleted: g.Deleted})
	}
	return out, nil
}
