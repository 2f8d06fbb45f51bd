package conformance

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/berthd/berth/conformance/spec"
)

// watch sees every exchange of a run: it holds answers against the specification of the version that was spoken, and notes
// what of each operation was used.
type watch struct {
	mu       sync.Mutex
	versions map[string]*spec.Version
	allowed  spec.Deviations
	used     map[string]*Coverage // by operation
}

// Coverage is what a run used of one operation.
type Coverage struct {
	Parameters map[string]bool `json:"parameters"`
	Statuses   map[string]bool `json:"statuses"`
	Fields     map[string]bool `json:"fields"` // status and path
}

func newWatch() (*watch, error) {
	allowed, err := spec.ReadDeviations()
	return &watch{versions: map[string]*spec.Version{}, used: map[string]*Coverage{}, allowed: allowed}, err
}

// at is the specification of a version, read once.
func (w *watch) at(version string) (*spec.Version, error) {
	if v := w.versions[version]; v != nil {
		return v, nil
	}
	v, err := spec.At(version)
	if err == nil {
		w.versions[version] = v
	}
	return v, err
}

// see looks at an exchange; target is the path as it was sent. It returns what is not as specified.
func (w *watch) see(method, target string, a *Answer) []spec.Finding {
	u, err := url.Parse(target)
	if err != nil {
		return nil
	}
	version, path := "1.51", u.Path
	if p := versioned.FindString(u.Path); p != "" {
		version, path = strings.TrimPrefix(p, "/v"), u.Path[len(p):]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.at(version)
	if err != nil {
		return []spec.Finding{{Path: target, Kind: "index", Detail: err.Error()}}
	}
	op := v.Find(method, path)
	if op == nil {
		return nil
	}
	c := w.used[op.ID]
	if c == nil {
		c = &Coverage{map[string]bool{}, map[string]bool{}, map[string]bool{}}
		w.used[op.ID] = c
	}
	for _, p := range op.Params {
		if p.In == "path" || p.In == "body" || u.Query().Has(p.Name) {
			c.Parameters[p.Name] = true
		}
	}
	status := fmt.Sprint(a.Status)
	c.Statuses[status] = true
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		return nil
	}
	got := v.Check(op, a.Status, a.Body)
	for _, f := range got.Fields {
		c.Fields[status+" "+f] = true
	}
	return slices.DeleteFunc(got.Findings, w.allowed.Cover)
}

// coverage is a copy of what was used.
func (w *watch) coverage() map[string]*Coverage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.used)
}
