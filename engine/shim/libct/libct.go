//go:build cgo && linux

package libct

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	_ "github.com/opencontainers/cgroups/devices" // device rules; without it the cgroup manager refuses to set them
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // C constructor of the init stage
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/internal/proc"
)

// Init is the entry of the re-executed binary ("berth-shim init"). It does not return.
func Init() { libcontainer.Init() }

// Container is one libcontainer container with its init.
type Container struct {
	c    *libcontainer.Container
	init *libcontainer.Process
	oom  string // file with the oom_kill counter
}

// Create sets the container up and leaves its init waiting for Start. console is the terminal's master side, or nil.
//
// Errors are *shim.StartError; nothing is left behind.
func Create(state, id string, spec *specs.Spec, s proc.Stdio) (_ *Container, console *os.File, err error) {
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec})
	if err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	c, err := libcontainer.Create(state, id, cfg)
	if err != nil {
		return nil, nil, startError(shim.CreateFailed, err)
	}
	p, err := newProcess(spec.Process)
	if err != nil {
		return nil, nil, startError(shim.CreateFailed, errors.Join(err, c.Destroy()))
	}
	p.Init = true
	if console, err = start(c, p, s); err != nil {
		_ = c.Destroy() // the error that matters is err
		return nil, nil, startError(shim.CreateFailed, err)
	}
	return &Container{c: c, init: p, oom: oomFile(c)}, console, nil
}

// Pid of init in the host's namespace.
func (c *Container) Pid() int {
	pid, _ := c.init.Pid()
	return pid
}

// Start releases init.
func (c *Container) Start() error {
	if err := c.c.Exec(); err != nil {
		return startError(shim.ReleaseFailed, err)
	}
	return nil
}

// Wait reaps init.
func (c *Container) Wait() (syscall.WaitStatus, error) { return wait(c.init) }

func wait(p *libcontainer.Process) (syscall.WaitStatus, error) {
	st, err := p.Wait()
	if st != nil { // a status other than 0 is reported as an error too
		return st.Sys().(syscall.WaitStatus), nil
	}
	return 0, err
}

// Process is an exec.
type Process struct{ p *libcontainer.Process }

// Exec runs a further process. Errors are *shim.StartError.
func (c *Container) Exec(spec *specs.Process, s proc.Stdio) (*Process, *os.File, error) {
	p, err := newProcess(spec)
	if err != nil {
		return nil, nil, startError(shim.ExecFailed, err)
	}
	console, err := start(c.c, p, s)
	if err != nil {
		return nil, nil, startError(shim.ExecFailed, err)
	}
	return &Process{p}, console, nil
}

// Pid in the host's namespace.
func (p *Process) Pid() int {
	pid, _ := p.p.Pid()
	return pid
}

// Wait reaps it.
func (p *Process) Wait() (syscall.WaitStatus, error) { return wait(p.p) }

// Signal sends sig to it.
func (p *Process) Signal(sig syscall.Signal) error { return p.p.Signal(sig) }

// Signal sends sig to init; SIGKILL reaches every process if they share the pid namespace with others.
func (c *Container) Signal(sig syscall.Signal) error { return c.c.Signal(sig) }

// Pause freezes the container's processes, Resume thaws them.
func (c *Container) Pause() error { return c.c.Pause() }

// Resume is the inverse of Pause.
func (c *Container) Resume() error { return c.c.Resume() }

// Pids lists the container's processes in the host's namespace.
func (c *Container) Pids() ([]int, error) { return c.c.Processes() }

// Destroy removes cgroups and state; processes still there are killed.
func (c *Container) Destroy() error { return c.c.Destroy() }

// Update applies new limits.
func (c *Container) Update(r *specs.LinuxResources) error {
	cfg := c.c.Config()
	conv, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: c.c.ID(), Spec: &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "/"}, Linux: &specs.Linux{Resources: r},
	}})
	if err != nil {
		return err
	}
	devices := cfg.Cgroups.Devices
	cfg.Cgroups.Resources = conv.Cgroups.Resources
	cfg.Cgroups.SkipDevices = true
	cfg.Cgroups.Devices = devices
	return c.c.Set(cfg)
}

// OOMKilled reads the kernel's counter; call it before Destroy.
func (c *Container) OOMKilled() bool {
	b, err := os.ReadFile(c.oom)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n > 0
		}
	}
	return false
}

// Groups are the paths of its cgroups by controller; "" is the unified hierarchy.
func (c *Container) Groups() map[string]string {
	st, err := c.c.State()
	if err != nil {
		return nil
	}
	return st.CgroupPaths
}

func oomFile(c *libcontainer.Container) string {
	st, err := c.State()
	if err != nil {
		return ""
	}
	if p := st.CgroupPaths["memory"]; p != "" {
		return filepath.Join(p, "memory.oom_control")
	}
	return filepath.Join(st.CgroupPaths[""], "memory.events")
}

// start runs p in c. With a terminal it receives the master side from the child.
func start(c *libcontainer.Container, p *libcontainer.Process, s proc.Stdio) (*os.File, error) {
	if !s.TTY {
		p.Stdin, p.Stdout, p.Stderr = s.Stdin, s.Stdout, s.Stderr
		return nil, c.Start(p)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")
	defer ours.Close()
	p.ConsoleSocket = theirs
	err = c.Start(p)
	_ = theirs.Close() // ours must see the end if the child never sent anything
	if err != nil {
		return nil, err
	}
	return receive(ours)
}

func receive(sock *os.File) (*os.File, error) {
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive console: %w", err)
	}
	return proc.Console(oob[:n])
}

func newProcess(p *specs.Process) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, UID: int(p.User.UID), GID: int(p.User.GID),
		NoNewPrivileges: &p.NoNewPrivileges, AppArmorProfile: p.ApparmorProfile, Label: p.SelinuxLabel, LogLevel: "2",
	}
	for _, g := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient}
	}
	for _, r := range p.Rlimits {
		typ, err := proc.Rlimit(r.Type)
		if err != nil {
			return nil, err
		}
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: typ, Hard: r.Hard, Soft: r.Soft})
	}
	return lp, nil
}

// startError classifies libcontainer's words.
func startError(prefix string, err error) error { return shim.Classify(prefix + err.Error()) }
