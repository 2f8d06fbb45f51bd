package compat

import (
	"net/http"
	"regexp"
	"strings"
)

type handler func(s *Server, c *Ctx) (any, error)

// route is one operation. In patterns {x} is one path element, {x...} may hold slashes.
type route struct {
	method, pattern string
	success         int
	handler         handler
	re              *regexp.Regexp
	names           []string
}

var variable = regexp.MustCompile(`\{(\w+)(\.\.\.)?\}`)

func compile(rs []route) []route {
	for i := range rs {
		r := &rs[i]
		var b strings.Builder
		last := 0
		for _, m := range variable.FindAllStringSubmatchIndex(r.pattern, -1) {
			b.WriteString(regexp.QuoteMeta(r.pattern[last:m[0]]))
			r.names = append(r.names, r.pattern[m[2]:m[3]])
			if m[4] >= 0 {
				b.WriteString(`(.+)`)
			} else {
				b.WriteString(`/?([^/]+)`) // a leading slash of a name is tolerated
			}
			last = m[1]
		}
		b.WriteString(regexp.QuoteMeta(r.pattern[last:]))
		r.re = regexp.MustCompile("^" + b.String() + "$")
	}
	return rs
}

func match(method, path string) (*route, map[string]string) {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	for i := range routes {
		r := &routes[i]
		if r.method != method {
			continue
		}
		m := r.re.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		vars := make(map[string]string, len(r.names))
		for j, n := range r.names {
			vars[n] = m[j+1]
		}
		return r, vars
	}
	return nil, nil
}

const (
	get  = http.MethodGet
	post = http.MethodPost
	del  = http.MethodDelete
	head = http.MethodHead
	put  = http.MethodPut
)

// routes is every operation of the specification.
var routes = compile(append([]route{
	{method: get, pattern: "/_ping", success: 200, handler: (*Server).ping},
	{method: head, pattern: "/_ping", success: 200, handler: (*Server).ping},
	{method: get, pattern: "/version", success: 200, handler: (*Server).version},
	{method: get, pattern: "/info", success: 200, handler: (*Server).info},
	{method: get, pattern: "/events", success: 200, handler: (*Server).events},

	{method: get, pattern: "/containers/json", success: 200, handler: (*Server).containerList},
	{method: post, pattern: "/containers/create", success: 201, handler: (*Server).containerCreate},
	{method: get, pattern: "/containers/{id}/json", success: 200, handler: (*Server).containerInspect},
	{method: get, pattern: "/containers/{id}/logs", success: 200, handler: (*Server).containerLogs},
	{method: post, pattern: "/containers/{id}/start", success: 204, handler: (*Server).containerStart},
	{method: post, pattern: "/containers/{id}/stop", success: 204, handler: (*Server).containerStop},
	{method: post, pattern: "/containers/{id}/restart", success: 204, handler: (*Server).containerRestart},
	{method: post, pattern: "/containers/{id}/kill", success: 204, handler: (*Server).containerKill},
	{method: post, pattern: "/containers/{id}/pause", success: 204, handler: (*Server).containerPause},
	{method: post, pattern: "/containers/{id}/unpause", success: 204, handler: (*Server).containerUnpause},
	{method: post, pattern: "/containers/{id}/rename", success: 204, handler: (*Server).containerRename},
	{method: post, pattern: "/containers/{id}/resize", success: 200, handler: (*Server).containerResize},
	{method: post, pattern: "/containers/{id}/attach", success: 200, handler: (*Server).containerAttach},
	{method: post, pattern: "/containers/{id}/wait", success: 200, handler: (*Server).containerWait},
	{method: del, pattern: "/containers/{id}", success: 204, handler: (*Server).containerRemove},
	{method: get, pattern: "/containers/{id}/stats", success: 200, handler: (*Server).containerStats},
	{method: get, pattern: "/system/df", success: 200, handler: (*Server).systemDF},
	{method: get, pattern: "/containers/{id}/top", success: 200, handler: (*Server).containerTop},
	{method: post, pattern: "/containers/{id}/update", success: 200, handler: (*Server).containerUpdate},
	{method: post, pattern: "/containers/prune", success: 200, handler: (*Server).containerPrune},
	{method: post, pattern: "/containers/{id}/exec", success: 201, handler: (*Server).execCreate},
	{method: post, pattern: "/exec/{id}/start", success: 200, handler: (*Server).execStart},
	{method: post, pattern: "/exec/{id}/resize", success: 200, handler: (*Server).execResize},
	{method: get, pattern: "/exec/{id}/json", success: 200, handler: (*Server).execInspect},

	{method: get, pattern: "/images/json", success: 200, handler: (*Server).imageList},
	{method: post, pattern: "/images/create", success: 200, handler: (*Server).imageCreate},
	{method: post, pattern: "/images/load", success: 200, handler: (*Server).imageLoad},
	{method: get, pattern: "/images/{name...}/json", success: 200, handler: (*Server).imageInspect},
	{method: get, pattern: "/images/{name...}/history", success: 200, handler: (*Server).imageHistory},
	{method: post, pattern: "/images/{name...}/tag", success: 201, handler: (*Server).imageTag},
	{method: del, pattern: "/images/{name...}", success: 200, handler: (*Server).imageDelete},

	{method: post, pattern: "/build", success: 200, handler: (*Server).imageBuild},
	{method: post, pattern: "/build/cancel", success: 200, handler: (*Server).buildCancel},
	{method: post, pattern: "/build/prune", success: 200, handler: (*Server).buildPrune},
	{method: post, pattern: "/session", success: 200, handler: (*Server).buildSession},
	{method: post, pattern: "/grpc", success: 200, handler: (*Server).buildGRPC},

	{method: get, pattern: "/networks", success: 200, handler: (*Server).networkList},
	{method: get, pattern: "/networks/{id}", success: 200, handler: (*Server).networkInspect},

	{method: get, pattern: "/volumes", success: 200, handler: (*Server).volumeList},
	{method: post, pattern: "/volumes/create", success: 201, handler: (*Server).volumeCreate},
	{method: get, pattern: "/volumes/{name}", success: 200, handler: (*Server).volumeInspect},
	{method: post, pattern: "/volumes/prune", success: 200, handler: (*Server).volumePrune},
	{method: del, pattern: "/volumes/{name}", success: 204, handler: (*Server).volumeRemove},

	{method: get, pattern: "/plugins", success: 200, handler: func(*Server, *Ctx) (any, error) { return []any{}, nil }},
}, pending()...))
