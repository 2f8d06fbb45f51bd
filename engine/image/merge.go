package image

import (
	"maps"
	"slices"
	"strings"
)

// Over lays a configuration over another one: what c does not say is taken from below. Source: dockerd's rules for users'
// values over an image's.
func (c Config) Over(below Config) Config {
	if c.User == "" {
		c.User = below.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = below.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = below.StopSignal
	}
	if c.StopTimeout == nil {
		c.StopTimeout = below.StopTimeout
	}
	if len(c.Shell) == 0 {
		c.Shell = below.Shell
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = below.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = below.Entrypoint
		}
	}
	have := map[string]bool{}
	for _, e := range c.Env {
		k, _, _ := strings.Cut(e, "=")
		have[k] = true
	}
	c.Env = slices.Clone(c.Env)
	for _, e := range below.Env {
		if k, _, _ := strings.Cut(e, "="); !have[k] {
			c.Env = append(c.Env, e)
		}
	}
	c.Labels, c.ExposedPorts, c.Volumes = union(c.Labels, below.Labels), union(c.ExposedPorts, below.ExposedPorts), union(c.Volumes, below.Volumes)
	c.Healthcheck = c.Healthcheck.over(below.Healthcheck)
	return c
}

// union is both maps in one, a's values before b's.
func union[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(b)
	maps.Copy(out, a)
	return out
}

func (h *Healthcheck) over(below *Healthcheck) *Healthcheck {
	if h == nil || below == nil {
		if h == nil {
			return below
		}
		return h
	}
	out := *h
	if len(out.Test) == 0 {
		out.Test = below.Test
	}
	if out.Interval == 0 {
		out.Interval = below.Interval
	}
	if out.Timeout == 0 {
		out.Timeout = below.Timeout
	}
	if out.StartPeriod == 0 {
		out.StartPeriod = below.StartPeriod
	}
	if out.StartInterval == 0 {
		out.StartInterval = below.StartInterval
	}
	if out.Retries == 0 {
		out.Retries = below.Retries
	}
	return &out
}
