package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	ctdoci "github.com/containerd/containerd/v2/pkg/oci"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources/types"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/llbsolver/cdidevices"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/rootdir"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

// cleanLimit bounds the clean-up after a step.
const cleanLimit = 15 * time.Second

// stepRunner runs steps in shims. Everything a step leaves on the host is named by a container id of its own, so that the sweeps
// at the daemon's next start find it after a crash.
type stepRunner struct {
	o       *Options
	dir     string // hosts and resolv.conf
	nets    map[pb.NetMode]network.Provider
	dns     *oci.DNSConfig
	devices *cdidevices.Manager

	steps sync.WaitGroup // under way, clean-up included

	mu      sync.Mutex
	running map[string]*step // by BuildKit's id
}

// wait returns when no step is under way, or after limit.
func (e *stepRunner) wait(limit time.Duration) error {
	done := make(chan struct{})
	go func() { e.steps.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return errors.New("steps of a build do not end; the next start cleans up after them")
	}
}

type step struct {
	task shim.Task
	spec *specs.Spec
	root string
}

func newStepRunner(o *Options, nets map[pb.NetMode]network.Provider, dns *oci.DNSConfig, devices *cdidevices.Manager) (*stepRunner, error) {
	e := &stepRunner{o: o, dir: filepath.Join(o.Root, "executor"), nets: nets, dns: dns, devices: devices, running: map[string]*step{}}
	if err := os.RemoveAll(e.dir); err != nil { // of an earlier life
		return nil, err
	}
	return e, os.MkdirAll(e.dir, 0o711)
}

// Run implements executor.Executor.
func (e *stepRunner) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, p executor.ProcessInfo, started chan<- struct{}) (_ types.Recorder, err error) {
	e.steps.Add(1)
	defer e.steps.Done()
	var once sync.Once
	begun := func() {
		once.Do(func() {
			if started != nil {
				close(started)
			}
		})
	}
	defer begun()
	if p.Meta.Proxy != nil {
		return nil, errors.New("the proxy network mode is not supported")
	}
	provider := e.nets[p.Meta.NetMode]
	if provider == nil {
		return nil, fmt.Errorf("unknown network mode %s", p.Meta.NetMode)
	}
	ns, err := provider.New(ctx, p.Meta.Hostname, network.NamespaceOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()

	b := shim.Bundle{ID: ids.New(), IO: shim.IO{TTY: p.Meta.Tty, Stdin: p.Stdin != nil, StdinOnce: true, Log: logs.Config{Driver: "none"}}}
	b.Dir = e.o.Runtime.BundleDir(b.ID)
	rootfs := filepath.Join(b.Dir, "rootfs")
	release, err := mountRoot(ctx, root, rootfs)
	defer func() { err = errors.Join(err, release(), shim.RemoveBundle(b.Dir)) }()
	if err != nil {
		return nil, err
	}
	defer executor.MountStubsCleaner(context.WithoutCancel(ctx), rootfs, mounts, p.Meta.RemoveMountStubsRecursive)()

	spec, done, err := e.spec(ctx, b.ID, rootfs, root.Readonly, mounts, &p.Meta, ns)
	if err != nil {
		return nil, err
	}
	defer done()
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "config.json"), raw, 0o600); err != nil {
		return nil, err
	}
	task, err := e.o.Runtime.Launch(ctx, b)
	if err != nil {
		return nil, startFailed(err)
	}
	defer func() {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
		defer cancel()
		_, derr := task.Delete(cctx)
		err = errors.Join(err, derr)
	}()
	io, err := connect(ctx, task, &p)
	if err != nil {
		return nil, err
	}
	if err := task.Start(ctx); err != nil {
		io.abandon()
		return nil, startFailed(err)
	}
	e.note(id, &step{task, spec, rootfs})
	defer e.note(id, nil)
	begun()
	exit, err := e.follow(ctx, task, io, &p)
	if err != nil {
		return nil, err
	}
	return nil, result(ctx, exit, p.Meta.ValidExitCodes)
}

func (e *stepRunner) note(id string, s *step) {
	if id == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s == nil {
		delete(e.running, id)
		return
	}
	e.running[id] = s
}

// mountRoot mounts a step's root file system at target; release undoes it and may be called after a failure.
func mountRoot(ctx context.Context, root executor.Mount, target string) (release func() error, err error) {
	free := func() error { return nil }
	release = func() error {
		return errors.Join(mount.UnmountAll(target, 0), free())
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return free, err
	}
	m, err := root.Src.Mount(ctx, false)
	if err != nil {
		return free, err
	}
	ms, f, err := m.Mount()
	if err != nil {
		return free, err
	}
	if f != nil {
		free = f
	}
	return release, mount.All(ms, target)
}

func (e *stepRunner) spec(ctx context.Context, id, rootfs string, readonly bool, mounts []executor.Mount, m *executor.Meta, ns network.Namespace) (_ *specs.Spec, done func(), err error) {
	dir, err := os.OpenRoot(e.dir)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	resolv, err := oci.GetResolvConf(ctx, dir, nil, e.dns, m.NetMode)
	if err != nil {
		return nil, nil, err
	}
	hosts, dropHosts, err := oci.GetHostsFile(ctx, dir, m.ExtraHosts, nil, m.Hostname)
	if err != nil {
		return nil, nil, err
	}
	if dropHosts == nil {
		dropHosts = func() {}
	}
	defer func() {
		if err != nil {
			dropHosts()
		}
	}()
	uid, gid, groups, err := oci.GetUser(rootfs, m.User)
	if err != nil {
		return nil, nil, err
	}
	opts := []ctdoci.SpecOpts{oci.WithUIDGID(uid, gid, groups)}
	if m.ReadonlyRootFS {
		opts = append(opts, ctdoci.WithRootFSReadonly())
	}
	spec, cleanup, err := oci.GenerateSpec(ctx, *m, mounts, id, filepath.Join(e.dir, resolv), filepath.Join(e.dir, hosts), ns, "", oci.ProcessSandbox, nil, "", false, "", e.devices, opts...)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			cleanup()
		}
	}()
	spec.Root = &specs.Root{Path: rootfs, Readonly: spec.Root != nil && spec.Root.Readonly || readonly}
	spec.Process.Terminal = m.Tty
	parent := e.o.CgroupParent
	if m.CgroupParent != "" {
		parent = m.CgroupParent
	}
	spec.Linux.CgroupsPath = filepath.Join("/", parent, id)
	if err := e.o.Harden(spec, m.SecurityMode == pb.SecurityMode_INSECURE); err != nil {
		return nil, nil, err
	}
	if err := workdir(rootfs, spec.Process); err != nil {
		return nil, nil, err
	}
	return spec, func() { cleanup(); dropHosts() }, nil
}

// workdir makes the working directory of a step if it is missing; the image's links cannot lead it out of the root.
func workdir(rootfs string, p *specs.Process) error {
	r, err := rootdir.Open(rootfs)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.MkdirAll(p.Cwd, 0o755, int(p.User.UID), int(p.User.GID))
}

// follow waits for a step; the end of ctx kills it.
func (e *stepRunner) follow(ctx context.Context, t shim.Task, io *streams, p *executor.ProcessInfo) (shim.Exit, error) {
	clean := context.WithoutCancel(ctx)
	stop := context.AfterFunc(ctx, func() {
		kctx, cancel := context.WithTimeout(clean, cleanLimit)
		defer cancel()
		_ = t.KillAll(kctx) // it may have ended by itself
	})
	defer stop()
	over := make(chan struct{})
	go relay(clean, p, over, func(s syscall.Signal) { _ = t.Kill(clean, s) }, func(rows, cols uint16) { _ = t.Resize(clean, rows, cols) }) // the process may be gone
	exit, err := t.Wait(clean)
	close(over)
	return exit, errors.Join(err, io.wait())
}

// relay passes signals and window sizes on until over is closed.
func relay(ctx context.Context, p *executor.ProcessInfo, over <-chan struct{}, kill func(syscall.Signal), resize func(rows, cols uint16)) {
	signals, sizes := p.Signal, p.Resize
	for {
		select {
		case <-over:
			return
		case <-ctx.Done():
			return
		case s, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			kill(s)
		case w, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			resize(uint16(w.Rows), uint16(w.Cols))
		}
	}
}

// result turns an exit into BuildKit's terms.
func result(ctx context.Context, exit shim.Exit, valid []int) error {
	if valid == nil && exit.Code == 0 || slices.Contains(valid, exit.Code) {
		return nil
	}
	x := &gatewayapi.ExitError{ExitCode: uint32(exit.Code)}
	switch {
	case ctx.Err() != nil:
		x.Err = fmt.Errorf("%w: %w", errors.New(x.Error()), context.Cause(ctx))
	case exit.OOMKilled:
		x.Err = fmt.Errorf("%s: %w", x.Error(), syscall.ENOMEM)
	}
	return x
}

func startFailed(err error) error {
	var se *shim.StartError
	if errors.As(err, &se) {
		code := uint32(gatewayapi.UnknownExitStatus)
		switch se.Cause {
		case shim.CauseNotFound:
			code = 127
		case shim.CauseNotExecutable:
			code = 126
		}
		return &gatewayapi.ExitError{ExitCode: code, Err: err}
	}
	return err
}

// Exec implements executor.Executor: a further process in a running step, for clients that look into a build.
func (e *stepRunner) Exec(ctx context.Context, id string, p executor.ProcessInfo) error {
	e.mu.Lock()
	s := e.running[id]
	e.mu.Unlock()
	if s == nil {
		return fmt.Errorf("container %s does not run", id)
	}
	proc := *s.spec.Process
	proc.Args, proc.Terminal = p.Meta.Args, p.Meta.Tty
	if len(p.Meta.Env) > 0 {
		proc.Env = p.Meta.Env
	}
	if p.Meta.Cwd != "" {
		proc.Cwd = p.Meta.Cwd
	}
	if p.Meta.User != "" {
		uid, gid, groups, err := oci.GetUser(s.root, p.Meta.User)
		if err != nil {
			return err
		}
		proc.User = specs.User{UID: uid, GID: gid, AdditionalGids: groups}
	}
	x, err := s.task.Exec(ctx, ids.New(), shim.ExecSpec{Process: &proc, Stdin: p.Stdin != nil})
	if err != nil {
		return err
	}
	clean := context.WithoutCancel(ctx)
	defer func() { _ = x.Delete(clean) }() // it goes with the task at the latest
	io, err := connect(ctx, x, &p)
	if err != nil {
		return err
	}
	if _, err := x.Start(ctx); err != nil {
		io.abandon()
		return startFailed(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = x.Kill(clean, syscall.SIGKILL) }) // it may have ended by itself
	defer stop()
	over := make(chan struct{})
	go relay(clean, &p, over, func(s syscall.Signal) { _ = x.Kill(clean, s) }, func(rows, cols uint16) { _ = x.Resize(clean, rows, cols) }) // as above
	exit, err := x.Wait(clean)
	close(over)
	if err = errors.Join(err, io.wait()); err != nil {
		return err
	}
	return result(ctx, exit, p.Meta.ValidExitCodes)
}
