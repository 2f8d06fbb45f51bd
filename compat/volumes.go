package compat

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"

	volapi "github.com/docker/docker/api/types/volume"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/volume"
)

func volumeOf(v *volume.Volume) *volapi.Volume {
	return &volapi.Volume{Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, CreatedAt: v.Created.UTC().Format("2006-01-02T15:04:05Z07:00"), Labels: v.Labels, Options: v.Options, Scope: "local"}
}

func (s *Server) volumeList(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "name", "driver", "label", "dangling")
	if err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	all, err := s.Volumes.List()
	if err != nil {
		return nil, err
	}
	out := volapi.ListResponse{Volumes: []*volapi.Volume{}}
	for _, v := range all {
		named := len(f["name"]) == 0 || slices.ContainsFunc(f["name"], func(p string) bool {
			re, err := regexp.Compile(p)
			return p == v.Name || err == nil && re.MatchString(v.Name)
		})
		driver := len(f["driver"]) == 0 || slices.Contains(f["driver"], v.Driver)
		if len(f["dangling"]) > 0 && dangling != (s.Volumes.Users(v.Name) == 0) {
			continue
		}
		if named && driver && wire.Labels(f["label"], v.Labels) {
			out.Volumes = append(out.Volumes, volumeOf(v))
		}
	}
	return out, nil
}

func (s *Server) volumeCreate(c *Ctx) (any, error) {
	var r volapi.CreateOptions
	if err := c.decode(&r, true); err != nil {
		return nil, err
	}
	if r.ClusterVolumeSpec != nil && c.version >= 42 {
		return nil, noManager()
	}
	v, err := s.Volumes.Create(c.Context(), volume.CreateOptions{Name: r.Name, Driver: r.Driver, Labels: r.Labels, Options: r.DriverOpts})
	if err != nil {
		return nil, err
	}
	return volumeOf(v), nil
}

func (s *Server) volumeInspect(c *Ctx) (any, error) {
	v, err := s.Volumes.Get(c.Param("name"))
	if err != nil {
		return nil, err
	}
	return volumeOf(v), nil
}

func (s *Server) volumeRemove(c *Ctx) (any, error) {
	return nil, s.Volumes.Remove(c.Context(), c.Param("name"), c.flag("force"))
}

// volumeUpdate is about volumes of a cluster alone.
func (s *Server) volumeUpdate(*Ctx) (any, error) {
	return nil, wire.Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
}

// volumePrune removes unused volumes; since API 1.42 only anonymous ones unless all is asked.
func (s *Server) volumePrune(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "label", "label!", "all")
	if err != nil {
		return nil, err
	}
	all, err := f.Bool("all", wire.PrunesNamedVolumes(c.version))
	if err != nil {
		_, perr := strconv.ParseBool(f["all"][0])
		return nil, wire.Invalid("invalid filter 'all': %v", cmp.Or(perr, err))
	}
	names, bytes, err := s.Volumes.Prune(c.Context(), func(v *volume.Volume) bool {
		return (all || v.Anonymous) && pruneLabels(f, v.Labels)
	})
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = []string{}
	}
	return volapi.PruneReport{VolumesDeleted: names, SpaceReclaimed: uint64(bytes)}, nil
}
