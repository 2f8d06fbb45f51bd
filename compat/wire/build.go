package wire

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	api "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/registry"

	"github.com/berthd/berth/engine/build"
)

// BuildRequest reads the query of POST /build. registries is the X-Registry-Config header.
//
// Errors are ErrInvalidArgument in dockerd's words. Source: Engine API 1.51, ImageBuild; recorded answers of Engine 29.
func BuildRequest(q url.Values, registries string) (*build.Request, error) {
	r := &build.Request{
		BuildID: q.Get("buildid"), Session: q.Get("session"), Dockerfile: q.Get("dockerfile"), Target: q.Get("target"), Platform: q.Get("platform"), Remote: q.Get("remote"),
		NoCache: Bool(q.Get("nocache")), Pull: Bool(q.Get("pull")), Quiet: Bool(q.Get("q")), NetworkMode: q.Get("networkmode"), CgroupParent: q.Get("cgroupparent"),
		ShmSize: number(q, "shmsize"), Limits: build.Limits{
			Memory: number(q, "memory"), MemorySwap: number(q, "memswap"), CPUShares: number(q, "cpushares"), CPUPeriod: number(q, "cpuperiod"), CPUQuota: number(q, "cpuquota"),
			CpusetCpus: q.Get("cpusetcpus"), CpusetMems: q.Get("cpusetmems"),
		},
		Trace: q.Get("version") == "2",
	}
	switch v := q.Get("version"); v {
	case "", "1", "2":
	default:
		return nil, Invalid("invalid version %q", v)
	}
	if Bool(q.Get("squash")) {
		return nil, Invalid("squash is only supported with experimental mode")
	}
	if i := q.Get("isolation"); i != "" && i != "default" {
		return nil, Invalid("unsupported isolation: %q", i)
	}
	if r.Platform != "" && strings.Count(r.Platform, "/") > 2 {
		return nil, Invalid("%q: cannot parse platform specifier: invalid argument", r.Platform)
	}
	for _, h := range q["extrahosts"] {
		if strings.HasPrefix(h, "[") { // a JSON list, from older SDKs
			var list []string
			if err := json.Unmarshal([]byte(h), &list); err == nil {
				r.ExtraHosts = append(r.ExtraHosts, list...)
				continue
			}
		}
		r.ExtraHosts = append(r.ExtraHosts, h)
	}
	for _, f := range []struct {
		key, what string
		into      any
	}{
		{"buildargs", "error reading build args", &r.Args},
		{"labels", "error reading labels", &r.Labels},
		{"cachefrom", "error reading cache-from", &r.CacheFrom},
		{"outputs", "invalid outputs specified", &r.Outputs},
	} {
		if err := field(q, f.key, f.what, f.into); err != nil {
			return nil, err
		}
	}
	var limits []*api.Ulimit
	if err := field(q, "ulimits", "error reading ulimit settings", &limits); err != nil {
		return nil, err
	}
	for _, u := range limits {
		if u != nil {
			r.Ulimits = append(r.Ulimits, build.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
		}
	}
	for _, t := range q["t"] {
		if t == "" {
			continue
		}
		n, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return nil, Invalid("%v", err)
		}
		if _, ok := n.(reference.Digested); ok {
			return nil, Invalid("build tag cannot contain a digest")
		}
		r.Tags = append(r.Tags, reference.TagNameOnly(n).String())
	}
	if registries != "" {
		r.Auth = registryConfig(registries)
	}
	return r, nil
}

func field(q url.Values, key, what string, into any) error {
	s := q.Get(key)
	if s == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s), into); err != nil {
		return Invalid("%s: %v", what, err)
	}
	return nil
}

// number is lenient as dockerd's form parser: nonsense is nothing.
func number(q url.Values, key string) int64 {
	n, _ := strconv.ParseInt(q.Get(key), 10, 64)
	return n
}

// registryConfig reads X-Registry-Config; what does not decode means no credentials.
func registryConfig(h string) map[string]build.Auth {
	raw, err := base64.URLEncoding.DecodeString(h)
	if err != nil {
		return nil
	}
	var m map[string]registry.AuthConfig
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	out := map[string]build.Auth{}
	for host, a := range m {
		out[host] = build.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	}
	return out
}

// BuildPrune reads the query of POST /build/prune. op makes one of the builder's filters.
func BuildPrune(q url.Values, op func(key, op, value string) (string, error)) (build.PruneOptions, error) {
	o := build.PruneOptions{All: Bool(q.Get("all"))}
	for key, into := range map[string]*int64{"keep-storage": &o.ReservedSpace, "reserved-space": &o.ReservedSpace, "max-used-space": &o.MaxUsedSpace, "min-free-space": &o.MinFreeSpace} {
		s := q.Get(key)
		if s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return o, Invalid("%s is in bytes and expects an integer, got %s: %v", key, s, err)
		}
		*into = int64(n)
	}
	f, err := ParseFilters(q.Get("filters"), "until", "unused-for", "id", "parents", "description", "inuse", "mutable", "immutable", "shared", "private", "type")
	if err != nil {
		return o, Invalid("failed to prune build cache: %v", err)
	}
	for key, values := range f {
		for _, v := range values {
			if key == "until" || key == "unused-for" {
				d, err := time.ParseDuration(v)
				if err != nil {
					return o, Invalid("failed to prune build cache: %q filter expects a duration (e.g., '24h') or a timestamp: failed to parse value as time or duration: invalid seconds %q: invalid syntax", key, v)
				}
				o.Until = d
				continue
			}
			word := "=="
			switch key {
			case "id", "parents", "description":
				word = "~="
			case "inuse", "mutable", "immutable", "shared", "private":
				if !Bool(v) {
					continue // the builder's filters only ask for presence
				}
				v = ""
			}
			s, err := op(key, word, v)
			if err != nil {
				return o, err
			}
			o.Filters = append(o.Filters, s)
		}
	}
	return o, nil
}

// FamiliarName is a reference as people write it.
func FamiliarName(ref string) string {
	n, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(n)
}
