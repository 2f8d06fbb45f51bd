package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write index.json")

type swagger struct {
	Paths map[string]map[string]struct {
		ID         string   `yaml:"operationId"`
		Tags       []string `yaml:"tags"`
		Parameters []struct {
			Name     string `yaml:"name"`
			In       string `yaml:"in"`
			Required bool   `yaml:"required"`
			Type     any    `yaml:"type"`
			Enum     []any  `yaml:"enum"`
			Schema   any    `yaml:"schema"`
		} `yaml:"parameters"`
		Responses map[string]struct {
			Schema any `yaml:"schema"`
		} `yaml:"responses"`
	} `yaml:"paths"`
	Definitions map[string]any `yaml:"definitions"`
}

// TestIndexIsUpToDate makes the index anew from the specifications that come with the API types.
func TestIndexIsUpToDate(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/docker/docker").Output()
	if err != nil {
		t.Fatal(err)
	}
	module := strings.TrimSpace(string(dir))
	x := index{Definitions: map[string][]entry[Schema]{}, Operations: map[string][]entry[Operation]{}}
	for n := 25; n <= 51; n++ {
		v := fmt.Sprintf("1.%d", n)
		file := filepath.Join(module, "docs", "api", "v"+v+".yaml")
		if n == 51 {
			file = filepath.Join(module, "api", "swagger.yaml")
		}
		x.add(t, v, file)
	}
	got := x.write(t)
	if *update {
		if err := os.WriteFile("index.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got, indexJSON) {
		t.Error("index.json is not what the specifications say; go test ./conformance/spec -update")
	}
}

func (x *index) add(t *testing.T, v, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s swagger
	if err := yaml.Unmarshal(raw, &s); err != nil {
		t.Fatal(file, err)
	}
	x.Versions = append(x.Versions, v)
	now := map[string]*Schema{}
	for name, d := range s.Definitions {
		now[name] = schema(t, d)
	}
	put(x.Definitions, v, now)
	ops := map[string]*Operation{}
	for path, methods := range s.Paths {
		for method, m := range methods {
			o := &Operation{ID: m.ID, Tag: strings.Join(m.Tags, ","), Method: strings.ToUpper(method), Path: path, Responses: map[string]*Schema{}}
			for _, p := range m.Parameters {
				q := Param{Name: p.Name, In: p.In, Required: p.Required}
				if p.Schema != nil {
					q.Schema = schema(t, p.Schema)
				} else {
					q.Schema = schema(t, map[string]any{"type": p.Type, "enum": p.Enum})
				}
				o.Params = append(o.Params, q)
			}
			for status, r := range m.Responses {
				o.Responses[status] = nil
				if r.Schema != nil {
					o.Responses[status] = schema(t, r.Schema)
				}
			}
			ops[o.Method+" "+path] = o
		}
	}
	put(x.Operations, v, ops)
}

// put notes what changed with v.
func put[T any](all map[string][]entry[T], v string, now map[string]*T) {
	for name := range all {
		if now[name] == nil {
			now[name] = nil
		}
	}
	for name, is := range now {
		es := all[name]
		if len(es) > 0 && same(es[len(es)-1].Is, is) {
			continue
		}
		all[name] = append(es, entry[T]{v, is})
	}
}

func same[T any](a, b *T) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// schema keeps what checks need.
func schema(t *testing.T, x any) *Schema {
	t.Helper()
	b, err := json.Marshal(plain(x))
	if err != nil {
		t.Fatal(err)
	}
	s := &Schema{}
	if err := json.Unmarshal(b, s); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return s
}

// plain turns what the specification writes carelessly into what it means.
func plain(x any) any {
	m, ok := x.(map[string]any)
	if !ok {
		return x
	}
	out := map[string]any{}
	for k, v := range m {
		switch k {
		case "properties":
			ps := map[string]any{}
			for n, p := range v.(map[string]any) {
				ps[n] = plain(p)
			}
			out[k] = ps
		case "items":
			out[k] = plain(v)
		case "additionalProperties":
			if _, boolean := v.(bool); !boolean {
				out[k] = plain(v)
			}
		case "allOf":
			var all []any
			for _, p := range v.([]any) {
				all = append(all, plain(p))
			}
			out[k] = all
		case "$ref", "type", "required", "enum", "x-nullable", "format":
			if k == "required" {
				if _, list := v.([]any); !list {
					continue
				}
			}
			out[k] = v
		}
	}
	return out
}

// write has one line for each thing, so that differences can be read.
func (x *index) write(t *testing.T) []byte {
	var b bytes.Buffer
	line := func(v any) string {
		s, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(s)
	}
	fmt.Fprintf(&b, "{\"versions\":%s,\n\"definitions\":{\n%s},\n\"operations\":{\n%s}}\n", line(x.Versions), lines(x.Definitions, line), lines(x.Operations, line))
	return b.Bytes()
}

func lines[T any](m map[string][]entry[T], line func(any) string) string {
	var out []string
	for name, es := range m {
		var parts []string
		for _, e := range es {
			parts = append(parts, line(e))
		}
		out = append(out, line(name)+":["+strings.Join(parts, ",\n ")+"]")
	}
	slices.Sort(out)
	return strings.Join(out, ",\n") + "\n"
}
