package compat

import (
	"time"

	imageapi "github.com/docker/docker/api/types/image"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

// imageUse counts the containers of each image.
func (s *Server) imageUse() map[string]int64 {
	used := map[string]int64{}
	for _, sn := range s.Containers.List() {
		used[sn.Spec.Image.ID]++
	}
	return used
}

func (s *Server) imageList(c *Ctx) (any, error) {
	o, err := wire.ImageList(c.query, time.Now())
	if err != nil {
		return nil, err
	}
	all, err := s.Images.List(c.Context(), o)
	if err != nil {
		return nil, err
	}
	used, out := s.imageUse(), []imageapi.Summary{}
	for _, i := range all {
		out = append(out, wire.ImageSummary(i, used[i.ID.String()], o.SharedSize))
	}
	return out, nil
}

func (s *Server) imageInspect(c *Ctx) (any, error) {
	p, err := wire.PlatformJSON(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	if p != nil && c.flag("manifests") {
		return nil, wire.Invalid("conflicting options: manifests and platform options cannot both be set")
	}
	d, err := s.Images.Inspect(c.Context(), c.Param("name"), p)
	if err != nil {
		return nil, err
	}
	var ms []image.Manifest
	if c.flag("manifests") {
		if ms, err = s.Images.Manifests(c.Context(), c.Param("name")); err != nil {
			return nil, err
		}
	}
	driver, _ := s.Images.Driver()
	return wire.InspectImage(d, driver, ms, func(digest string) (ids []string) {
		for _, sn := range s.Containers.List() {
			if sn.Spec.Image.Manifest == digest {
				ids = append(ids, string(sn.ID))
			}
		}
		return ids
	}), nil
}

func (s *Server) imageHistory(c *Ctx) (any, error) {
	p, err := wire.PlatformJSON(c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	h, err := s.Images.History(c.Context(), c.Param("name"), p)
	if err != nil {
		return nil, err
	}
	out := []imageapi.HistoryResponseItem{}
	for _, e := range h {
		row := imageapi.HistoryResponseItem{ID: e.ID, Created: e.Created.Unix(), CreatedBy: e.CreatedBy, Tags: e.Tags, Size: e.Size, Comment: e.Comment}
		if e.Created.IsZero() {
			row.Created = 0
		}
		out = append(out, row)
	}
	return out, nil
}

func (s *Server) imageTag(c *Ctx) (any, error) {
	return nil, s.Images.Tag(c.Context(), c.Param("name"), c.query.Get("repo"), c.query.Get("tag"))
}

func deleted(gone []image.Deleted) (out []imageapi.DeleteResponse) {
	for _, g := range gone {
		out = append(out, imageapi.DeleteResponse{Untagged: g.Untagged, Deleted: g.Deleted})
	}
	return out
}

func (s *Server) imageDelete(c *Ctx) (any, error) {
	gone, err := s.Images.Delete(c.Context(), c.Param("name"), image.DeleteOptions{Force: c.flag("force"), NoPrune: c.flag("noprune")})
	if err != nil {
		return nil, err
	}
	return append([]imageapi.DeleteResponse{}, deleted(gone)...), nil
}

func (s *Server) imagePrune(c *Ctx) (any, error) {
	o, err := wire.ImagePrune(c.query.Get("filters"), time.Now())
	if err != nil {
		return nil, err
	}
	gone, freed, err := s.Images.Prune(c.Context(), o)
	if err != nil {
		return nil, err
	}
	return imageapi.PruneReport{ImagesDeleted: deleted(gone), SpaceReclaimed: uint64(freed)}, nil
}
