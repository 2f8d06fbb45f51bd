package compat

import (
	"path"
	"slices"
	"strings"
	"time"

	imageapi "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/storage"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

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
