package compat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

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
	Log          *slog.Logger
	Version      string // of berth
	Experimental bool
	// ClassicBuild tells clients to prefer the classic builder.
	ClassicBuild atomic.Bool
}

// Ctx is one request.
type Ctx struct {
	*http.Request
	w       http.ResponseWriter
	route   *route
	value   string // of the path's variable
	version int    // minor: 51 for 1.51
	query   url.Values
	// warnings are what the client is to be told of its request's body.
	warnings []string
}

// Param is a part of the path.
func (c *Ctx) Param(k string) string {
	if k != c.route.name {
		return ""
	}
	return c.value
}

// done is returned by handlers that wrote the whole answer themselves.
var done = errors.New("answered")

// Handler returns the server as an http.Handler.
func (s *Server) Handler() http.Handler {
	e := echo.New()
	e.HideBanner = true
	answer := func(c echo.Context) error {
		s.serve(c.Response().Writer, c.Request())
		return nil
	}
	e.Any("/*", answer)
	e.HTTPErrorHandler = func(_ error, c echo.Context) { _ = answer(c) } // a method that the framework does not know
	return e
}

func (s *Server) serve(rw http.ResponseWriter, r *http.Request) {
	w := &writer{ResponseWriter: rw}
	defer func() {
		if p := recover(); p != nil { // a panic costs one request
			s.panicked(w, r, p)
		}
	}()
	if err := listenerRules(r); err != nil {
		s.fail(w, r, err)
		return
	}
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") { // newer build clients speak to the socket itself
		s.Build.ServeHTTP(rw, r)
		return
	}
	if err := checkHead(r); err != nil {
		s.fail(w, r, err)
		return
	}
	if p := clean(r.URL.Path); p != r.URL.Path {
		// A name with a slash in front is served at once where a client that follows would lose its method and body.
		if r.Method == http.MethodGet || r.Method == http.MethodHead || clean(r.URL.EscapedPath()) != r.URL.EscapedPath() {
			u := url.URL{Path: p, RawQuery: r.URL.RawQuery}
			w.Header().Set("Location", u.String())
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		r.URL.Path = p
	}
	path, version, err := wire.SplitVersion(r.URL.Path, MinVersion, MaxVersion)
	rt, value := routed.match(r.Method, path)
	if r.Method == http.MethodOptions {
		rt = &route{success: http.StatusOK, handler: func(*Server, *Ctx) (any, error) { return nil, nil }, bare: true}
	}
	if rt == nil {
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "page not found"})
		return
	}
	h := w.Header()
	h.Set("Api-Version", MaxVersion)
	h.Set("Ostype", "linux")
	h.Set("Server", "Docker/"+s.Version+" (linux)")
	if err != nil {
		if wire.IsTooOld(err) { // of a time when errors were plain text
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.fail(w, r, err)
		return
	}
	h.Set("Docker-Experimental", strconv.FormatBool(s.Experimental))
	c := &Ctx{Request: r, w: w, route: rt, value: value, version: version}
	if err := c.prepare(); err != nil {
		s.fail(w, r, err)
		return
	}
	v, err := rt.handler(s, c)
	c.drain()
	switch {
	case errors.Is(err, done):
	case err != nil:
		s.fail(w, r, err)
	case v == nil:
		if rt.success == http.StatusOK {
			h.Set("Content-Length", "0")
		}
		w.WriteHeader(rt.success)
	default:
		writeJSON(w, rt.success, wire.Lower(version, v))
	}
}

// prepare checks what can be checked before a handler runs.
func (c *Ctx) prepare() error {
	rt := c.route
	if err := wire.CheckFloor(rt.method, rt.pattern, c.version, rt.min, rt.max); err != nil {
		return err
	}
	var err error
	if c.query, err = url.ParseQuery(c.URL.RawQuery); err != nil && !rt.bare {
		return wire.Invalid("%v", err)
	}
	if err := wire.CheckQuery(c.query); err != nil {
		return err
	}
	wire.RaiseQuery(c.version, rt.method+" "+rt.pattern, c.query)
	// Some clients send an empty object or null; nobody sends more.
	if rt.noBody && (c.ContentLength > 7 || c.ContentLength < 0) {
		return wire.Invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	switch rt.kind {
	case upload:
		_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/2 always is
	case hijacked:
		if c.ProtoMajor > 1 {
			return wire.Invalid("%s %s needs HTTP/1.1: it takes the connection over", rt.method, c.URL.Path)
		}
	}
	return nil
}

// panicked ends a request whose handler broke. What was begun is cut off, so that no client takes it for whole.
func (s *Server) panicked(w *writer, r *http.Request, p any) {
	aborted := p == http.ErrAbortHandler //nolint:errorlint // a panic's value, compared as net/http does
	if !aborted {
		s.Log.Error("panic in a handler", "method", r.Method, "path", r.URL.Path, "value", p, "stack", string(debug.Stack()))
	}
	switch {
	case w.conn != nil:
		_ = w.conn.Close() // half of an answer is none
	case w.wrote || aborted:
		panic(http.ErrAbortHandler)
	default:
		writeJSON(w, http.StatusInternalServerError, map[string]string{"message": "internal error"})
	}
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := status(err)
	switch {
	case code == http.StatusNotModified:
		w.WriteHeader(code)
		return
	case code == statusClientGone && r.Context().Err() != nil: // nobody reads an answer
		s.Log.Debug("the client left", "error", err)
		panic(http.ErrAbortHandler)
	case code == statusClientGone:
		code = http.StatusInternalServerError
		s.Log.Error("request failed", "error", err)
	case code >= 500 && !errdefs.IsNotImplemented(err) && !errdefs.IsUnavailable(err):
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

// decode reads a JSON body into v and raises it to the newest version's shape. An absent body is allowed if optional.
func (c *Ctx) decode(v any, optional bool) error {
	ct := c.Header.Get("Content-Type")
	if err := wire.CheckContentType(ct, c.ContentLength == 0); err != nil {
		return err
	}
	if c.ContentLength == 0 && optional {
		return nil
	}
	if c.ContentLength > wire.MaxBody {
		return wire.TooLarge()
	}
	if err := wire.Decode(http.MaxBytesReader(c.w, c.Body, wire.MaxBody), v); err != nil {
		if optional && errors.Is(err, io.EOF) {
			return wire.Invalid("invalid JSON: got EOF while reading request body")
		}
		return err
	}
	w, err := wire.Raise(c.version, v)
	c.warnings = append(c.warnings, w...)
	return err
}

// flag is a boolean query parameter.
func (c *Ctx) flag(k string) bool { return wire.Bool(c.query.Get(k)) }
