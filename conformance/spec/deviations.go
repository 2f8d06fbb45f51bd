package spec

import (
	_ "embed"
	"fmt"
	"path"
	"strings"
)

//go:embed deviations.txt
var deviationsText string

// Deviations are places where every dockerd differs from the specification: what is wrong there is the specification.
type Deviations []deviation

type deviation struct{ operation, status, path, kind string }

// ReadDeviations reads the list that comes with the package: operation, status, path and kind in columns, * for any, then the
// reason.
func ReadDeviations() (Deviations, error) {
	var ds Deviations
	for i, line := range strings.Split(deviationsText, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 5 {
			return nil, fmt.Errorf("deviations.txt line %d: operation, status, path, kind, reason", i+1)
		}
		ds = append(ds, deviation{f[0], f[1], f[2], f[3]})
	}
	return ds, nil
}

// Cover tells whether f is a listed deviation.
func (ds Deviations) Cover(f Finding) bool {
	for _, d := range ds {
		if like(d.operation, f.Operation) && like(d.status, fmt.Sprint(f.Status)) && like(d.path, f.Path) && like(d.kind, string(f.Kind)) {
			return true
		}
	}
	return false
}

// like matches with * for any characters; brackets of a path mean themselves.
func like(pattern, s string) bool {
	pattern = strings.ReplaceAll(pattern, "[", `\[`)
	ok, err := path.Match(pattern, strings.ReplaceAll(s, "/", "|"))
	return err == nil && ok || pattern == "-" && s == ""
}
