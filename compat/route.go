package compat

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

type handler func(s *Server, c *Ctx) (any, error)

// kind says how a route answers.
type kind int

const (
	document kind = iota // one JSON value, or nothing
	upload               // one JSON value or a stream, while the request's body may still be arriving
	streamed             // a body of unknown length, flushed piece by piece
	hijacked             // the connection is taken over
)

// route is one operation. A pattern has one variable at most: {x} is one path element, {x...} may hold slashes.
type route struct {
	method, pattern string
	success         int
	handler         handler
	kind            kind
	min, max        int  // minor API versions served; 0 = no limit of its own
	bare            bool // takes no parameters, so that a malformed query does not matter
	noBody          bool // a body is refused

	prefix, suffix, name string // of the pattern around its variable
	slashes              bool
}

// table finds routes by method: literal paths first, then the longest pattern.
type table struct {
	exact    map[string]*route // "METHOD /path"
	variable map[string][]*route
}

func newTable(rs []route) *table {
	t := &table{map[string]*route{}, map[string][]*route{}}
	for i := range rs {
		r := &rs[i]
		before, after, ok := strings.Cut(r.pattern, "{")
		if !ok {
			t.exact[r.method+" "+r.pattern] = r
			continue
		}
		name, suffix, _ := strings.Cut(after, "}")
		r.prefix, r.suffix = before, suffix
		r.name, r.slashes = strings.CutSuffix(name, "...")
		t.variable[r.method] = append(t.variable[r.method], r)
	}
	for _, list := range t.variable {
		slices.SortStableFunc(list, func(a, b *route) int { return len(b.prefix) + len(b.suffix) - len(a.prefix) - len(a.suffix) })
	}
	return t
}

// match finds the route of a cleaned path and the value of its variable. A leading slash of a name is tolerated.
func (t *table) match(method, p string) (r *route, value string) {
	if r := t.exact[method+" "+p]; r != nil {
		return r, ""
	}
	for _, r := range t.variable[method] {
		if len(p) <= len(r.prefix)+len(r.suffix) || !strings.HasPrefix(p, r.prefix) || !strings.HasSuffix(p, r.suffix) {
			continue
		}
		v := strings.TrimPrefix(p[len(r.prefix):len(p)-len(r.suffix)], "/")
		if v != "" && (r.slashes || !strings.Contains(v, "/")) {
			return r, v
		}
	}
	return nil, ""
}

// clean is the form of a path that is routed: no doubled slashes, no dots. A slash at the end stays.
func clean(p string) string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	c := path.Clean(p)
	if p[len(p)-1] == '/' && c != "/" {
		c += "/"
	}
	return c
}

const (
	get  = http.MethodGet
	post = http.MethodPost
	del  = http.MethodDelete
	head = http.MethodHead
	put  = http.MethodPut
)

// routes is every operation of the specification.
var routes = append([]route{
	{method: get, pattern: "/_ping", success: 200, handler: (*Server).ping, bare: true},
	{method: head, pattern: "/_ping", success: 200, handler: (*Server).ping, bare: true},
	{method: get, pattern: "/version", success: 200, handler: (*Server).version, bare: true},
	{method: get, pattern: "/info", success: 200, handler: (*Server).info, bare: true},
	{method: get, pattern: "/events", success: 200, handler: (*Server).events, kind: streamed},
	{method: get, pattern: "/system/df", success: 200, handler: (*Server).systemDF},

	{method: get, pattern: "/containers/json", success: 200, handler: (*Server).containerList},
	{method: post, pattern: "/containers/create", success: 201, handler: (*Server).containerCreate},
	{method: post, pattern: "/containers/prune", success: 200, handler: (*Server).containerPrune, min: 25},
	{method: get, pattern: "/containers/{id...}/json", success: 200, handler: (*Server).containerInspect},
	{method: get, pattern: "/containers/{id...}/logs", success: 200, handler: (*Server).containerLogs, kind: streamed},
	{method: get, pattern: "/containers/{id...}/stats", success: 200, handler: (*Server).containerStats, kind: streamed},
	{method: get, pattern: "/containers/{id...}/top", success: 200, handler: (*Server).containerTop},
	{method: post, pattern: "/containers/{id...}/start", success: 204, handler: (*Server).containerStart, noBody: true},
	{method: post, pattern: "/containers/{id...}/stop", success: 204, handler: (*Server).containerStop},
	{method: post, pattern: "/containers/{id...}/restart", success: 204, handler: (*Server).containerRestart},
	{method: post, pattern: "/containers/{id...}/kill", success: 204, handler: (*Server).containerKill},
	{method: post, pattern: "/containers/{id...}/pause", success: 204, handler: (*Server).containerPause},
	{method: post, pattern: "/containers/{id...}/unpause", success: 204, handler: (*Server).containerUnpause},
	{method: post, pattern: "/containers/{id...}/rename", success: 204, handler: (*Server).containerRename},
	{method: post, pattern: "/containers/{id...}/resize", success: 200, handler: (*Server).containerResize},
	{method: post, pattern: "/containers/{id...}/update", success: 200, handler: (*Server).containerUpdate},
	{method: post, pattern: "/containers/{id...}/attach", success: 200, handler: (*Server).containerAttach, kind: hijacked},
	{method: get, pattern: "/containers/{id...}/attach/ws", success: 200, handler: (*Server).attachSocket, kind: hijacked},
	{method: post, pattern: "/containers/{id...}/wait", success: 200, handler: (*Server).containerWait, kind: streamed},
	{method: del, pattern: "/containers/{id...}", success: 204, handler: (*Server).containerRemove},
	{method: head, pattern: "/containers/{id...}/archive", success: 200, handler: (*Server).archiveHead},
	{method: get, pattern: "/containers/{id...}/archive", success: 200, handler: (*Server).archiveGet, kind: streamed},
	{method: put, pattern: "/containers/{id...}/archive", success: 200, handler: (*Server).archivePut},
	{method: get, pattern: "/containers/{id...}/export", success: 200, handler: (*Server).containerExport, kind: streamed},
	{method: get, pattern: "/containers/{id...}/changes", success: 200, handler: (*Server).containerChanges},
	{method: post, pattern: "/commit", success: 201, handler: (*Server).commit},
	{method: post, pattern: "/containers/{id...}/exec", success: 201, handler: (*Server).execCreate},
	{method: post, pattern: "/exec/{id...}/start", success: 200, handler: (*Server).execStart, kind: hijacked},
	{method: post, pattern: "/exec/{id...}/resize", success: 200, handler: (*Server).execResize},
	{method: get, pattern: "/exec/{id...}/json", success: 200, handler: (*Server).execInspect},

	{method: get, pattern: "/images/json", success: 200, handler: (*Server).imageList},
	{method: post, pattern: "/images/create", success: 200, handler: (*Server).imageCreate, kind: upload},
	{method: post, pattern: "/images/load", success: 200, handler: (*Server).imageLoad, kind: upload},
	{method: get, pattern: "/images/{name...}/json", success: 200, handler: (*Server).imageInspect},
	{method: get, pattern: "/images/{name...}/history", success: 200, handler: (*Server).imageHistory},
	{method: post, pattern: "/images/{name...}/tag", success: 201, handler: (*Server).imageTag},
	{method: del, pattern: "/images/{name...}", success: 200, handler: (*Server).imageDelete},
	{method: post, pattern: "/images/prune", success: 200, handler: (*Server).imagePrune, min: 25},
	{method: get, pattern: "/images/search", success: 200, handler: (*Server).imageSearch},
	{method: get, pattern: "/images/get", success: 200, handler: (*Server).imageSave, kind: streamed},
	{method: get, pattern: "/images/{name...}/get", success: 200, handler: (*Server).imageSave, kind: streamed},
	{method: post, pattern: "/images/{name...}/push", success: 200, handler: (*Server).imagePush, kind: streamed},
	{method: get, pattern: "/distribution/{name...}/json", success: 200, handler: (*Server).distribution},
	{method: post, pattern: "/auth", success: 200, handler: (*Server).auth},

	{method: post, pattern: "/build", success: 200, handler: (*Server).imageBuild, kind: upload},
	{method: post, pattern: "/build/cancel", success: 200, handler: (*Server).buildCancel},
	{method: post, pattern: "/build/prune", success: 200, handler: (*Server).buildPrune, min: 31},
	{method: post, pattern: "/session", success: 101, handler: (*Server).buildSession, kind: hijacked},
	{method: post, pattern: "/grpc", success: 101, handler: (*Server).buildGRPC, kind: hijacked},

	{method: get, pattern: "/networks", success: 200, handler: (*Server).networkList},
	{method: get, pattern: "/networks/", success: 200, handler: (*Server).networkList},
	{method: get, pattern: "/networks/{id...}", success: 200, handler: (*Server).networkInspect},
	{method: post, pattern: "/networks/create", success: 201, handler: (*Server).networkCreate},
	{method: post, pattern: "/networks/prune", success: 200, handler: (*Server).networkPrune, min: 25},
	{method: post, pattern: "/networks/{id...}/connect", success: 200, handler: (*Server).networkConnect},
	{method: post, pattern: "/networks/{id...}/disconnect", success: 200, handler: (*Server).networkDisconnect},
	{method: del, pattern: "/networks/{id...}", success: 204, handler: (*Server).networkRemove},

	{method: get, pattern: "/volumes", success: 200, handler: (*Server).volumeList},
	{method: post, pattern: "/volumes/create", success: 201, handler: (*Server).volumeCreate},
	{method: post, pattern: "/volumes/prune", success: 200, handler: (*Server).volumePrune, min: 25},
	{method: get, pattern: "/volumes/{name...}", success: 200, handler: (*Server).volumeInspect},
	{method: put, pattern: "/volumes/{name...}", success: 200, handler: (*Server).volumeUpdate, min: 42},
	{method: del, pattern: "/volumes/{name...}", success: 204, handler: (*Server).volumeRemove},

	{method: get, pattern: "/plugins", success: 200, handler: func(*Server, *Ctx) (any, error) { return []any{}, nil }},
}, pending()...)

var routed = newTable(routes)

// floors are the minor API versions below which operations that are not served yet, or by no one but a swarm, do not exist.
var floors = map[string]int{
	"POST /plugins/{name...}/upgrade": 26,
	"GET /secrets":                    25, "POST /secrets/create": 25, "GET /secrets/{id}": 25, "DELETE /secrets/{id}": 25, "POST /secrets/{id}/update": 25,
	"GET /configs": 30, "POST /configs/create": 30, "GET /configs/{id}": 30, "DELETE /configs/{id}": 30, "POST /configs/{id}/update": 30,
}
