//go:build cgo && linux

package fastinit

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"syscall"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // device rules; without it the cgroup manager refuses to set them
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/configs/validate"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/internal/proc"
)

// Container is a container with its init.
type Container struct {
	id     string
	cfg    *configs.Config
	groups cgroups.Manager
	filter *Filter
	init   *stage
}

// IsUncovered tells that libct has to do what was asked; nothing has been done.
func IsUncovered(err error) bool { return errors.Is(err, errUncovered) }

// Create sets a container up and leaves its init waiting for Start. spec.Linux.Seccomp is not looked at: filter stands for it.
// console is the terminal's master side, or nil.
//
// Errors: one for which IsUncovered holds; otherwise *shim.StartError. Nothing is left behind.
func Create(id string, spec *specs.Spec, filter *Filter, s proc.Stdio) (_ *Container, console *os.File, err error) {
	c := &Container{id: id, filter: filter}
	if c.cfg, err = specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec}); err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	if err := covered(c.cfg, spec.Process); err != nil {
		return nil, nil, err
	}
	prog, err := filter.program()
	if err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	if err := validate.Validate(c.cfg); err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	if c.groups, err = manager.New(c.cfg.Cgroups); err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	if c.groups.Exists() {
		if pids, err := c.groups.GetAllPids(); err != nil || len(pids) != 0 {
			return nil, nil, startError(shim.CreateFailed, errors.Join(errors.New("container's cgroup is not empty"), err))
		}
	}
	p, flags, err := initPlan(id, c.cfg, spec.Process, c.groups.GetPaths(), prog)
	if err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	if err := c.groups.Apply(-1); err != nil {
		return nil, nil, startError(shim.CreateFailed, errors.Join(fmt.Errorf("unable to apply cgroup configuration: %w", err), c.groups.Destroy()))
	}
	defer func() {
		if err == nil {
			return
		}
		if n, oerr := c.groups.OOMKillCount(); oerr == nil && n > 0 {
			err = startError(shim.CreateFailed, errors.New("container init was OOM-killed (memory limit too low?)"))
		}
		_ = c.groups.Destroy() // the error that matters is err
	}()
	if err := c.groups.Set(c.cfg.Cgroups.Resources); err != nil {
		return nil, nil, startError(shim.CreateFailed, fmt.Errorf("error setting cgroup config for procHooks process: %w", err))
	}
	born, err := unified(c.groups.GetPaths())
	if err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	defer closeFile(born)
	if c.init, err = launch(p, s, flags, born, nil); err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	if err := c.init.ready(); err != nil {
		return nil, nil, startError(shim.CreateFailed, during(err))
	}
	return c, c.init.console, nil
}

// unified opens the cgroup of version 2 among paths, for a child to be born in; nil if there is none.
func unified(paths map[string]string) (*os.File, error) {
	p, ok := paths[""]
	if !ok || p == "" {
		return nil, nil //nolint:nilnil // no such hierarchy
	}
	return os.OpenFile(p, unix.O_PATH|unix.O_DIRECTORY, 0)
}

func closeFile(f *os.File) {
	if f != nil {
		_ = f.Close() // read-only, nothing to lose
	}
}

func during(err error) error { return starting(fmt.Errorf("error during container init: %w", err)) }

func starting(err error) error { return fmt.Errorf("unable to start container process: %w", err) }

func startError(prefix string, err error) error {
	if IsUncovered(err) {
		return err
	}
	return shim.Classify(prefix + err.Error())
}

// Pid of init in the host's namespace.
func (c *Container) Pid() int { return c.init.pid }

// Start releases init and returns when it is the container's program. Once.
func (c *Container) Start() error {
	_, err := c.init.control.Write([]byte{1})
	if err == nil {
		_, _ = c.init.control.Read(make([]byte, 1)) // until the socket is closed by the exec
	}
	if err = errors.Join(err, c.init.control.Close()); err != nil {
		return startError(shim.ReleaseFailed, errors.New("container process is already dead"))
	}
	return nil
}

// Wait reaps init. Processes that outlive it in a shared pid namespace end with it.
func (c *Container) Wait() (syscall.WaitStatus, error) {
	ws, err := c.init.wait()
	if !c.ownPids() {
		_ = c.killAll() // there may be none
	}
	return ws, err
}

func (c *Container) ownPids() bool { return c.cfg.Namespaces.IsPrivate(configs.NEWPID) }

// Signal sends sig to init; SIGKILL reaches every process if they share the pid namespace with others.
func (c *Container) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL && !c.ownPids() {
		return c.killAll()
	}
	if err := c.init.signal(sig); err != nil {
		return fmt.Errorf("unable to signal init: %w", err)
	}
	if sig != syscall.SIGKILL || cgroups.IsCgroup2UnifiedMode() {
		return nil
	}
	// In a frozen cgroup of version 1 nothing dies before it is thawed.
	if st, err := c.groups.GetFreezerState(); err == nil && st == cgroups.Frozen {
		return c.groups.Freeze(cgroups.Thawed)
	}
	return nil
}

// killAll ends every process of the cgroup; none can fork away meanwhile.
func (c *Container) killAll() error {
	if dir := c.groups.Path(""); dir != "" {
		if err := cgroups.WriteFile(dir, "cgroup.kill", "1"); err == nil {
			return nil
		}
	}
	ferr := c.groups.Freeze(cgroups.Frozen)
	pids, err := c.groups.GetAllPids()
	for _, pid := range pids {
		if kerr := unix.Kill(pid, unix.SIGKILL); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, kerr)
		}
	}
	if ferr == nil {
		err = errors.Join(err, c.groups.Freeze(cgroups.Thawed))
	}
	return err
}

// Pause freezes the container's processes, Resume thaws them.
func (c *Container) Pause() error { return c.groups.Freeze(cgroups.Frozen) }

// Resume is the inverse of Pause.
func (c *Container) Resume() error { return c.groups.Freeze(cgroups.Thawed) }

// Pids lists the container's processes in the host's namespace.
func (c *Container) Pids() ([]int, error) { return c.groups.GetAllPids() }

// Destroy removes the cgroups; processes still there are killed.
func (c *Container) Destroy() error {
	if !c.ownPids() {
		_ = c.killAll() // there may be none
	}
	_ = c.init.control.Close() // if it was never started
	if err := c.groups.Destroy(); err != nil {
		return fmt.Errorf("unable to remove container's cgroup: %w", err)
	}
	return nil
}

// Update applies new limits.
func (c *Container) Update(r *specs.LinuxResources) error {
	conv, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{CgroupName: c.id, Spec: &specs.Spec{Linux: &specs.Linux{Resources: r}}}, nil)
	if err != nil {
		return err
	}
	old := c.cfg.Cgroups.Resources
	next := conv.Resources
	next.SkipDevices, next.Devices, next.Freezer = true, old.Devices, old.Freezer
	if err := c.groups.Set(next); err != nil {
		_ = c.groups.Set(old) // the error that matters is err
		return err
	}
	c.cfg.Cgroups.Resources = next
	return nil
}

// OOMKilled reads the kernel's counter; call it before Destroy.
func (c *Container) OOMKilled() bool {
	n, err := c.groups.OOMKillCount()
	return err == nil && n > 0
}

// Groups are the paths of its cgroups by controller; "" is the unified hierarchy.
func (c *Container) Groups() map[string]string { return maps.Clone(c.groups.GetPaths()) }
