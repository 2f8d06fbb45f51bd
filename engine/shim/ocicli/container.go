//go:build linux

package ocicli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/internal/proc"
)

const (
	createFailed = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
	startFailed  = "OCI runtime start failed: "
	execFailed   = "OCI runtime exec failed: "
)

// Container is one container of a runtime program, and its first process.
type Container struct {
	p      program
	id     string
	bundle string
	pid    int
	groups map[string]string
	oom    string // file with the oom_kill counter

	calls sync.RWMutex // read-held from before a process is made until somebody waits for it
	mu    struct {
		sync.Mutex
		execs map[int]bool // pids that somebody waits for
	}
}

// Create makes the container of a bundle and leaves its init waiting for Start. console is the terminal's master side, or nil.
//
// Errors are *shim.StartError; nothing is left behind.
func Create(rt shim.Runtime, root, id, bundle string, s proc.Stdio) (_ *Container, console *os.File, err error) {
	c := &Container{p: program{rt, root}, id: id, bundle: bundle}
	c.mu.execs = map[int]bool{}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, nil, err
	}
	c.pid, console, err = c.p.spawn(bundle, s, func(pidFile, sock string) []string {
		return withConsole([]string{"create", "--bundle", bundle, "--pid-file", pidFile}, sock, id)
	})
	if err != nil {
		c.reapSoon()
		_ = c.Destroy() // most runtimes have cleaned up; the error that matters is err
		return nil, nil, shim.Classify(createFailed + err.Error())
	}
	c.groups = groups(c.pid)
	c.oom = filepath.Join(c.groups[""], "memory.events")
	if g := c.groups["memory"]; g != "" {
		c.oom = filepath.Join(g, "memory.oom_control")
	}
	return c, console, nil
}

func withConsole(args []string, sock string, rest ...string) []string {
	if sock != "" {
		args = append(args, "--console-socket", sock)
	}
	return append(args, rest...)
}

// Pid of init in the host's namespace.
func (c *Container) Pid() int { return c.pid }

// Start releases init.
func (c *Container) Start() error {
	if _, err := c.p.call(c.bundle, "start", c.id); err != nil {
		return shim.Classify(startFailed + err.Error())
	}
	return nil
}

// Wait reaps init.
func (c *Container) Wait() (syscall.WaitStatus, error) { return wait(c.pid) }

// wait reaps a child that this process did not fork itself.
func wait(pid int) (syscall.WaitStatus, error) {
	for {
		var ws syscall.WaitStatus
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			return ws, os.NewSyscallError("wait4", err)
		}
	}
}

// Process is an exec.
type Process struct {
	c   *Container
	pid int
}

// Exec runs a further process. Errors are *shim.StartError.
func (c *Container) Exec(ps *specs.Process, s proc.Stdio) (*Process, *os.File, error) {
	raw, err := json.Marshal(ps)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.CreateTemp(c.bundle, "process-")
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(raw); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	c.calls.RLock()
	defer c.calls.RUnlock()
	pid, console, err := c.p.spawn(c.bundle, s, func(pidFile, sock string) []string {
		args := []string{"exec", "--detach", "--process", f.Name(), "--pid-file", pidFile}
		if s.TTY {
			args = append(args, "--tty")
		}
		return withConsole(args, sock, c.id)
	})
	if err != nil {
		c.reapSoon()
		return nil, nil, shim.Classify(execFailed + err.Error())
	}
	c.mu.Lock()
	c.mu.execs[pid] = true
	c.mu.Unlock()
	return &Process{c, pid}, console, nil
}

// Pid in the host's namespace.
func (p *Process) Pid() int { return p.pid }

// Wait reaps it.
func (p *Process) Wait() (syscall.WaitStatus, error) {
	ws, err := wait(p.pid)
	p.c.mu.Lock()
	delete(p.c.mu.execs, p.pid)
	p.c.mu.Unlock()
	return ws, err
}

// Signal sends sig to it.
func (p *Process) Signal(sig syscall.Signal) error { return unix.Kill(p.pid, sig) }

// Signal sends sig to init.
func (c *Container) Signal(sig syscall.Signal) error {
	_, err := c.p.call(c.bundle, "kill", c.id, strconv.Itoa(int(sig)))
	return err
}

// Pause freezes the container's processes.
func (c *Container) Pause() error {
	_, err := c.p.call(c.bundle, "pause", c.id)
	return err
}

// Resume thaws them.
func (c *Container) Resume() error {
	_, err := c.p.call(c.bundle, "resume", c.id)
	return err
}

// Pids lists the container's processes in the host's namespace.
func (c *Container) Pids() (pids []int, err error) {
	out, err := c.p.call(c.bundle, "ps", "--format", "json", c.id)
	if err != nil {
		return nil, err
	}
	return pids, json.Unmarshal(out, &pids)
}

// Update applies new limits; device rules stay as they are.
func (c *Container) Update(r *specs.LinuxResources) error {
	limits := *r
	limits.Devices = nil
	raw, err := json.Marshal(limits)
	if err != nil {
		return err
	}
	file := filepath.Join(c.bundle, "resources.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	_, err = c.p.call(c.bundle, "update", "--resources", file, c.id)
	return err
}

// Groups are the paths of its cgroups by controller; "" is the unified hierarchy.
func (c *Container) Groups() map[string]string { return c.groups }

// OOMKilled reads the kernel's counter; call it before Destroy.
func (c *Container) OOMKilled() bool {
	b, _ := os.ReadFile(c.oom) // gone: nothing known
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n > 0
		}
	}
	return false
}

// Destroy removes cgroups and state; processes still there are killed. One that is gone is no error.
func (c *Container) Destroy() error {
	if _, err := os.Stat(filepath.Join(c.p.root, c.id)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := c.p.call(c.bundle, "delete", "--force", c.id); err != nil {
		return fmt.Errorf("%s: %w", c.p.rt.Path, err)
	}
	return nil
}

// groups finds the cgroups of a process as directories of this host.
func groups(pid int) map[string]string {
	out := map[string]string{}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // gone: none
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[1] == "" {
			if f[2] != "/" { // on a host with both versions nothing is kept in the second
				out[""] = filepath.Join("/sys/fs/cgroup", f[2])
			}
			continue
		}
		for _, name := range strings.Split(strings.TrimPrefix(f[1], "name="), ",") {
			out[name] = filepath.Join("/sys/fs/cgroup", name, f[2])
		}
	}
	return out
}
