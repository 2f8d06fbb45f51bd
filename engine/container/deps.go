package container

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/host"
	"github.com/berthd/berth/engine/internal/store"
	"github.com/berthd/berth/engine/network"
	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/volume"
)

// Rootfs is what a container needs of images.
type Rootfs interface {
	Resolve(ctx context.Context, ref string, p *ocispec.Platform) (*image.Image, error)
	Prepare(ctx context.Context, id string, img *image.Image) error
	MountRootfs(ctx context.Context, id, target string) error
	RemoveRootfs(ctx context.Context, id string) error
	RootfsIDs(ctx context.Context) ([]string, error)
	Usage(ctx context.Context, id string) (int64, error)
	Commit(ctx context.Context, id string, o image.CommitOptions) (digest.Digest, error)
	Changes(ctx context.Context, id string) ([]image.Change, error)
	// ImageTree is an image's root file system for a container to mount, detached and read-only; which tells several apart.
	ImageTree(ctx context.Context, id, which string, img *image.Image) (*os.File, error)
}

// Networks is what a container needs of networks.
type Networks interface {
	Get(ref string) (*network.Network, error)
	Plan(tx *store.Tx, containerID, name string, in network.Intent, d network.Draw) ([]network.Endpoint, error)
	Apply(ctx context.Context, id string, eps []network.Endpoint) (*network.Sandbox, error)
	Release(ctx context.Context, id string, eps []network.Endpoint) error
	Forget(tx *store.Tx, id string) error
	Check(n *network.Network, a network.Attachment) error
	PlanConnect(tx *store.Tx, id, name string, in network.Intent, n *network.Network, eps []network.Endpoint, d network.Draw) ([]network.Endpoint, error)
	PlanDisconnect(tx *store.Tx, id string, n *network.Network, eps []network.Endpoint) ([]network.Endpoint, error)
	PlanReturn(tx *store.Tx, id string, from, to []network.Endpoint) error
	Change(ctx context.Context, id string, before, after []network.Endpoint) error
	HostGateway() string
	Rename(tx *store.Tx, id, to string, eps []network.Endpoint) ([]network.Endpoint, error)
	Renamed(id string, eps []network.Endpoint)
	Event(action, id string, eps []network.Endpoint)
	Reconcile(ctx context.Context, live func(id string) bool) error
}

// Volumes is what a container needs of volumes.
type Volumes interface {
	Create(ctx context.Context, o volume.CreateOptions) (*volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Populate(ctx context.Context, name, root, path string) error
	Mount(ctx context.Context, name, container string) error
	Hold(ctx context.Context, name, container string) error
	Unmount(ctx context.Context, name, container string) error
	Release(holder string)
	Keep(tx *store.Tx, name string) error
}

// Runtime is what a container needs of shims.
type Runtime interface {
	BundleDir(id string) string
	Launch(ctx context.Context, b shim.Bundle) (shim.Task, error)
	Reattach(ctx context.Context, id string) (shim.Task, error)
	// Bury ends what is left of a container whose shim is gone.
	Bury(ctx context.Context, id string) error
	ReadExit(id string) (shim.Exit, bool, error)
	Sweep(ctx context.Context, keep func(id string) bool) error
}

// File is a file of the engine's that is mounted into a container.
type File struct{ Source, Destination string }

// SpecInput is everything an OCI specification is made from.
type SpecInput struct {
	C            *Snapshot
	Rootfs       string // mounted
	NetNS        string // "" = the host's
	PIDNS, IPCNS string // of the container whose namespace is shared; "" = as the mode says
	Shm          string // host directory for /dev/shm; "" = a private tmpfs
	Files        []File
	Points       []MountPoint // the container's, with sources that can be mounted
	Env          []string     // from links; the container's own entries win
}

// SpecBuilder is engine/oci.
type SpecBuilder interface {
	Build(in SpecInput) (*specs.Spec, error)
	Validate(c *Spec) error
	Resources(c *Spec) (*specs.LinuxResources, error)
	ExecProcess(c *Snapshot, rootfs string, o ExecOptions) (*specs.Process, error)
}

// Deps of a Manager; all are needed.
type Deps struct {
	DB       *store.DB
	Root     string // data-root/containers
	ExecRoot string
	Images   Rootfs
	Networks Networks
	Volumes  Volumes
	Runtime  Runtime
	Specs    SpecBuilder
	Events   *event.Bus
	Log      *slog.Logger
	Host     host.Facts
	Defaults Defaults
}

// Defaults of the daemon for what a container does not say.
type Defaults struct {
	LogDriver     string
	LogOptions    map[string]string
	ShmSize       int64
	Runtime       string                  // of a container that names none
	Runtimes      map[string]shim.Runtime // by name, beside the one built in
	DNS           []string
	DNSSearch     []string
	DNSOptions    []string
	MaskedPaths   []string
	ReadonlyPaths []string
}

func (d *Deps) validate() error {
	if d.DB == nil || d.Images == nil || d.Networks == nil || d.Volumes == nil || d.Runtime == nil || d.Specs == nil || d.Events == nil || d.Log == nil {
		return errors.New("container: a dependency is missing")
	}
	return nil
}
