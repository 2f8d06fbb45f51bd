//go:build cgo && linux

package server

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// strayAfter is how long a killed init may take to end before somebody else is suspected of holding it.
const strayAfter = time.Second

// reapStrays is for an init that was killed and does not end: the kernel keeps it until every process of its pid namespace
// has been reaped, and one that nobody here knows of would keep it for ever. Each process has a waiter of its own, so there
// should be none; those that are known, or may still become so, are left to theirs.
func (s *Server) reapStrays(t *task) {
	select {
	case <-t.init.exited:
		return
	case <-time.After(strayAfter):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy > 0 {
		return // a process in the making is not known yet
	}
	known := map[int]bool{}
	for _, t := range s.tasks {
		known[t.init.pid] = true
		t.mu.Lock()
		execs := slices.Collect(maps.Values(t.execs))
		t.mu.Unlock() // state takes the locks the other way round
		for _, p := range execs {
			p.mu.Lock()
			known[p.pid] = true
			p.mu.Unlock()
		}
	}
	for _, pid := range zombies() {
		if !known[pid] {
			s.log.Error("a process nobody waits for", "pid", pid, "task", t.bundle.ID)
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // gone, or somebody's after all
		}
	}
}

// zombies lists the children of this process that have ended and have not been reaped.
func zombies() []int {
	var out []int
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // the thread ended
		}
		for _, f := range bytes.Fields(b) {
			stat, err := os.ReadFile("/proc/" + string(f) + "/stat")
			if err != nil {
				continue
			}
			if i := bytes.LastIndexByte(stat, ')'); i >= 0 && i+2 < len(stat) && stat[i+2] == 'Z' {
				if pid, err := strconv.Atoi(string(f)); err == nil {
					out = append(out, pid)
				}
			}
		}
	}
	return out
}
