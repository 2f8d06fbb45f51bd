package compat

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/docker/docker/api/types/container"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/image"
)

func (s *Server) containerList(c *Ctx) (any, error) {
	f, err := wire.ParseFilters(c.query.Get("filters"), "id", "name", "label", "status", "ancestor", "exited", "before", "since", "network", "volume", "health", "publish", "expose", "is-task", "isolation")
	if err != nil {
		return nil, err
	}
	limit := 0
	if v := c.query.Get("limit"); v != "" {
		if limit, err = strconv.Atoi(v); err != nil {
			return nil, wire.Invalid("%w", err)
		}
	}
	list := s.Containers.List()
	keep, err := s.listFilter(c.Context(), f, list)
	if err != nil {
		return nil, err
	}
	all := c.flag("all") || limit > 0 || len(f["status"]) > 0
	now := time.Now()
	_, linked := s.Containers.LinkNames()
	name := s.imageNames(c.Context())
	out := []api.Summary{}
	for _, sn := range list {
		if p := wire.Phase(sn); !all && !p.Live() && p != container.Restarting || !keep(sn) {
			continue
		}
		row := wire.Summary(sn, name(sn), linked[sn.ID], now)
		if c.flag("size") {
			if row.SizeRw, row.SizeRootFs, err = s.Images.Sizes(c.Context(), string(sn.ID)); err != nil {
				continue // removed meanwhile
			}
		}
		if out = append(out, row); limit > 0 && len(out) == limit {
			break
		}
	}
	return out, nil
}

// imageNames tells, for one answer, the name a container was made with, or the image's id if that name means another image
// now or none.
func (s *Server) imageNames(ctx context.Context) func(*container.Snapshot) string {
	known := map[string]string{}
	return func(sn *container.Snapshot) string {
		ref := sn.Spec.Image.Ref
		id, ok := known[ref]
		if !ok {
			if img, err := s.Images.Resolve(ctx, ref, nil); err == nil {
				id = img.ID.String()
			}
			known[ref] = id
		}
		if id != sn.Spec.Image.ID {
			return sn.Spec.Image.ID
		}
		return ref
	}
}

// listFilter turns filters into one test. Values under one key are alternatives, keys and labels must all be met; what can
// be looked up or compiled is so once.
func (s *Server) listFilter(ctx context.Context, f wire.Filters, list []*container.Snapshot) (container.ListFilter, error) {
	var tests []container.ListFilter
	when := func(key string, test container.ListFilter) {
		if len(f[key]) > 0 {
			tests = append(tests, test)
		}
	}
	for _, st := range f["status"] {
		switch st {
		case "created", "running", "paused", "restarting", "removing", "exited", "dead":
		default:
			return nil, wire.Invalid("invalid filter 'status=%s'", st)
		}
	}
	when("status", func(sn *container.Snapshot) bool { return slices.Contains(f["status"], string(wire.Phase(sn))) })
	for _, h := range f["health"] {
		switch h {
		case container.HealthNone, container.HealthStarting, container.Healthy, container.Unhealthy:
		default:
			return nil, wire.Invalid("unrecognized filter value for health: %s", h)
		}
	}
	when("health", func(sn *container.Snapshot) bool { return slices.Contains(f["health"], wire.HealthWord(sn)) })
	task, err := f.Bool("is-task", false)
	if err != nil {
		return nil, err
	}
	when("is-task", func(*container.Snapshot) bool { return !task }) // there is no swarm
	when("label", func(sn *container.Snapshot) bool { return wire.Labels(f["label"], sn.Spec.Labels) })
	for _, key := range []string{"before", "since"} {
		for _, ref := range f[key] {
			than, err := s.Containers.Get(ref)
			if err != nil {
				return nil, err
			}
			tests = append(tests, func(sn *container.Snapshot) bool {
				if key == "before" {
					return sn.Created.Before(than.Created)
				}
				return sn.Created.After(than.Created)
			})
		}
	}
	codes := map[int]bool{}
	for _, v := range f["exited"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, wire.Invalid("%w", err)
		}
		codes[n] = true
	}
	when("exited", func(sn *container.Snapshot) bool {
		p := wire.Phase(sn)
		return !p.Live() && p != container.Restarting && !sn.State.StartedAt.IsZero() && codes[sn.State.ExitCode()]
	})
	if len(f["ancestor"]) > 0 {
		of, err := s.descendants(ctx, f["ancestor"])
		if err != nil {
			return nil, err
		}
		tests = append(tests, func(sn *container.Snapshot) bool { return of(sn.Spec.Image.ID) })
	}
	ids := map[container.ID]bool{}
	for _, prefix := range f["id"] {
		var found []container.ID
		for _, sn := range list {
			if strings.HasPrefix(string(sn.ID), prefix) {
				found = append(found, sn.ID)
			}
		}
		if len(found) == 1 { // an ambiguous one means nobody
			ids[found[0]] = true
		}
	}
	when("id", func(sn *container.Snapshot) bool { return ids[sn.ID] })
	when("name", nameTest(f["name"]))
	when("network", func(sn *container.Snapshot) bool {
		return slices.ContainsFunc(f["network"], func(v string) bool { return wire.InNetwork(sn, v) })
	})
	when("volume", func(sn *container.Snapshot) bool {
		return slices.ContainsFunc(sn.Spec.Storage.Points, func(p container.MountPoint) bool {
			name := p.Name
			if name == "" {
				name = p.Source
			}
			return slices.Contains(f["volume"], name) || slices.Contains(f["volume"], p.Destination)
		})
	})
	ports, err := portTest(f)
	if err != nil {
		return nil, err
	}
	if ports != nil {
		tests = append(tests, ports)
	}
	return func(sn *container.Snapshot) bool {
		for _, test := range tests {
			if !test(sn) {
				return false
			}
		}
		return true
	}, nil
}

// nameTest matches names or expressions, with and without the slash in front.
func nameTest(values []string) container.ListFilter {
	res := make([]*regexp.Regexp, len(values))
	for i, v := range values {
		res[i], _ = regexp.Compile(v) // a broken one matches nothing
	}
	return func(sn *container.Snapshot) bool {
		for i, v := range values {
			if strings.TrimPrefix(v, "/") == sn.Name || res[i] != nil && (res[i].MatchString(sn.Name) || res[i].MatchString("/"+sn.Name)) {
				return true
			}
		}
		return false
	}
}

// descendants tells whether an image is one of those named or was made from one of them.
func (s *Server) descendants(ctx context.Context, names []string) (func(id string) bool, error) {
	of := map[string]bool{}
	for _, n := range names {
		if img, err := s.Images.Resolve(ctx, n, nil); err == nil { // an unknown image has no containers
			of[img.ID.String()] = true
		}
	}
	if len(of) == 0 {
		return func(string) bool { return false }, nil
	}
	all, err := s.Images.List(ctx, image.ListOptions{})
	if err != nil {
		return nil, err
	}
	parent := map[string]string{}
	for _, i := range all {
		parent[i.ID.String()] = i.Parent
	}
	return func(id string) bool {
		for range len(parent) + 1 { // parents cannot go round, but labels could say so
			if of[id] {
				return true
			}
			if id = parent[id]; id == "" {
				return false
			}
		}
		return false
	}, nil
}

// portTest matches the ports of running containers: the host's for publish, their own for expose.
func portTest(f wire.Filters) (container.ListFilter, error) {
	wanted := map[string]map[string]bool{"publish": {}, "expose": {}}
	if len(f["publish"])+len(f["expose"]) == 0 {
		return nil, nil //nolint:nilnil // no filter is an answer
	}
	for key, set := range wanted {
		for _, v := range f[key] {
			if strings.Contains(v, ":") {
				return nil, fmt.Errorf("filter for '%s' should not contain ':': %s", key, v)
			}
			num, proto, ok := strings.Cut(v, "/")
			if !ok {
				proto = "tcp"
			}
			first, last, ranged := strings.Cut(num, "-")
			if !ranged {
				last = first
			}
			a, err := strconv.ParseUint(first, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("error while looking up for %s %s: %w", key, v, err)
			}
			z, err := strconv.ParseUint(last, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("error while looking up for %s %s: %w", key, v, err)
			}
			if z < a {
				return nil, fmt.Errorf("error while looking up for %s %s: invalid range specified for port: %s", key, v, num)
			}
			for n := a; n <= z; n++ {
				set[strconv.FormatUint(n, 10)+"/"+strings.ToLower(proto)] = true
			}
		}
	}
	return func(sn *container.Snapshot) bool {
		for _, p := range wire.Ports(sn) {
			if wanted["publish"][fmt.Sprintf("%d/%s", p.PublicPort, p.Type)] || wanted["expose"][fmt.Sprintf("%d/%s", p.PrivatePort, p.Type)] {
				return true
			}
		}
		return false
	}, nil
}
