package compat

import (
	api "github.com/docker/docker/api/types/container"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
)

func (s *Server) commit(c *Ctx) (any, error) {
	var config *api.Config
	if err := c.decode(&config, true); err != nil {
		return nil, err
	}
	q := c.query
	id, err := s.Containers.Commit(c.Context(), q.Get("container"), container.CommitOptions{
		Repo: q.Get("repo"), Tag: q.Get("tag"), Author: q.Get("author"), Comment: q.Get("comment"), Changes: q["changes"],
		Config: wire.ImageConfig(config), Pause: q.Get("pause") == "" || c.flag("pause"),
	})
	if err != nil {
		return nil, err
	}
	return api.CommitResponse{ID: id}, nil
}

func (s *Server) containerChanges(c *Ctx) (any, error) {
	list, err := s.Containers.Changes(c.Context(), c.Param("id"))
	if err != nil {
		return nil, err
	}
	return wire.Changes(list), nil
}
