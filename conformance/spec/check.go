package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Finding is one place where an answer is not what the specification says.
type Finding struct {
	Operation string `json:"operation"`
	Status    int    `json:"status"`
	Path      string `json:"path"` // as ".HostConfig.Binds[]", "{}" for a free key
	Kind      Kind   `json:"kind"`
	Detail    string `json:"detail"`
}

// Kind of a finding.
type Kind string

// The kinds.
const (
	Status  Kind = "status"  // the operation has no such status
	Type    Kind = "type"    // another JSON type
	Null    Kind = "null"    // null where the specification has none
	Missing Kind = "missing" // a required field is not there
	Unknown Kind = "unknown" // a field that the specification does not have
	Enum    Kind = "enum"    // none of the listed values
)

// String is the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s %d %s: %s: %s", f.Operation, f.Status, f.Path, f.Kind, f.Detail)
}

// Checked is what a check saw.
type Checked struct {
	Findings []Finding
	Fields   []string // every field of the schema that the body had, as paths
}

// Check holds the JSON documents of a body against the operation's schema for the status.
func (v *Version) Check(o *Operation, status int, body []byte) Checked {
	c := checker{v: v, op: o.ID, status: status, seen: map[string]bool{}}
	s, known := o.Responses[strconv.Itoa(status)]
	if !known {
		c.find("", Status, "not in the specification")
		if s = v.definitions["ErrorResponse"]; status < 400 {
			return c.Checked
		}
	}
	// A body that is no JSON has no schema that could be checked; "binary" strings are such bodies.
	if s == nil || slices.Contains(s.Type, "string") {
		return c.Checked
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	for {
		var x any
		if err := d.Decode(&x); err == io.EOF {
			break
		} else if err != nil {
			c.find("", Type, "no JSON: "+err.Error())
			break
		}
		c.value("", s, x)
	}
	for f := range c.seen {
		c.Fields = append(c.Fields, f)
	}
	slices.Sort(c.Fields)
	return c.Checked
}

// FieldPaths is every field that an answer with the status can have.
func (v *Version) FieldPaths(o *Operation, status string) []string {
	var out []string
	v.walk("", o.Responses[status], 0, func(p string) { out = append(out, p) })
	slices.Sort(out)
	return slices.Compact(out)
}

func (v *Version) walk(path string, s *Schema, depth int, f func(string)) {
	s = v.resolve(s)
	if s == nil || depth > 8 {
		return
	}
	props, free := v.object(s)
	for name, p := range props {
		f(path + "." + name)
		v.walk(path+"."+name, p, depth+1, f)
	}
	if free != nil {
		v.walk(path+".{}", free, depth+1, f)
	}
	if s.Items != nil {
		v.walk(path+"[]", s.Items, depth+1, f)
	}
}

type checker struct {
	Checked
	v      *Version
	op     string
	status int
	seen   map[string]bool
}

func (c *checker) find(path string, k Kind, detail string) {
	c.Findings = append(c.Findings, Finding{c.op, c.status, path, k, detail})
}

func (v *Version) resolve(s *Schema) *Schema {
	for s != nil && s.Ref != "" {
		s = v.definitions[strings.TrimPrefix(s.Ref, "#/definitions/")]
	}
	return s
}

// object is the fields of s, those of the schemas it is made of included, and the schema of free keys.
func (v *Version) object(s *Schema) (props map[string]*Schema, free *Schema) {
	s = v.resolve(s)
	if s == nil {
		return nil, nil
	}
	props = map[string]*Schema{}
	free = s.Additional
	for _, part := range s.AllOf {
		ps, f := v.object(part)
		for n, p := range ps {
			props[n] = p
		}
		if f != nil {
			free = f
		}
	}
	for n, p := range s.Properties {
		props[n] = p
	}
	return props, free
}

func (v *Version) required(s *Schema) []string {
	if s = v.resolve(s); s == nil {
		return nil
	}
	out := slices.Clone(s.Required)
	for _, part := range s.AllOf {
		out = append(out, v.required(part)...)
	}
	return out
}

func (c *checker) value(path string, s *Schema, x any) {
	nullable := s != nil && s.Nullable
	if s = c.v.resolve(s); s == nil {
		return
	}
	types := s.Type
	if len(types) == 0 && (len(s.Properties) > 0 || len(s.AllOf) > 0) {
		types = Types{"object"}
	}
	if x == nil {
		if len(types) > 0 && !nullable && !s.Nullable && !slices.Contains(types, "null") {
			c.find(path, Null, "null for "+strings.Join(types, " or "))
		}
		return
	}
	if len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return is(t, x) }) {
		c.find(path, Type, fmt.Sprintf("%s for %s", short(x), strings.Join(types, " or ")))
		return
	}
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(e any) bool { return fmt.Sprint(e) == fmt.Sprint(x) }) {
		c.find(path, Enum, short(x)+" is none of the values listed")
	}
	switch x := x.(type) {
	case map[string]any:
		c.fields(path, s, x)
	case []any:
		for _, e := range x {
			c.value(path+"[]", s.Items, e)
		}
	}
}

func (c *checker) fields(path string, s *Schema, x map[string]any) {
	props, free := c.v.object(s)
	for _, name := range c.v.required(s) {
		if _, there := x[name]; !there {
			c.find(path+"."+name, Missing, "required")
		}
	}
	for name, val := range x {
		p, known := props[name]
		switch {
		case known:
			c.seen[path+"."+name] = true
			c.value(path+"."+name, p, val)
		case free != nil:
			c.value(path+".{}", free, val)
		case len(props) > 0:
			c.find(path+"."+name, Unknown, short(val))
		}
	}
}

// is tells whether x is of a JSON type; whole numbers are numbers too.
func is(t string, x any) bool {
	switch x := x.(type) {
	case map[string]any:
		return t == "object"
	case []any:
		return t == "array"
	case string:
		return t == "string"
	case bool:
		return t == "boolean"
	case json.Number:
		return t == "number" || t == "integer" && !strings.ContainsAny(x.String(), ".eE")
	}
	return false
}

func short(x any) string {
	b, err := json.Marshal(x)
	if err != nil {
		return "?"
	}
	if len(b) > 60 {
		return string(b[:60]) + "…"
	}
	return string(b)
}
