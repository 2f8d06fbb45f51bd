//go:build cgo && linux && seccomp

package server

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/ocicli"
)

// runtimeContainer makes a container of a runtime program.
func runtimeContainer(t *testing.T, program string, io stdio, change func(*specs.Spec), args ...string) (*ocicli.Container, *os.File, error) {
	t.Helper()
	needRoot(t)
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s", program)
	}
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err == nil && program == "crun" {
		// It refuses hosts that have both versions of cgroups: it gets one without the second.
		wrapper := filepath.Join(t.TempDir(), "crun")
		must(t, os.WriteFile(wrapper, []byte("#!/bin/sh\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"' "+path+" \"$@\"\n"), 0o755))
		path = wrapper
	}
	id, dir := ids.New(), t.TempDir()
	s := plainSpec(t, rootfs(t), id, args...)
	// Kernels differ in what old programs make of it; what is tried here is the program's command line.
	s.Linux.Seccomp = nil
	s.Version = shim.RuntimeSpecVersion
	s.Process.Terminal = io.TTY
	if change != nil {
		change(s)
	}
	b, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600))
	root := filepath.Join(dir, "state")
	c, console, err := ocicli.Create(shim.Runtime{Path: path}, root, id, dir, io)
	t.Cleanup(func() {
		if c != nil {
			must(t, c.Destroy())
			removeGroups(t, c.Groups())
		}
		if left, _ := os.ReadDir(root); len(left) > 0 {
			t.Errorf("%s left %v", program, left)
		}
	})
	return c, console, err
}

func eachRuntime(t *testing.T, f func(t *testing.T, program string)) {
	for _, program := range []string{"runc", "crun"} {
		t.Run(program, func(t *testing.T) { f(t, program) })
	}
}

func TestRuntimeProgramsTellOutputAndExitCode(t *testing.T) {
	eachRuntime(t, func(t *testing.T, program string) {
		o := newOutput(t, false)
		c, console, err := runtimeContainer(t, program, o.io, nil, "sh", "-c", "echo pid $$; id -u; exit 7")
		must(t, err)
		o.started(console)
		must(t, c.Start())
		if got := ended(t, c, o); got != (outcome{"pid 1\n0\n", 7}) {
			t.Errorf("%+v", got)
		}
	})
}

func TestRuntimeProgramsHandOverATerminal(t *testing.T) {
	eachRuntime(t, func(t *testing.T, program string) {
		o := newOutput(t, true)
		c, console, err := runtimeContainer(t, program, o.io, nil, "tty")
		must(t, err)
		o.started(console)
		must(t, c.Start())
		if got := ended(t, c, o); !strings.HasPrefix(got.Out, "/dev/") || got.Code != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestRuntimeProgramsRunExecs(t *testing.T) {
	eachRuntime(t, func(t *testing.T, program string) {
		o := newOutput(t, false)
		c, console, err := runtimeContainer(t, program, o.io, nil, "sleep", "100")
		must(t, err)
		o.started(console)
		must(t, c.Start())
		for _, tty := range []bool{false, true} {
			x := newOutput(t, tty)
			p, console, err := c.Exec(&specs.Process{Terminal: tty, Args: []string{"sh", "-c", "echo in $A; exit 5"}, Cwd: "/", Env: []string{"PATH=/bin", "A=b"}}, x.io)
			must(t, err)
			x.started(console)
			if got := ended(t, p, x); strings.TrimSpace(got.Out) != "in b" || got.Code != 5 {
				t.Errorf("tty %v: %+v", tty, got)
			}
		}
		x := newOutput(t, false)
		_, _, err = c.Exec(&specs.Process{Args: []string{"nosuch"}, Cwd: "/", Env: []string{"PATH=/bin"}}, x.io)
		closeAll(x.io.Stdin, x.io.Stdout, x.r)
		var se *shim.StartError
		if !errors.As(err, &se) || se.Cause != shim.CauseNotFound {
			t.Errorf("%v", err)
		}
		if pids, err := c.Pids(); err != nil || len(pids) != 1 || pids[0] != c.Pid() {
			t.Errorf("%v %v, want %d", pids, err, c.Pid())
		}
		must(t, c.Pause())
		must(t, c.Resume())
		limit := int64(64 << 20)
		must(t, c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}))
		if g := c.Groups()["memory"]; g != "" {
			if b, _ := os.ReadFile(filepath.Join(g, "memory.limit_in_bytes")); strings.TrimSpace(string(b)) != "67108864" {
				t.Errorf("memory limit %s", b)
			}
		}
		must(t, c.Signal(syscall.SIGKILL))
		if got := ended(t, c, o); got.Code != 128+9 {
			t.Errorf("%+v", got)
		}
	})
}

func TestRuntimeProgramsSayWhyTheyFail(t *testing.T) {
	eachRuntime(t, func(t *testing.T, program string) {
		for argv, want := range map[string]shim.Cause{"nosuch": shim.CauseNotFound, "/etc/passwd": shim.CauseNotExecutable} {
			o := newOutput(t, false)
			c, console, err := runtimeContainer(t, program, o.io, nil, argv)
			o.started(console)
			if err == nil { // some find out when init is released
				err = c.Start()
				_, _ = c.Wait()
			}
			var se *shim.StartError
			if !errors.As(err, &se) || se.Cause != want {
				t.Errorf("%s: %v", argv, err)
			}
			select {
			case <-o.read:
			case <-time.After(5 * time.Second):
				t.Error("the output does not end")
			}
		}
	})
}
