package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// helpers are programs that an engine runs beside itself and that do not carry its marker.
var helpers = map[string]bool{"containerd": true, "containerd-shim": true, "containerd-shim-runc-v2": true, "docker-proxy": true, "berth-shim": true}

// pss adds up the proportional set sizes of an engine's own processes in MiB.
func (e *engine) pss() (float64, error) {
	if e.marker == "" {
		return 0, errors.New("no marker given for its processes")
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var total float64
	for _, p := range procs {
		if p == fmt.Sprintf("/proc/%d", os.Getpid()) || !e.owns(p) {
			continue
		}
		kib, err := readPSS(p)
		if errors.Is(err, os.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		total += kib / 1024
	}
	if total == 0 {
		return 0, fmt.Errorf("no process carries the marker %q", e.marker)
	}
	return total, nil
}

// owns reports whether the process is the engine or one of its helpers. Programs that were merely given the engine's
// paths, this one and shells among them, are left out by name.
func (e *engine) owns(proc string) bool {
	cmd, err := os.ReadFile(proc + "/cmdline")
	if err != nil {
		return false
	}
	name := filepath.Base(strings.SplitN(string(cmd), "\x00", 2)[0])
	if (name == "berthd" || name == "dockerd" || helpers[name]) && strings.Contains(string(cmd), e.marker) {
		return true
	}
	if name != "docker-proxy" {
		return false
	}
	parent := parentOf(proc)
	return parent != "" && e.owns(parent)
}

func parentOf(proc string) string {
	b, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 2 {
		return ""
	}
	return "/proc/" + f[1]
}

func readPSS(proc string) (float64, error) {
	b, err := os.ReadFile(proc + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.ParseFloat(strings.Fields(v)[0], 64)
		}
	}
	return 0, nil
}

// settle gives the engines' garbage collectors and background work time to finish.
func settle() { time.Sleep(3 * time.Second) }

func idleMemory(e *engine) (float64, error) {
	settle()
	return e.pss()
}

// perContainer is the growth for each of 20 running containers.
func perContainer(e *engine) (_ float64, err error) {
	settle()
	before, err := e.pss()
	if err != nil {
		return 0, err
	}
	var ids []string
	defer func() {
		for _, id := range ids {
			err = errors.Join(err, e.remove(id))
		}
	}()
	for range idlers {
		id, err := e.create([]string{"sleep", "600"}, nil)
		if err != nil {
			return 0, err
		}
		ids = append(ids, id)
		if err := e.start(id); err != nil {
			return 0, err
		}
	}
	settle()
	after, err := e.pss()
	return (after - before) / idlers, err
}
