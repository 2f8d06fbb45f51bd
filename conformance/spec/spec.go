package spec

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed index.json
var indexJSON []byte

// Schema is the part of a JSON schema that the specification uses.
type Schema struct {
	Ref        string             `json:"$ref,omitempty"`
	Type       Types              `json:"type,omitempty"`
	Properties map[string]*Schema `json:"properties,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Enum       []any              `json:"enum,omitempty"`
	Items      *Schema            `json:"items,omitempty"`
	AllOf      []*Schema          `json:"allOf,omitempty"`
	Additional *Schema            `json:"additionalProperties,omitempty"`
	Nullable   bool               `json:"x-nullable,omitempty"`
	Format     string             `json:"format,omitempty"`
}

// Types is one type or several; the specification writes both.
type Types []string

// UnmarshalJSON takes a string or a list.
func (t *Types) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = Types{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// Param is a parameter of an operation.
type Param struct {
	Name     string  `json:"name"`
	In       string  `json:"in"` // path, query, header or body
	Required bool    `json:"required,omitempty"`
	Schema   *Schema `json:"schema,omitempty"`
}

// Operation is one method of one path.
type Operation struct {
	ID        string             `json:"id"`
	Tag       string             `json:"tag"`
	Method    string             `json:"method"`
	Path      string             `json:"path"`
	Params    []Param            `json:"params,omitempty"`
	Responses map[string]*Schema `json:"responses"` // by status; null where there is no body

	match   *regexp.Regexp
	literal int // characters of the path that are no variable
}

// entry is one thing and the version from which on it is so; a nil value means that it is gone.
type entry[T any] struct {
	Since string `json:"since"`
	Is    *T     `json:"is"`
}

type index struct {
	Versions    []string                      `json:"versions"` // oldest first
	Definitions map[string][]entry[Schema]    `json:"definitions"`
	Operations  map[string][]entry[Operation] `json:"operations"` // by method and path
}

// Version is the specification at one API version.
type Version struct {
	Name        string
	Operations  []*Operation // by tag and id
	definitions map[string]*Schema
}

// At is the specification of a version; one that is too new or too old gives the nearest there is.
func At(version string) (*Version, error) {
	var x index
	if err := json.Unmarshal(indexJSON, &x); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	at := 0
	for i, v := range x.Versions {
		if minor(v) <= minor(version) {
			at = i
		}
	}
	v := &Version{Name: x.Versions[at], definitions: map[string]*Schema{}}
	for name, es := range x.Definitions {
		if s := pick(es, v.Name); s != nil {
			v.definitions[name] = s
		}
	}
	for _, es := range x.Operations {
		if op := pick(es, v.Name); op != nil {
			op.compile()
			v.Operations = append(v.Operations, op)
		}
	}
	slices.SortFunc(v.Operations, func(a, b *Operation) int { return strings.Compare(a.Tag+" "+a.ID, b.Tag+" "+b.ID) })
	return v, nil
}

func pick[T any](es []entry[T], version string) *T {
	var is *T
	for _, e := range es {
		if minor(e.Since) <= minor(version) {
			is = e.Is
		}
	}
	return is
}

func minor(v string) int {
	n := 0
	_, _ = fmt.Sscanf(v, "1.%d", &n) // zero for what is no version
	return n
}

var variable = regexp.MustCompile(`\\\{\w+\\\}`)

// compile makes the pattern; names of images and plugins hold slashes.
func (o *Operation) compile() {
	q := regexp.QuoteMeta(o.Path)
	o.literal = len(variable.ReplaceAllString(q, ""))
	one := `[^/]+`
	if strings.HasPrefix(o.Path, "/images/") || strings.HasPrefix(o.Path, "/plugins/") || strings.HasPrefix(o.Path, "/distribution/") {
		one = `.+`
	}
	o.match = regexp.MustCompile(`^` + variable.ReplaceAllString(q, one) + `$`)
}

// Find is the operation of a request; path is without version and query. Nil if there is none.
func (v *Version) Find(method, path string) *Operation {
	var best *Operation
	for _, o := range v.Operations {
		if o.Method == method && o.match.MatchString(path) && (best == nil || o.literal > best.literal) {
			best = o
		}
	}
	return best
}

// Operation is the one with the id, or nil.
func (v *Version) Operation(id string) *Operation {
	for _, o := range v.Operations {
		if o.ID == id {
			return o
		}
	}
	return nil
}
