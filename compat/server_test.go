package compat

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/shim"
)

// tested is a server whose handlers do what a test wants, behind the routes of the real one.
func tested(t *testing.T, extra ...route) *httptest.Server {
	t.Helper()
	old := routed
	routed = newTable(append(append([]route{}, routes...), extra...))
	t.Cleanup(func() { routed = old })
	s := &Server{Log: slog.New(slog.DiscardHandler), Version: "9.9"}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return srv
}

// raw sends bytes and returns the whole answer.
func raw(t *testing.T, srv *httptest.Server, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRouter(t *testing.T) {
	echo := func(_ *Server, c *Ctx) (any, error) {
		return map[string]string{"id": c.Param("id"), "platform": c.query.Get("platform")}, nil
	}
	srv := tested(t, route{method: get, pattern: "/t/{id...}", success: 200, handler: echo}, route{method: post, pattern: "/t/{id...}", success: 200, handler: echo},
		route{method: post, pattern: "/floor", success: 200, handler: echo, min: 42, max: 44}, route{method: post, pattern: "/empty", success: 204, noBody: true, handler: func(*Server, *Ctx) (any, error) { return nil, nil }})
	for _, tc := range []struct {
		name, request string // head up to the Host line
		want          []string
		not           string
	}{
		{"ping", "GET /_ping", []string{"200 OK", "Api-Version: 1.51", "Cache-Control: no-cache, no-store, must-revalidate", "Pragma: no-cache", "Swarm: inactive", "text/plain; charset=utf-8", "\r\n\r\nOK"}, ""},
		{"ping by HEAD", "HEAD /v1.24/_ping", []string{"200 OK", "Content-Length: 0"}, ""},
		{"unknown", "GET /nope", []string{"404", `{"message":"page not found"}`, "Content-Type: application/json\r\n"}, "Api-Version"},
		{"unknown at a bad version", "GET /v1.99/nope", []string{"404", "page not found"}, "Server:"},
		{"wrong method", "DELETE /v1.51/info", []string{"404", "page not found"}, "Api-Version"},
		{"wrong method, a strange one", "BREW /info", []string{"404", "page not found"}, "Api-Version"},
		{"HEAD of what has none", "HEAD /info", []string{"404"}, "page not found"},
		{"OPTIONS", "OPTIONS /anything", []string{"200", "Content-Length: 0", "Api-Version", "Docker-Experimental"}, ""},
		{"no version", "GET /vfoo/info", []string{"404"}, ""},
		{"version alone", "GET /v1.51", []string{"404"}, ""},
		{"version with a dot behind", "GET /v1.41./t/x", []string{"200", `"id":"x"`}, ""},
		{"version of three numbers", "GET /v1.50.1/t/x", []string{"200"}, ""},
		{"too new", "GET /v1.99/t/x", []string{"400", `{"message":"client version 1.99 is too new. Maximum supported API version is 1.51"}`, "Api-Version: 1.51", "Ostype"}, "Docker-Experimental"},
		{"too new by a third number", "GET /v1.51.1/t/x", []string{"400", "client version 1.51.1 is too new"}, ""},
		{"too new, a whole number", "GET /v2/t/x", []string{"400", "client version 2 is too new"}, ""},
		{"too old is plain text", "GET /v1.23/t/x", []string{"400", "text/plain", "\r\n\r\nclient version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"}, ""},
		{"double slash", "GET //t//x?a=b", []string{"301", "Location: /t/x?a=b", "Content-Length: 0"}, "Api-Version"},
		{"double slash of a POST", "POST /t//x", []string{"301"}, ""},
		{"dots", "GET /v1.51/./t/../t/x", []string{"301", "Location: /v1.51/t/x"}, ""},
		{"escaped slash of a GET", "GET /t/%2Fx", []string{"301", "Location: /t/x"}, ""},
		{"escaped slash of a POST is served", "POST /t/%2Fx", []string{"200", `"id":"x"`}, ""},
		{"below the floor", "POST /v1.41/floor", []string{"400", "POST /floor requires minimum API version 1.42"}, ""},
		{"above the ceiling", "POST /floor", []string{"404", "page not found"}, ""},
		{"malformed query", "GET /t/x?a;b", []string{"400", "invalid semicolon separator in query"}, ""},
		{"malformed query where it does not matter", "GET /_ping?a;b", []string{"200"}, ""},
		{"long name", "GET /t/x?name=" + strings.Repeat("a", 256), []string{"400", "the parameter name is too long: 256 bytes, at most 255 are allowed"}, ""},
		{"many keys", "GET /t/x?" + keys(257), []string{"400", "the query has 257 keys, at most 256 are allowed"}, ""},
		{"long URL", "GET /t/x?a=" + strings.Repeat("a", maxURL), []string{"400", "the URL is too long"}, ""},
		{"long credentials", "GET /t/x", []string{"400", "the header X-Registry-Auth is too long"}, ""},
		{"a body where none belongs", "POST /empty", []string{"204"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			head := tc.request + " HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n"
			if tc.name == "long credentials" {
				head += "X-Registry-Auth: " + strings.Repeat("a", maxRegistryAuth+1) + "\n"
			}
			got := raw(t, srv, head+"\n")
			for _, w := range tc.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in:\n%s", w, got)
				}
			}
			if tc.not != "" && strings.Contains(got, tc.not) {
				t.Errorf("%q in:\n%s", tc.not, got)
			}
		})
	}
	if got := raw(t, srv, "POST /empty HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 8\n\n{\"a\": 1}"); !strings.Contains(got, "non-empty request body was deprecated") {
		t.Errorf("a body: %s", got)
	}
	if got := raw(t, srv, "GET /_ping HTTP/1.0\n\n"); !strings.Contains(got, "200 OK") {
		t.Errorf("HTTP/1.0: %s", got)
	}
	if got := raw(t, srv, "GET http://other/_ping HTTP/1.1\nHost:\nConnection: close\n\n"); !strings.Contains(got, "200 OK") {
		t.Errorf("absolute form and empty host: %s", got)
	}
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d=&", i)
	}
	return b.String()
}

func TestStatusIsOfTheOutermostKind(t *testing.T) {
	inner := errdefs.ErrNotFound
	for _, tc := range []struct {
		err  error
		want int
	}{
		{wire.Invalid("bad: %w", inner), 400},
		{fmt.Errorf("x: %w", wire.Invalid("bad: %w", inner)), 400},
		{fmt.Errorf("x: %w", inner), 404},
		{errors.Join(errors.New("x"), wire.NotYet("y")), 501},
		{wire.Unavailable("x"), 503},
		{wire.Forbidden("x"), 403},
		{wire.TooLarge(), 413},
		{errors.New("x"), 500},
		{errdefs.ErrConflict.WithMessage("x"), 409},
		{&shim.StartError{Cause: shim.CauseOther}, 500},
	} {
		if got := status(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	srv := tested(t, route{method: get, pattern: "/early", success: 200, handler: func(*Server, *Ctx) (any, error) { panic("x") }},
		route{method: get, pattern: "/late", success: 200, handler: func(_ *Server, c *Ctx) (any, error) {
			_, _ = c.w.Write([]byte("half"))
			panic("x")
		}},
		route{method: post, pattern: "/taken", success: 200, kind: hijacked, handler: func(_ *Server, c *Ctx) (any, error) {
			_, _, err := http.NewResponseController(c.w).Hijack()
			if err != nil {
				return nil, err
			}
			panic("x")
		}})
	if got := raw(t, srv, "GET /early HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.Contains(got, "500") || !strings.Contains(got, `{"message":"internal error"}`) {
		t.Errorf("early: %s", got)
	}
	resp, err := http.Get(srv.URL + "/late")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer passed for a whole one")
	}
	if got := raw(t, srv, "POST /taken HTTP/1.1\nHost: x\n\n"); got != "" { // the connection is closed
		t.Errorf("taken: %s", got)
	}
	if got := raw(t, srv, "GET /_ping HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.Contains(got, "OK") {
		t.Errorf("afterwards: %s", got)
	}
}

func TestBodies(t *testing.T) {
	decoded := func(optional bool) handler {
		return func(_ *Server, c *Ctx) (any, error) {
			var v struct{ A string }
			if err := c.decode(&v, optional); err != nil {
				return nil, err
			}
			return v, nil
		}
	}
	srv := tested(t, route{method: post, pattern: "/strict", success: 200, handler: decoded(false)}, route{method: post, pattern: "/optional", success: 200, handler: decoded(true)})
	for _, tc := range []struct {
		name, path, ct, body string
		code                 int
		want                 string
	}{
		{"plain", "/strict", "application/json", `{"A":"x"}`, 200, `{"A":"x"}`},
		{"other case, unknown fields, a charset", "/strict", "application/json; charset=utf-8", `{"a":"<x>","zz":[1]}`, 200, `{"A":"<x>"}`},
		{"nothing", "/strict", "", "", 400, "invalid JSON: EOF"},
		{"nothing where it may be", "/optional", "", "", 200, `{"A":""}`},
		{"nothing of a wrong type", "/optional", "text/plain", "", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"truncated", "/optional", "application/json", `{"A":`, 400, "invalid JSON: unexpected EOF"},
		{"followed by more", "/strict", "application/json", `{"A":"x"}{}`, 400, "unexpected content after JSON"},
		{"wrong type of field", "/strict", "application/json", `{"A":1}`, 400, "invalid JSON: json: cannot unmarshal number into Go struct field"},
		{"plain text", "/strict", "text/plain", `{}`, 400, "unsupported Content-Type header (text/plain)"},
		{"malformed type", "/strict", "application/json/x", `{}`, 400, "malformed Content-Type header (application/json/x): mime: unexpected content after media subtype"},
		{"no type", "/strict", "", `{}`, 400, "malformed Content-Type header (): mime: no media type"},
		{"another json", "/strict", "application/vnd.api+json", `{}`, 400, "unsupported Content-Type header"},
		{"a key twice", "/strict", "application/json", `{"A":"x","A":"y"}`, 400, `duplicate key \"A\"`},
		{"deep", "/strict", "application/json", strings.Repeat(`[`, 65), 400, "nested deeper than 64 levels"},
		{"large", "/strict", "application/json", `{"A":"` + strings.Repeat("x", wire.MaxBody) + `"}`, 413, "the request body is too large: at most 8388608 bytes are allowed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				if chunked && tc.body == "" {
					continue
				}
				var body io.Reader = bytes.NewReader([]byte(tc.body))
				if chunked {
					body = bufio.NewReader(body)
				}
				req, err := http.NewRequest(post, srv.URL+tc.path, body)
				if err != nil {
					t.Fatal(err)
				}
				if tc.ct != "" {
					req.Header.Set("Content-Type", tc.ct)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != tc.code || !strings.Contains(string(got), tc.want) {
					t.Errorf("chunked=%v: %d %s %v, want %d %s", chunked, resp.StatusCode, got, err, tc.code, tc.want)
				}
			}
		})
	}
}

func TestListenerRules(t *testing.T) {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2375}
	for _, tc := range []struct {
		host, origin string
		names        []string
		tcp, ok      bool
	}{
		{"anything", "http://evil", nil, false, true},
		{"127.0.0.1:2375", "", nil, true, true},
		{"localhost:2375", "", nil, true, true},
		{"", "", nil, true, true},
		{"[::ffff:127.0.0.1]:1", "", nil, true, true},
		{"evil.example", "", nil, true, false},
		{"10.0.0.1", "", nil, true, false},
		{"[", "", nil, true, false},
		{"engine.example:2376", "", []string{"engine.example"}, true, true},
		{"127.0.0.1", "http://127.0.0.1", nil, true, false},
	} {
		r := httptest.NewRequest(get, "/info", nil)
		r.Host = tc.host
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		ctx := Listener{TCP: tc.tcp, Names: tc.names}.With(r.Context())
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, local)
		if err := listenerRules(r.WithContext(ctx)); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
