package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/berthd/berth/engine/build/buildkit"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/internal/host"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network"
	"github.com/berthd/berth/engine/oci"
	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/volume"
)

// Config is everything the engine has to be told; plain values.
type Config struct {
	DataRoot, ExecRoot, ShimBinary string
	StorageDriver                  string
	BridgeName                     string
	BridgeIP                       netip.Prefix
	MTU                            int
	Firewall, Forward, ICC, Masq   bool
	Registry                       registry.Config
	MaxDownloads, MaxUploads       int // 0 = dockerd's default
	MaxAttempts                    int // for one blob; 0 = dockerd's default
	AddressPools                   []AddressPool
	LiveRestore                    bool
	DefaultInit                    bool
	InitPath                       string
	CgroupParent                   string
	Ulimits                        []container.Ulimit
	DNS, DNSSearch, DNSOptions     []string
	LogDriver                      string
	LogOptions                     map[string]string
	ShmSize                        int64
	Version                        string // of berth
	CrashAt                        string // a step at which the process kills itself, for tests; see crash.go
	// DefaultRuntime names one of Runtimes, or "runc", which is built in. "" = "runc".
	DefaultRuntime string
	Runtimes       map[string]shim.Runtime
	// SeccompProfile replaces the built-in one: a profile's JSON, "unconfined", "builtin" or "".
	SeccompProfile  string
	NoNewPrivileges bool // of containers that do not say
	Log             *slog.Logger
}

// AddressPool is a range that the subnets of networks are cut from.
type AddressPool struct {
	Base netip.Prefix
	Size int // prefix length of a subnet
}

// Engine owns the parts.
type Engine struct {
	Containers *container.Manager
	Images     *image.Service
	Networks   *network.Manager
	Volumes    *volume.Manager
	Build      *buildkit.Builder
	Events     *event.Bus
	ID         string

	cfg   Config
	facts host.Facts
	keep  atomic.Bool // containers stay when the daemon ends
	db    *store.DB
	shims *shim.Client
	lock  *os.File
}

// CgroupV2 reports whether the host runs the unified hierarchy alone.
func CgroupV2() bool { return host.Read().CgroupV2 }

// Open assembles the engine and brings rows and host together. Only one engine can have a data root.
func Open(ctx context.Context, c Config) (_ *Engine, err error) {
	e := &Engine{cfg: c}
	e.keep.Store(c.LiveRestore)
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	crashAt(c.CrashAt)
	for dir, mode := range map[string]os.FileMode{c.DataRoot: 0o710, filepath.Join(c.DataRoot, "containers"): 0o710, c.ExecRoot: 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return nil, err
		}
	}
	if e.lock, err = os.OpenFile(filepath.Join(c.DataRoot, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(e.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s is in use by another daemon", c.DataRoot)
	}
	if e.Events, err = event.Open(filepath.Join(c.DataRoot, "events"), c.Log.With("component", "event")); err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	if e.db, err = store.Open(filepath.Join(c.DataRoot, "engine.db")); err != nil {
		return nil, err
	}
	if e.ID, err = e.identity(); err != nil {
		return nil, err
	}
	e.Images, err = image.Open(ctx, image.Options{
		Root: c.DataRoot, Snapshotter: c.StorageDriver, Registry: c.Registry, MaxDownloads: c.MaxDownloads, MaxUploads: c.MaxUploads, MaxAttempts: c.MaxAttempts, Publish: e.Events.Publish, Log: c.Log.With("component", "image"),
	})
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	var pools []network.AddressPool
	for _, p := range c.AddressPools {
		pools = append(pools, network.AddressPool(p))
	}
	e.Networks, err = network.Open(network.Options{
		DB: e.db, ExecRoot: c.ExecRoot, HostID: e.ID, Pools: pools, BridgeName: c.BridgeName, BridgeIP: c.BridgeIP, MTU: c.MTU, ICC: c.ICC, Masq: c.Masq, Firewall: c.Firewall, Forward: c.Forward,
		Publish: e.Events.Publish, Log: c.Log.With("component", "network"),
	})
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	if e.Volumes, err = volume.Open(volume.Options{DB: e.db, Root: filepath.Join(c.DataRoot, "volumes"), Publish: e.Events.Publish}); err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	if e.shims, err = shim.NewClient(shim.Options{Binary: c.ShimBinary, Root: c.ExecRoot, Log: c.Log.With("component", "shim")}); err != nil {
		return nil, fmt.Errorf("shims: %w", err)
	}
	facts := host.Read()
	host.RaiseKeyLimits()
	e.facts = facts
	if c.DefaultRuntime == "" {
		c.DefaultRuntime = "runc"
	}
	if c.Runtimes, err = found(c.Runtimes); err != nil {
		return nil, err
	}
	specs, err := oci.New(oci.Options{CgroupParent: c.CgroupParent, CgroupV2: facts.CgroupV2, InitPath: c.InitPath, DefaultInit: c.DefaultInit, Ulimits: c.Ulimits,
		Seccomp: c.SeccompProfile, NoNewPrivileges: c.NoNewPrivileges, AppArmor: facts.AppArmor})
	if err != nil {
		return nil, err
	}
	e.Containers, err = container.New(container.Deps{
		DB: e.db, Root: filepath.Join(c.DataRoot, "containers"), ExecRoot: c.ExecRoot, Images: e.Images, Networks: e.Networks, Volumes: e.Volumes, Runtime: e.shims, Specs: specs,
		Events: e.Events, Log: c.Log.With("component", "container"), Host: facts, Defaults: container.Defaults{
			LogDriver: c.LogDriver, LogOptions: c.LogOptions, ShmSize: c.ShmSize, Runtime: c.DefaultRuntime, Runtimes: c.Runtimes, DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions,
			MaskedPaths: oci.HostMaskedPaths(), ReadonlyPaths: oci.ReadonlyPaths,
		},
	})
	if err != nil {
		return nil, err
	}
	e.Build = buildkit.New(buildkit.Options{
		Root: filepath.Join(c.DataRoot, "buildkit"), Stores: e.Images.Stores(), Named: e.Images.Named, Runtime: e.shims, Networks: e.Networks, Harden: specs.Harden,
		CgroupParent: parentOr(c.CgroupParent), HostGateway: e.Networks.HostGateway(), Registry: e.Images.RegistryPolicy, DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions,
		Version: c.Version, Log: c.Log.With("component", "build"),
	})
	e.Images.SetInUse(e.imageUsers)
	e.Volumes.SetInUse(e.volumeUsers)
	same, err := e.sameBoot()
	if err != nil {
		return nil, err
	}
	if err := e.Containers.Recover(ctx, same); err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	return e, errors.Join(e.Volumes.Sweep(ctx), e.shims.Warm())
}

// found gives every runtime an absolute path: a bare name is looked up once, here, in this process's PATH.
func found(rs map[string]shim.Runtime) (map[string]shim.Runtime, error) {
	out := map[string]shim.Runtime{}
	for name, r := range rs {
		path, err := exec.LookPath(r.Path)
		if err != nil {
			return nil, fmt.Errorf("runtime %s: %w", name, err)
		}
		if r.Path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		out[name] = r
	}
	return out, nil
}

// identity is the engine's id, made once.
func (e *Engine) identity() (id string, err error) {
	fresh := ids.New()
	fresh = strings.Join([]string{fresh[:8], fresh[8:12], fresh[12:16], fresh[16:20], fresh[20:32]}, "-")
	err = e.db.Update(func(tx *store.Tx) error {
		if ok, err := tx.Get(store.Meta, "engineID", &id); ok || err != nil {
			return err
		}
		id = fresh
		return tx.Put(store.Meta, "engineID", id)
	})
	return id, err
}

// sameBoot compares the host's boot id with the one the exec root belongs to, and notes it.
func (e *Engine) sameBoot() (bool, error) {
	now, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, err
	}
	file := filepath.Join(e.cfg.ExecRoot, "boot")
	was, _ := os.ReadFile(file)
	return string(was) == string(now), os.WriteFile(file, now, 0o600)
}

func (e *Engine) imageUsers() []image.User {
	var out []image.User
	for _, s := range e.Containers.List() {
		refs := []string{s.Spec.Image.ID}
		for _, p := range s.Spec.Storage.Points {
			if p.Type == "image" {
				refs = append(refs, p.Source)
			}
		}
		for _, r := range refs {
			out = append(out, image.User{ContainerID: string(s.ID), Running: s.State.Phase.Live(), Ref: r})
		}
	}
	return out
}

func (e *Engine) volumeUsers(name string) []string {
	var out []string
	for _, s := range e.Containers.List() {
		for _, p := range s.Spec.Storage.Points {
			if p.Name == name && s.State.Phase != container.Removing {
				out = append(out, string(s.ID))
			}
		}
	}
	return out
}

// Shutdown ends the engine: containers are stopped unless live-restore is on, then they stay.
func (e *Engine) Shutdown(ctx context.Context) {
	if !e.keep.Load() {
		e.Containers.Shutdown(ctx)
	}
	e.Containers.Close()
	if !e.keep.Load() {
		e.shims.Shutdown(ctx)
	}
	e.close()
}

// Destroy removes what an engine without running containers keeps on the host: bridge, rules and the parent cgroups.
func (e *Engine) Destroy(ctx context.Context) error {
	parent := parentOr(e.cfg.CgroupParent)
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, err := filepath.Glob(filepath.Join(pattern, parent))
		if err != nil {
			return err
		}
		for _, d := range dirs {
			_ = syscall.Rmdir(d) // another engine may use it still
		}
	}
	return e.Networks.Destroy(ctx)
}

func parentOr(cgroup string) string {
	if cgroup == "" {
		return oci.DefaultCgroupParent
	}
	return cgroup
}

func (e *Engine) close() {
	if e.Build != nil {
		_ = e.Build.Close() // caches only
	}
	if e.Networks != nil {
		_ = e.Networks.Close() // reservations only
	}
	if e.shims != nil {
		_ = e.shims.Close() // connections only
	}
	if e.Images != nil {
		_ = e.Images.Close() // every write was committed
	}
	if e.Events != nil {
		_ = e.Events.Close() // a convenience, not a record
	}
	if e.db != nil {
		_ = e.db.Close() // as above
	}
	if e.lock != nil {
		_ = e.lock.Close() // releases it
	}
}
