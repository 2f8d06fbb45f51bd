package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestEveryOperationOfTheSpecification walks the specification that comes with the API types: each operation has a route,
// and no route is there that the specification does not know.
func TestEveryOperationOfTheSpecification(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/docker/docker").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "api", "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	vars := regexp.MustCompile(`\{\w+(\.\.\.)?\}`)
	known := map[string]bool{}
	for p, ops := range spec.Paths {
		for m := range ops {
			op := strings.ToUpper(m) + " " + p
			known[vars.ReplaceAllString(op, "{}")] = true
			rt, _ := match(strings.ToUpper(m), vars.ReplaceAllString(p, "x"))
			if rt == nil {
				t.Errorf("no route for %s", op)
			}
		}
	}
	if len(known) != 107 {
		t.Errorf("the specification has %d operations", len(known))
	}
	for _, r := range routes {
		op := r.method + " " + vars.ReplaceAllString(r.pattern, "{}")
		if !known[op] && op != "POST /grpc" && op != "POST /build/cancel" {
			t.Errorf("route %s is not in the specification", op)
		}
	}
}

func TestNamesWithSlashes(t *testing.T) {
	for path, want := range map[string]string{
		"/images/a/b/c/json": "a/b/c", "/images/reg:5000/x@sha256:ab/json": "reg:5000/x@sha256:ab", "/images/foo/json/json": "foo/json",
	} {
		rt, vars := match("GET", path)
		if rt == nil || vars["name"] != want {
			t.Errorf("%s: %v", path, vars)
		}
	}
}
