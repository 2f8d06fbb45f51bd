package compat

import (
	"time"

	api "github.com/docker/docker/api/types/container"
	imageapi "github.com/docker/docker/api/types/image"
	volapi "github.com/docker/docker/api/types/volume"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/image"
)

// systemDF says what the disk is used for. The parameter type selects parts; none selects all.
func (s *Server) systemDF(c *Ctx) (any, error) {
	asked := map[string]bool{}
	for _, t := range c.query["type"] {
		switch t {
		case "container", "image", "volume", "build-cache":
			asked[t] = true
		default:
			return nil, wire.Invalid("unknown object type: %s", t)
		}
	}
	all := len(asked) == 0
	var out wire.DiskUsage
	ctx := c.Context()
	list := s.Containers.List()
	if all || asked["image"] {
		imgs, err := s.Images.List(ctx, image.ListOptions{SharedSize: true})
		if err != nil {
			return nil, err
		}
		used := s.imageUse()
		out.Images = []imageapi.Summary{}
		for _, i := range imgs {
			out.Images = append(out.Images, wire.ImageSummary(i, used[i.ID.String()], true))
		}
		size, err := s.Images.Stored(ctx)
		if err != nil {
			return nil, err
		}
		out.LayersSize = &size
	}
	if all || asked["container"] {
		out.Containers = []api.Summary{}
		name, now := s.imageNames(ctx), time.Now()
		_, linked := s.Containers.LinkNames()
		for _, sn := range list {
			row := wire.Summary(sn, name(sn), linked[sn.ID], now)
			n, err := s.Images.Usage(ctx, string(sn.ID))
			if err != nil {
				continue // removed meanwhile
			}
			row.SizeRw = n
			out.Containers = append(out.Containers, row)
		}
	}
	if all || asked["volume"] {
		vols, err := s.Volumes.List()
		if err != nil {
			return nil, err
		}
		out.Volumes = []*volapi.Volume{}
		for _, v := range vols {
			row := volumeOf(v)
			row.UsageData = &volapi.UsageData{Size: s.Volumes.Size(v)}
			for _, sn := range list {
				for _, p := range sn.Spec.Storage.Points {
					if p.Name == v.Name {
						row.UsageData.RefCount++
					}
				}
			}
			out.Volumes = append(out.Volumes, row)
		}
	}
	if all || asked["build-cache"] {
		var err error
		if out.BuildCache, err = s.buildCache(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}
