//go:build linux

package ocicli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A runtime that fails may leave a child behind. Adopted, dead and not reaped it would keep the container's pid namespace, and
// so its init, from ending. No other child may be touched: its exit code belongs to somebody.

// reapStrays reaps adopted children that belong to this container and that nobody waits for.
func (c *Container) reapStrays() {
	if !c.calls.TryLock() {
		return // a process is being made that nobody waits for yet
	}
	defer c.calls.Unlock()
	mine := pidNamespace(c.pid)
	for _, pid := range children() {
		if pid == c.pid || c.awaited(pid) || !dead(pid) {
			continue
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // gone: not ours to reap
		if strings.Contains(string(b), c.id) || mine != "" && mine != pidNamespace(os.Getpid()) && pidNamespace(pid) == mine {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // somebody was faster
		}
	}
}

// reapSoon reaps strays that die within the next two seconds.
func (c *Container) reapSoon() {
	go func() {
		for range 40 {
			c.reapStrays()
			time.Sleep(50 * time.Millisecond)
		}
	}()
}

func (c *Container) awaited(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.execs[pid]
}

func pidNamespace(pid int) string {
	l, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) // gone: none
	return l
}

func dead(pid int) bool {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // gone: somebody has reaped it
	_, rest, ok := strings.Cut(string(b), ") ")
	return ok && strings.HasPrefix(rest, "Z")
}

// children are this process's, adopted ones included.
func children() (pids []int) {
	files, _ := filepath.Glob("/proc/self/task/*/children") // the pattern is right
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread that ended has none
		for _, s := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
