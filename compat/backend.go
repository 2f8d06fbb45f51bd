package compat

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/network"
	"github.com/berthd/berth/engine/volume"
)

// Backend is what the handlers need of the engine.
type Backend struct {
	Containers containers
	Images     images
	Networks   networks
	Volumes    volumes
	Build      build.Builder
	Events     events
	System     func() Info
	// BuildFilter makes one of build.PruneOptions.Filters, or says that the builder knows no such key.
	BuildFilter func(key, op, value string) (string, error)
}

type containers interface {
	Create(ctx context.Context, o container.CreateOptions) (container.ID, []string, error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o container.StopOptions) error
	Restart(ctx context.Context, ref string, o container.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Remove(ctx context.Context, ref string, o container.RemoveOptions) error
	Rename(ctx context.Context, ref, name string) error
	Resize(ctx context.Context, ref string, rows, cols uint16) error
	Wait(ctx context.Context, ref string, c container.WaitCondition) (<-chan container.WaitResult, error)
	Attach(ctx context.Context, ref string, o container.AttachOptions) (*container.Streams, error)
	Logs(ctx context.Context, ref string, o container.LogOptions) (*container.LogReader, error)
	Get(ref string) (*container.Snapshot, error)
	List() []*container.Snapshot
	ExecCreate(ctx context.Context, ref string, o container.ExecOptions) (string, error)
	ExecStart(ctx context.Context, id string, o container.ExecStartOptions) (*container.Streams, error)
	ExecGet(id string) (*container.Exec, error)
	ExecResize(ctx context.Context, id string, rows, cols uint16) error
	LinkNames() (of func(*container.Snapshot) []string, names map[container.ID][]string)
	ExecIDs(id container.ID) []string
	Stats(ctx context.Context, ref string, stream bool) (*container.Snapshot, iter.Seq[container.Usage], error)
	Top(ctx context.Context, ref string, args []string) (*container.Processes, error)
	Prune(ctx context.Context, want container.ListFilter) (ids []string, bytes int64, err error)
	Update(ctx context.Context, ref string, r container.Resources, p container.RestartPolicy) ([]string, error)
	StatPath(ctx context.Context, ref, path string) (*container.FileInfo, error)
	GetArchive(ctx context.Context, ref, path string, head func(*container.FileInfo) io.Writer) error
	PutArchive(ctx context.Context, ref, path string, src io.Reader, o container.PutOptions) error
	Export(ctx context.Context, ref string, begin func() io.Writer) error
	Commit(ctx context.Context, ref string, o container.CommitOptions) (string, error)
	Changes(ctx context.Context, ref string) ([]container.Change, error)
	Connect(ctx context.Context, network, ref string, a network.Attachment) error
	Disconnect(ctx context.Context, network, ref string, force bool) error
	LogPath(id container.ID) string
	Dir(id container.ID) string
}

type images interface {
	Resolve(ctx context.Context, ref string, p *ocispec.Platform) (*image.Image, error)
	Load(ctx context.Context, r io.Reader, o image.LoadOptions, p image.ProgressFunc) error
	Import(ctx context.Context, r io.Reader, o image.ImportOptions) (digest.Digest, error)
	Fetch(ctx context.Context, url string) (io.ReadCloser, error)
	Pull(ctx context.Context, o image.PullOptions, p image.ProgressFunc) error
	List(ctx context.Context, o image.ListOptions) ([]image.Summary, error)
	Inspect(ctx context.Context, ref string, p *ocispec.Platform) (*image.Details, error)
	Manifests(ctx context.Context, ref string) ([]image.Manifest, error)
	History(ctx context.Context, ref string, p *ocispec.Platform) ([]image.HistoryEntry, error)
	Save(ctx context.Context, refs []string, p *ocispec.Platform, begin func() io.Writer) error
	Push(ctx context.Context, o image.PushOptions, p image.ProgressFunc) error
	Prune(ctx context.Context, o image.PruneOptions) ([]image.Deleted, int64, error)
	Distribution(ctx context.Context, ref string, a *image.Auth) (*image.Remote, error)
	Search(ctx context.Context, term string, limit int, a *image.Auth) ([]image.Found, error)
	Login(ctx context.Context, a image.Auth) error
	Tag(ctx context.Context, src, repo, tag string) error
	Delete(ctx context.Context, ref string, o image.DeleteOptions) ([]image.Deleted, error)
	Driver() (string, [][2]string)
	Stored(ctx context.Context) (int64, error)
	Usage(ctx context.Context, id string) (int64, error)
	Sizes(ctx context.Context, id string) (own, whole int64, err error)
}

type networks interface {
	Get(ref string) (*network.Network, error)
	List() []*network.Network
	Containers(id network.ID) (map[string]network.Endpoint, error)
	Create(ctx context.Context, o network.CreateOptions) (network.ID, error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, want func(*network.Network) bool) ([]string, error)
}

type volumes interface {
	Create(ctx context.Context, o volume.CreateOptions) (*volume.Volume, error)
	Get(name string) (*volume.Volume, error)
	List() ([]*volume.Volume, error)
	Size(v *volume.Volume) int64
	Users(name string) int
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, want func(*volume.Volume) bool) (names []string, bytes int64, err error)
}

type events interface {
	Subscribe(ctx context.Context, match func(*event.Event) bool, since, until time.Time) iter.Seq[event.Event]
	Listeners() int
}
