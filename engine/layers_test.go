package engine

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/berthd/berth/"

// floors is the plan: a package imports lower floors only, or its own sub-packages.
var floors = map[string]int{
	"engine/internal/errkind": -2, "engine/internal/fsx": -1, "engine/internal/ids": 0, // store is built on fsx, rootdir on errkind
	"engine/internal/store": 0, "engine/internal/rootdir": 0, "engine/internal/host": 0,
	"engine/event": 1, "engine/logs": 1, "engine/logs/drivers": 1,
	"engine/image/registry": 2, "engine/network/firewall": 2, "engine/image": 2, "engine/network": 2, "engine/volume": 2, "engine/shim": 2,
	"engine/shim/internal/proc": 1, "engine/shim/libct": 2, "engine/shim/fastinit": 2, "engine/shim/ocicli": 2, "engine/shim/server": 2,
	"engine/network/bridge": 2, "engine/network/dns": 2,
	"engine/container": 3, "engine/build": 3, "engine/oci": 4, "engine/build/buildkit": 4, "engine": 5,
	"compat/wire": 6, "compat/stream": 6, "compat": 6,
	"engine/enginetest": 8, "engine/crashtest": 9, // for tests alone
}

// only says who may import a library; the reason stands in the architecture.
var only = map[string][]string{
	"github.com/docker/docker/api/types":     {"compat", "conformance"},
	"github.com/labstack/echo/v4":            {"compat"},
	"github.com/opencontainers/runc":         {"engine/shim/libct", "engine/shim/fastinit"}, // fastinit: for its reading of a specification
	"go.etcd.io/bbolt":                       {"engine/internal/store", "engine/image", "engine/enginetest", "engine/build/buildkit"},
	"github.com/google/go-containerregistry": {"engine/image/registry"},
	"github.com/google/nftables":             {"engine/network/firewall"},
	"github.com/containerd/containerd/v2":    {"engine/image", "engine/build/buildkit"},
	"github.com/moby/buildkit":               {"engine/build/buildkit"},
	"github.com/docker/docker/daemon":        {},
	"github.com/moby/moby":                   {},
}

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", "-tags", "seccomp", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var ps []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		ps = append(ps, p)
	}
	return ps
}

func TestFloors(t *testing.T) {
	for _, p := range packages(t) {
		mine, known := floors[p.ImportPath]
		if !known && (strings.HasPrefix(p.ImportPath, "engine") || strings.HasPrefix(p.ImportPath, "compat")) {
			t.Errorf("%s has no floor", p.ImportPath)
		}
		for _, i := range p.Imports {
			for lib, who := range only {
				if (i == lib || strings.HasPrefix(i, lib+"/")) && !within(p.ImportPath, who) {
					t.Errorf("%s must not import %s", p.ImportPath, i)
				}
			}
			dep, inside := strings.CutPrefix(i, module)
			if !inside || !known {
				continue
			}
			related := strings.HasPrefix(dep, p.ImportPath+"/") || strings.HasPrefix(p.ImportPath, parentOf(dep)+"/")
			if theirs := floors[dep]; theirs >= mine && !related {
				t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, mine, dep, theirs)
			}
			if strings.HasPrefix(p.ImportPath, "engine") && strings.HasPrefix(dep, "compat") {
				t.Errorf("%s imports %s", p.ImportPath, dep)
			}
		}
	}
}

// parentOf is the package that a backend of the shim belongs to; other packages stand for themselves.
func parentOf(dep string) string {
	for _, b := range []string{"/libct", "/fastinit", "/ocicli"} {
		dep, _, _ = strings.Cut(dep, b)
	}
	return dep
}

func within(p string, who []string) bool {
	for _, w := range who {
		if p == w || strings.HasPrefix(p, w+"/") {
			return true
		}
	}
	return false
}

func TestPackagesHaveAComment(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
