package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var vars = regexp.MustCompile(`\{\w+(\.\.\.)?\}`)

// specification reads the operations and their response codes from the specification that comes with the API types.
func specification(t *testing.T) map[string][]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/docker/docker").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "api", "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Paths map[string]map[string]struct {
			Responses map[string]yaml.Node `yaml:"responses"`
		} `yaml:"paths"`
	}
	if err := yaml.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for p, ops := range spec.Paths {
		for m, op := range ops {
			for code := range op.Responses {
				k := strings.ToUpper(m) + " " + p
				out[k] = append(out[k], code)
			}
		}
	}
	return out
}

// TestEveryOperationOfTheSpecification: each operation has one route, served with a status of the specification or listed as not
// yet, and no route is there that the specification does not know.
func TestEveryOperationOfTheSpecification(t *testing.T) {
	spec := specification(t)
	if len(spec) != 107 {
		t.Errorf("the specification has %d operations", len(spec))
	}
	pending := slices.Concat(notYet, noPlugin, noSwarm)
	known := map[string]bool{"POST /grpc": true, "POST /build/cancel": true, "GET /networks/": true} // dockerd has them, the specification does not
	for op, codes := range spec {
		key := vars.ReplaceAllString(op, "{}")
		known[key] = true
		m, p, _ := strings.Cut(op, " ")
		rt, _ := routed.match(m, vars.ReplaceAllString(p, "x"))
		if rt == nil || rt.method+" "+vars.ReplaceAllString(rt.pattern, "{}") != key {
			t.Errorf("no route for %s, or another's: %+v", op, rt)
			continue
		}
		if !slices.Contains(pending, rt.method+" "+rt.pattern) && !slices.Contains(codes, strconv.Itoa(rt.success)) {
			t.Errorf("%s answers %d; the specification knows %v", op, rt.success, codes)
		}
	}
	seen := map[string]bool{}
	for _, r := range routes {
		key := r.method + " " + vars.ReplaceAllString(r.pattern, "{}")
		if !known[key] || seen[key] {
			t.Errorf("route %s is not in the specification, or there twice", key)
		}
		seen[key] = true
	}
	for op := range floors {
		if !slices.Contains(pending, op) {
			t.Errorf("%s is served: its floor belongs into its route", op)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct{ method, path, pattern, value string }{
		{"GET", "/images/a/b/c/json", "/images/{name...}/json", "a/b/c"},
		{"GET", "/images/reg:5000/x@sha256:ab/json", "/images/{name...}/json", "reg:5000/x@sha256:ab"},
		{"GET", "/images/foo/json/json", "/images/{name...}/json", "foo/json"},
		{"GET", "/images/json", "/images/json", ""},
		{"GET", "/images/get/get", "/images/{name...}/get", "get"},
		{"GET", "/images/json/json", "/images/{name...}/json", "json"},
		{"GET", "/containers/a/b/json", "/containers/{id...}/json", "a/b"},
		{"POST", "/containers//a/start", "/containers/{id...}/start", "a"},
		{"DELETE", "/containers/nope/", "/containers/{id...}", "nope/"},
		{"GET", "/containers/json/", "", ""},
		{"GET", "/networks/", "/networks/", ""},
		{"GET", "/services/x/logs", "/services/{id}/logs", "x"},
		{"GET", "/services/x/y", "", ""},
		{"HEAD", "/info", "", ""},
		{"PATCH", "/containers/json", "", ""},
		{"GET", "/images//json", "", ""},
		{"GET", "", "", ""},
	} {
		rt, v := routed.match(tc.method, tc.path)
		got := ""
		if rt != nil {
			got = rt.pattern
		}
		if got != tc.pattern || v != tc.value {
			t.Errorf("%s %s: %q %q, want %q %q", tc.method, tc.path, got, v, tc.pattern, tc.value)
		}
	}
}

// FuzzMatch: whatever the path, a route that is found spells it.
func FuzzMatch(f *testing.F) {
	for _, p := range []string{"/images/a/b/json", "//x", "/containers/%2F/json", "/", "/v1.41/info", "/images/../x/json", "/networks/"} {
		f.Add("GET", p)
		f.Add("POST", p)
	}
	f.Fuzz(func(t *testing.T, method, p string) {
		c := clean(p)
		if clean(c) != c {
			t.Fatalf("clean(%q) = %q is not clean", p, c)
		}
		rt, v := routed.match(method, c)
		if rt == nil {
			return
		}
		if spelt := vars.ReplaceAllLiteralString(rt.pattern, v); rt.method != method || spelt != c {
			t.Fatalf("%q matched %q with %q", c, rt.pattern, v)
		}
	})
}
