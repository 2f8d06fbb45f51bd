package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/internal/ids"
)

// namespace is the one containerd namespace everything lives in.
const namespace = "moby"

// Options of a Service.
type Options struct {
	Root        string // data-root
	Snapshotter string // overlayfs or native; "" = the best that works here
	Registry    registry.Config
	// How many blobs come or go at once, and how often one is tried in vain; 0 = dockerd's default.
	MaxDownloads, MaxUploads, MaxAttempts int
	Publish                               func(event.Event) // may be nil
	Log                                   *slog.Logger
	Now                                   func() time.Time // nil = time.Now
}

// Service owns the stores. Safe for concurrent use.
type Service struct {
	o        Options
	bolt     *bbolt.DB
	db       *metadata.DB
	content  content.Store
	sn       snapshots.Snapshotter
	snName   string
	images   images.Store
	leases   leases.Manager
	registry *registry.Client
	inits    singleflight.Group
	jobs     jobs
	// downloads and uploads have room for as many as may run at once.
	downloads, uploads chan struct{}
	// markSpace is the name space of overlay's extended attributes here: trusted or user.
	markSpace string
	dirty     chan struct{}
	life      context.Context // ends with Close
	closeSn   func() error
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu struct {
		sync.Mutex
		inUse  func() []User
		sizes  map[digest.Digest]int64
		active map[string]int           // transfers by ref of the store
		byID   map[digest.Digest]*Image // resolved images; content is immutable, so entries only ever go with their image
	}
}

// Open assembles the stores below root.
func Open(ctx context.Context, o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	// containerd would run these programs if it found them in PATH; nothing outside this binary touches image data.
	for _, k := range []string{"CONTAINERD_DISABLE_PIGZ", "CONTAINERD_DISABLE_IGZIP"} {
		if err := os.Setenv(k, "1"); err != nil {
			return nil, err
		}
	}
	o.MaxDownloads, o.MaxUploads, o.MaxAttempts = cmp.Or(o.MaxDownloads, 3), cmp.Or(o.MaxUploads, 5), cmp.Or(o.MaxAttempts, 5)
	s := &Service{o: o, snName: o.Snapshotter, downloads: make(chan struct{}, o.MaxDownloads), uploads: make(chan struct{}, o.MaxUploads)}
	var err error
	if s.registry, err = registry.New(o.Registry); err != nil {
		return nil, err
	}
	s.mu.active, s.mu.sizes = map[string]int{}, map[digest.Digest]int64{}
	s.mu.byID = map[digest.Digest]*Image{}
	if err := os.MkdirAll(filepath.Join(o.Root, "snapshots"), 0o711); err != nil {
		return nil, err
	}
	tmp := filepath.Join(o.Root, "tmp")
	if err := errors.Join(sweepTmp(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return nil, err
	}
	cs, err := local.NewStore(filepath.Join(o.Root, "content"))
	if err != nil {
		return nil, err
	}
	sn, err := s.snapshotter(ctx)
	if err != nil {
		return nil, err
	}
	s.closeSn = sn.Close
	s.bolt, err = bbolt.Open(filepath.Join(o.Root, "meta.db"), 0o600, &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true})
	if err != nil {
		return nil, fmt.Errorf("meta.db: %w", err)
	}
	s.db = metadata.NewDB(s.bolt, cs, map[string]snapshots.Snapshotter{s.snName: sn})
	if err := s.db.Init(ctx); err != nil {
		return nil, errors.Join(err, s.bolt.Close())
	}
	s.content, s.sn = s.db.ContentStore(), s.db.Snapshotter(s.snName)
	s.images, s.leases = metadata.NewImageStore(s.db), metadata.NewLeaseManager(s.db)
	if err := s.dropLeases(ctx); err != nil {
		return nil, errors.Join(err, s.bolt.Close())
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.life, s.stop, s.dirty = run, stop, make(chan struct{}, 1)
	s.wg.Add(1)
	go s.janitor(run)
	return s, s.collect(ctx)
}

// sweepTmp removes what an earlier life left, mounts first.
func sweepTmp(dir string) error {
	ents, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range ents {
		p := filepath.Join(dir, e.Name())
		_ = unix.Unmount(p, unix.MNT_DETACH) // mostly it is none
		err = errors.Join(err, os.RemoveAll(p))
	}
	return err
}

// leasePrefix marks the leases of running operations. Only one engine has these stores, so at its start there are none.
const leasePrefix = "working/"

func (s *Service) dropLeases(ctx context.Context) error {
	ctx = ns(ctx)
	all, err := s.leases.List(ctx)
	for _, l := range all {
		if strings.HasPrefix(l.ID, leasePrefix) {
			err = errors.Join(err, s.leases.Delete(ctx, l))
		}
	}
	return err
}

// janitor frees what removed containers had, a moment later and many at once: nobody waits for it.
func (s *Service) janitor(ctx context.Context) {
	defer s.wg.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		if err := s.collect(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("collecting garbage", "error", err)
		}
	}
}

// behind runs f after the caller has its answer; Close ends it.
func (s *Service) behind(what string, f func(ctx context.Context) error) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		if err := f(s.life); err != nil && s.life.Err() == nil {
			s.o.Log.Warn(what, "error", err)
		}
	}()
}

// later asks the janitor to collect.
func (s *Service) later() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

func (s *Service) snapshotter(ctx context.Context) (snapshots.Snapshotter, error) {
	root := filepath.Join(s.o.Root, "snapshots")
	if s.snName == "" || s.snName == "overlay2" || s.snName == "overlayfs" {
		if err := overlayutils.Supported(root); err == nil {
			s.snName, s.markSpace = "overlayfs", "trusted"
			if user, err := overlayutils.NeedsUserXAttr(root); err == nil && user {
				s.markSpace = "user"
			}
			return newSweeper(ctx, filepath.Join(root, s.snName))
		} else if s.snName != "" {
			return nil, fmt.Errorf("storage driver %s: %w", s.snName, err)
		}
	}
	s.snName = "native"
	return native.NewSnapshotter(filepath.Join(root, s.snName))
}

// Close releases the files.
func (s *Service) Close() error {
	s.stop()
	s.wg.Wait()
	return errors.Join(s.bolt.Close(), s.closeSn())
}

// SetInUse tells where to ask which containers need images.
func (s *Service) SetInUse(f func() []User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.inUse = f
}

// Driver is the snapshotter's name, Status what `docker info` shows for it.
func (s *Service) Driver() (name string, status [][2]string) {
	return s.snName, [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
}

func (s *Service) users() []User {
	s.mu.Lock()
	f := s.mu.inUse
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

func ns(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, namespace) }

// leased runs f under a temporary lease: what it stores is kept until it returns, whatever becomes of this process.
func (s *Service) leased(ctx context.Context, f func(ctx context.Context) error) error {
	ctx = ns(ctx)
	l, err := s.leases.Create(ctx, leases.WithID(leasePrefix+ids.New()), leases.WithExpiration(24*time.Hour))
	if err != nil {
		return err
	}
	err = f(leases.WithLease(ctx, l.ID))
	clean := ns(context.WithoutCancel(ctx))
	if derr := s.leases.Delete(clean, l); derr != nil {
		err = errors.Join(err, derr)
	}
	if err != nil {
		err = errors.Join(err, s.collect(clean)) // what was half-made goes at once
	}
	return err
}

// collect removes what no image, lease or container needs.
func (s *Service) collect(ctx context.Context) error {
	_, err := s.db.GarbageCollect(ns(ctx))
	return err
}

func (s *Service) publish(action, id, name string) {
	if s.o.Publish != nil {
		s.o.Publish(event.Event{Type: event.Image, Action: action, ID: id, Attributes: map[string]string{"name": name}, Time: s.o.Now().UTC()})
	}
}
