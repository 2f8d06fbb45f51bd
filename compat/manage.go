package compat

import (
	"strings"
	"time"

	api "github.com/docker/docker/api/types/container"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
)

func (s *Server) containerTop(c *Ctx) (any, error) {
	p, err := s.Containers.Top(c.Context(), c.Param("id"), strings.Fields(c.query.Get("ps_args")))
	if err != nil {
		return nil, err
	}
	return api.TopResponse{Titles: p.Titles, Processes: p.Rows}, nil
}

func (s *Server) containerUpdate(c *Ctx) (any, error) {
	var r api.UpdateConfig
	if err := c.decode(&r, false); err != nil {
		return nil, err
	}
	res := wire.Resources(&r.Resources)
	warnings, err := s.Containers.Update(c.Context(), c.Param("id"), res, container.RestartPolicy{Name: string(r.RestartPolicy.Name), MaxRetries: r.RestartPolicy.MaximumRetryCount})
	if err != nil {
		return nil, err
	}
	return api.UpdateResponse{Warnings: warnings}, nil
}

func (s *Server) containerPrune(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	var until time.Time
	if len(f["until"]) > 1 {
		return nil, wire.Invalid("more than one until filter specified")
	}
	for _, v := range f["until"] {
		if until, err = wire.Moment("until", v, time.Now()); err != nil {
			return nil, wire.Invalid("failed to parse value as time or duration: invalid seconds %q: invalid syntax", v)
		}
	}
	ids, bytes, err := s.Containers.Prune(c.Context(), func(sn *container.Snapshot) bool {
		return (until.IsZero() || sn.Created.Before(until)) && pruneLabels(f, sn.Spec.Labels)
	})
	if err != nil {
		return nil, err
	}
	return api.PruneReport{ContainersDeleted: ids, SpaceReclaimed: uint64(bytes)}, nil
}

// pruneLabels applies the filters label and label!.
func pruneLabels(f wire.Filters, labels map[string]string) bool {
	return wire.Labels(f["label"], labels) && (len(f["label!"]) == 0 || !wire.Labels(f["label!"], labels))
}
