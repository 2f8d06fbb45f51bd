package registry

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestSameSite(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"registry-1.docker.io", "auth.docker.io", true}, {"reg.example.com:5000", "auth.example.com", true}, {"example.com", "example.org", false},
		{"a.co.uk", "b.co.uk", false}, {"127.0.0.1:5000", "127.0.0.1:5001", true}, {"127.0.0.1:5000", "127.0.0.2", false}, {"a.github.io", "b.github.io", false},
		{"localhost:1", "localhost:2", true}, {"[::1]:5000", "[::1]:6000", true}, {"10.0.0.1", "1.10.0.0.1", false},
	} {
		if got := sameSite(tc.a, tc.b); got != tc.want {
			t.Errorf("%s %s: %v", tc.a, tc.b, got)
		}
	}
}

func TestInsecure(t *testing.T) {
	c, err := New(Config{Insecure: []string{"reg.example:5000", "10.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"reg.example:5000": true, "reg.example": false, "10.1.2.3:5000": true, "192.168.0.1:5000": false, "127.0.0.1": true, "localhost:80": true, "[::1]:5000": true, "docker.io": false,
	} {
		if c.insecure(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}

func TestMirrors(t *testing.T) {
	for s, want := range map[string]string{
		"https://m.example": "", "http://m.example:5000/": "", "m.example": "not a valid URI", "ftp://m": "unsupported scheme", "https://m/x": "path, query, or fragment", "https://m?q": "query or fragment",
		"https://u:p@m": "username/password not allowed",
	} {
		_, err := New(Config{Mirrors: []string{s}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || strings.Contains(errText(err), ":p@") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestKind(t *testing.T) {
	const oci, list = "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"
	for name, tc := range map[string]struct{ header, doc, want string }{
		"agree":                    {oci, `{"mediaType":"` + oci + `","config":{},"layers":[]}`, oci},
		"header alone":             {oci + "; charset=utf-8", `{"config":{},"layers":[]}`, oci},
		"document alone":           {"application/json", `{"mediaType":"` + list + `","manifests":[]}`, list},
		"neither":                  {"text/plain", `{"manifests":[]}`, "application/vnd.oci.image.index.v1+json"},
		"disagree":                 {list, `{"mediaType":"` + oci + `","config":{},"layers":[]}`, ""},
		"both":                     {oci, `{"layers":[],"manifests":[]}`, ""},
		"index called manifest":    {oci, `{"manifests":[]}`, ""},
		"manifest called an index": {list, `{"layers":[],"config":{}}`, ""},
		"schema 1":                 {"application/json", `{"schemaVersion":1,"fsLayers":[]}`, ""},
		"something else":           {"x/y", `{"mediaType":"x/y","layers":[]}`, ""},
		"no json":                  {oci, `<html>`, ""},
	} {
		got, err := kind(tc.header, []byte(tc.doc))
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

func FuzzKind(f *testing.F) {
	f.Add("application/json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add("", []byte(`{"layers":null,"manifests":{}}`))
	f.Fuzz(func(t *testing.T, header string, doc []byte) {
		s, err := kind(header, doc)
		if err == nil && strings.Contains(s, "index") && strings.Contains(string(doc), `"layers":[`) && !strings.Contains(string(doc), `"manifests"`) {
			t.Errorf("%q taken for %s", doc, s)
		}
	})
}

// Plain http is not spoken to a host that nobody listed, not even when a listed one sends there.
func TestHTTPIsRefused(t *testing.T) {
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{c: c, inner: http.DefaultTransport, host: "reg.example"}
	for _, u := range []string{"http://reg.example/v2/", "http://192.168.1.1/"} {
		req, err := http.NewRequest(http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", u, err)
		}
	}
	from, _ := url.Parse("https://reg.example/x")
	to, _ := url.Parse("http://127.0.0.1/x")
	if err := redirects(&http.Request{URL: to}, []*http.Request{{URL: from}}); err == nil {
		t.Error("from https to http")
	}
}

func TestCertificates(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	dir := t.TempDir()
	host := "reg.example:5000"
	if err := os.Mkdir(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if c, err := tlsConfig(dir, host); err != nil || c.RootCAs != nil || c.MinVersion != tls.VersionTLS12 {
		t.Errorf("%+v %v", c, err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "a.crt"), []byte("no certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tlsConfig(dir, host); err == nil {
		t.Error("taken")
	}
	if err := os.Rename(filepath.Join(dir, host, "a.crt"), filepath.Join(dir, host, "a.cert")); err != nil {
		t.Fatal(err)
	}
	if _, err := tlsConfig(dir, host); err == nil || !strings.Contains(err.Error(), "missing key a.key for client certificate a.cert") {
		t.Error(err)
	}
	if _, err := tlsConfig(dir, "../x"); err != nil {
		t.Error(err)
	}
}

func TestTagsOfManyPages(t *testing.T) {
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.URL.Query().Get("last") == "":
			w.Header().Set("Link", `</v2/x/tags/list?last=b&n=2>; rel="next"`)
			_, _ = w.Write([]byte(`{"tags":["a","b"]}`))
		default:
			_, _ = w.Write([]byte(`{"tags":["c"]}`))
		}
	}))
	defer srv.Close()
	c, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.ParseNormalizedNamed(strings.TrimPrefix(srv.URL, "http://") + "/x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Open(ref, Credentials{}).Tags(t.Context())
	if err != nil || strings.Join(got, "") != "abc" {
		t.Errorf("%q %v", got, err)
	}
}

func TestRetryable(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{&StatusError{Code: 404}, false}, {&StatusError{Code: 429}, true}, {&StatusError{Code: 502}, true}, {errors.New("x"), false}, {ErrStalled, true}, {ErrNoCredentials, false},
	} {
		if _, got := Retryable(tc.err); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}
