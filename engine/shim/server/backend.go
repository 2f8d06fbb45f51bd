//go:build cgo && linux

package server

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/fastinit"
	"github.com/berthd/berth/engine/shim/internal/proc"
	"github.com/berthd/berth/engine/shim/libct"
	"github.com/berthd/berth/engine/shim/ocicli"
)

// runner is a process that a backend started.
type runner interface {
	Pid() int
	Wait() (syscall.WaitStatus, error) // reaps; once
	Signal(sig syscall.Signal) error
}

// container is a container of either backend; its own process is init.
type container interface {
	runner
	Start() error
	Pause() error
	Resume() error
	Pids() ([]int, error)
	Update(r *specs.LinuxResources) error
	OOMKilled() bool
	Groups() map[string]string
	Destroy() error
}

var (
	_ container = (*fastinit.Container)(nil)
	_ container = (*libct.Container)(nil)
	_ runner    = (*fastinit.Process)(nil)
	_ runner    = (*libct.Process)(nil)
	_ container = (*ocicli.Container)(nil)
	_ runner    = (*ocicli.Process)(nil)
)

type stdio = proc.Stdio

// spec is a bundle's config.json. The seccomp profile, by far its largest part, is left undecoded: it is the same for most
// containers, and compiled once.
type spec struct {
	specs.Spec
	filter *fastinit.Filter
	raw    []byte
}

func readSpec(path string) (*spec, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	// Fields nearer to the top win over those of embedded structs.
	var in struct {
		specs.Spec
		Linux *struct {
			specs.Linux
			Seccomp json.RawMessage `json:"seccomp"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, err
	}
	if in.Linux == nil || in.Process == nil {
		return nil, errors.New("config.json has no process or no linux section")
	}
	s := &spec{Spec: in.Spec, filter: fastinit.NewFilter(in.Linux.Seccomp), raw: raw}
	s.Spec.Linux = &in.Linux.Linux
	return s, nil
}

// whole decodes everything, for libcontainer.
func (s *spec) whole() (*specs.Spec, error) {
	var all specs.Spec
	return &all, json.Unmarshal(s.raw, &all)
}

// createContainer chooses the backend: the runtime that the bundle names, or the fast one for all that it covers.
func createContainer(state string, b shim.Bundle, s *spec, io stdio) (container, *os.File, error) {
	id := b.ID
	if b.Runtime.Path != "" {
		c, console, err := ocicli.Create(b.Runtime, filepath.Join(state, "oci"), id, b.Dir, io)
		if err != nil {
			return nil, nil, err
		}
		return c, console, nil
	}
	c, console, err := fastinit.Create(id, &s.Spec, s.filter, io)
	if !fastinit.IsUncovered(err) {
		if err != nil {
			return nil, nil, err
		}
		return c, console, nil
	}
	all, err := s.whole()
	if err != nil {
		return nil, nil, err
	}
	lc, console, err := libct.Create(state, id, all, io)
	if err != nil {
		return nil, nil, err
	}
	return lc, console, nil
}

// exec runs a further process in the task's container, whichever backend started that.
func (t *task) exec(p *specs.Process, io stdio) (runner, *os.File, error) {
	if oc, ok := t.c.(*ocicli.Container); ok {
		op, console, err := oc.Exec(p, io)
		if err != nil {
			return nil, nil, err
		}
		return op, console, nil
	}
	ep, console, err := t.target.Exec(p, io)
	if err == nil {
		return ep, console, nil
	}
	if !fastinit.IsUncovered(err) {
		return nil, nil, err
	}
	lc, ok := t.c.(*libct.Container)
	if !ok {
		return nil, nil, shim.Classify(shim.ExecFailed + "the process asks for something that the container was not made with")
	}
	lp, console, err := lc.Exec(p, io)
	if err != nil {
		return nil, nil, err
	}
	return lp, console, nil
}
