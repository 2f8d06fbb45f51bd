package compat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/labstack/echo/v4"

	"github.com/berthd/berth/compat/wire"
)

// Versions served. The bare path means the newest.
const (
	MaxVersion = "1.51"
	MinVersion = "1.24"
)

// Server answers API requests.
type Server struct {
	Backend
	Log     *slog.Logger
	Version string // of berth
	echo    *echo.Echo
}

// Ctx is one request.
type Ctx struct {
	*http.Request
	w       http.ResponseWriter
	vars    map[string]string
	version int // minor: 51 for 1.51
	query   url.Values
}

// Param is a part of the path.
func (c *Ctx) Param(k string) string { return c.vars[k] }

// done is returned by handlers that wrote the whole answer themselves.
var done = errors.New("answered")

// Handler returns the server as an http.Handler.
func (s *Server) Handler() http.Handler {
	s.echo = echo.New()
	s.echo.HideBanner = true
	s.echo.Any("/*", func(c echo.Context) error {
		s.serve(c.Response(), c.Request())
		return nil
	})
	return s.echo
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	path, version, err := s.split(r.URL.Path)
	defer func() {
		if p := recover(); p != nil { // a panic costs one request
			s.Log.Error("panic in a handler", "path", path, "value", p, "stack", string(debug.Stack()))
			s.fail(w, fmt.Errorf("internal error"))
		}
	}()
	rt, vars := match(r.Method, path)
	if r.Method == http.MethodOptions {
		return
	}
	if rt == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "page not found"})
		return
	}
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", "Docker/"+s.Version+" (linux)")
	if err != nil {
		if strings.Contains(err.Error(), "too old") {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.fail(w, err)
		return
	}
	c := &Ctx{Request: r, w: w, vars: vars, version: version, query: r.URL.Query()}
	v, err := rt.handler(s, c)
	switch {
	case errors.Is(err, done):
	case err != nil:
		s.fail(w, err)
	case v == nil:
		if rt.success == http.StatusOK {
			h.Set("Content-Length", "0")
		}
		w.WriteHeader(rt.success)
	default:
		writeJSON(w, rt.success, v)
	}
}

// split takes the version off a path.
func (s *Server) split(p string) (string, int, error) {
	const newest = 51
	if !strings.HasPrefix(p, "/v") {
		return p, newest, nil
	}
	v, rest, ok := strings.Cut(p[2:], "/")
	if !ok || strings.Trim(v, "0123456789.") != "" || v == "" {
		return p, newest, nil
	}
	major, minor, _ := strings.Cut(strings.TrimSuffix(v, "."), ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	switch {
	case a > 1 || a == 1 && b > newest:
		return "/" + rest, newest, wire.Invalid("client version %s is too new. Maximum supported API version is %s", v, MaxVersion)
	case a < 1 || b < 24:
		return "/" + rest, newest, wire.Invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, MinVersion)
	}
	return "/" + rest, b, nil
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	code := status(err)
	if code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	if code >= 500 && !errdefs.IsNotImplemented(err) && !errdefs.IsUnavailable(err) {
		s.Log.Error("request failed", "error", err)
	}
	writeJSON(w, code, map[string]string{"message": err.Error()})
}

// writeJSON writes as dockerd does: no HTML escaping, a newline at the end, no charset.
func writeJSON(w http.ResponseWriter, code int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		code = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"message":"internal error"}` + "\n")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // the client may be gone
}

// maxBody is the largest JSON body, in bytes.
const maxBody = 8 << 20

// decode reads a JSON body into v. An empty one is allowed if optional.
func (c *Ctx) decode(v any, optional bool) error {
	ct := c.Header.Get("Content-Type")
	if c.ContentLength == 0 && (optional || ct == "") {
		if optional {
			return nil
		}
		return wire.Invalid("invalid JSON: EOF")
	}
	if t, _, _ := strings.Cut(ct, ";"); strings.TrimSpace(t) != "application/json" {
		return wire.Invalid("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	dec := json.NewDecoder(http.MaxBytesReader(c.w, c.Body, maxBody))
	if err := dec.Decode(v); err != nil {
		if optional && err.Error() == "EOF" {
			return nil
		}
		return wire.Invalid("invalid JSON: %v", err)
	}
	if dec.More() {
		return wire.Invalid("unexpected content after JSON")
	}
	return nil
}

// flag is a boolean query parameter.
func (c *Ctx) flag(k string) bool { return wire.Bool(c.query.Get(k)) }
