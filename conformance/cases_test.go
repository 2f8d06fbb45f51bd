package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// operations is every operationId of the specification that comes with the API types.
func operations(t *testing.T) map[string]bool {
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
			ID string `yaml:"operationId"`
		} `yaml:"paths"`
	}
	if err := yaml.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, ops := range spec.Paths {
		for _, op := range ops {
			ids[op.ID] = true
		}
	}
	return ids
}

func TestCasesNameOperationsOfTheSpecification(t *testing.T) {
	known, names := operations(t), map[string]bool{}
	if len(known) != 107 {
		t.Fatalf("the specification has %d operations", len(known))
	}
	for _, k := range Cases() {
		if names[k.Name] {
			t.Errorf("two cases are named %q", k.Name)
		}
		names[k.Name] = true
		if len(k.Ops) == 0 || k.Run == nil {
			t.Errorf("%s: names no operation or does nothing", k.Name)
		}
		for _, op := range k.Ops {
			if !known[op] {
				t.Errorf("%s: there is no operation %s", k.Name, op)
			}
		}
		if k.MinAPI != "" && (minor(k.MinAPI) < 24 || minor(k.MinAPI) > 60) {
			t.Errorf("%s: API version %q", k.Name, k.MinAPI)
		}
	}
}
