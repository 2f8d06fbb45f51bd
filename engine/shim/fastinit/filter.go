//go:build cgo && linux

package fastinit

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// errUncovered says that libcontainer has to do it.
var errUncovered = errors.New("not covered")

// program is a compiled seccomp filter: what seccomp(2) takes.
type program struct {
	flags uint32
	code  []byte
}

// Filter is the seccomp profile of a container, compiled when it is first needed and shared with every other container that
// has the same one. Safe for concurrent use.
type Filter struct {
	raw  json.RawMessage // "" = no profile
	once sync.Once
	p    *program
	err  error
}

var filters struct {
	sync.Mutex
	byHash map[[32]byte]*Filter
}

// maxFilters bounds the cache; profiles of users come and go.
const maxFilters = 64

// NewFilter finds or makes the filter of a profile in its JSON form (linux.seccomp of the OCI specification).
func NewFilter(raw json.RawMessage) *Filter {
	if len(raw) == 0 || string(raw) == "null" {
		return &Filter{}
	}
	h := sha256.Sum256(raw)
	filters.Lock()
	defer filters.Unlock()
	if f := filters.byHash[h]; f != nil {
		return f
	}
	if len(filters.byHash) >= maxFilters || filters.byHash == nil {
		filters.byHash = map[[32]byte]*Filter{}
	}
	f := &Filter{raw: raw}
	filters.byHash[h] = f
	return f
}

// program is nil for a container without a filter.
func (f *Filter) program() (*program, error) {
	f.once.Do(func() {
		if f.raw == nil {
			return
		}
		var s specs.LinuxSeccomp
		if f.err = json.Unmarshal(f.raw, &s); f.err != nil {
			return
		}
		f.raw = nil // nobody asks again
		if s.ListenerPath != "" {
			f.err = errUncovered
			return
		}
		f.p, f.err = compile(&s)
	})
	return f.p, f.err
}
