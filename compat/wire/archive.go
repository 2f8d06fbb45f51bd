package wire

import (
	api "github.com/docker/docker/api/types/container"

	domain "github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/image"
)

// PathStat is a file's description on the wire; the mode is Go's, not the kernel's.
func PathStat(i *domain.FileInfo) api.PathStat {
	return api.PathStat{Name: i.Name, Size: i.Size, Mode: i.Mode, Mtime: i.ModTime, LinkTarget: i.Target}
}

// ImageConfig is the part of a container's configuration that an image can have; nil if there is none.
func ImageConfig(c *api.Config) *image.Config {
	if c == nil {
		return nil
	}
	out := &image.Config{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
		StopTimeout: c.StopTimeout, ArgsEscaped: c.ArgsEscaped, OnBuild: c.OnBuild, Shell: c.Shell,
	}
	for p := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[port(p)] = struct{}{}
	}
	if h := c.Healthcheck; h != nil {
		out.Healthcheck = &image.Healthcheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return out
}

// Changes are the differences of a container; null if there are none.
func Changes(list []domain.Change) []api.FilesystemChange {
	var out []api.FilesystemChange
	for _, c := range list {
		out = append(out, api.FilesystemChange{Path: c.Path, Kind: api.ChangeType(c.Kind)})
	}
	return out
}
