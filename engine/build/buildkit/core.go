package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/platforms"
	bkmetadata "github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/cache/remotecache"
	inlinecache "github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	bksnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/llbsolver/cdidevices"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/resolver/config"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	wlabel "github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// core is the opened builder.
type core struct {
	sessions *session.Manager
	control  *control.Controller
	grpc     *grpc.Server
	exec     *stepRunner
	stop     chan struct{}
}

// release is the version of BuildKit in this program, as its clients want to know it.
func release() string {
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, d := range bi.Deps {
			if d.Path == "github.com/moby/buildkit" {
				return d.Version
			}
		}
	}
	return "unknown"
}

func openCore(ctx context.Context, o *Options) (_ *core, err error) {
	version.Package, version.Version = "github.com/moby/buildkit", release()
	if err := os.MkdirAll(o.Root, 0o711); err != nil {
		return nil, err
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range undo {
				err = errors.Join(err, f())
			}
		}
	}()
	c := &core{stop: make(chan struct{})}
	if c.sessions, err = session.NewManager(); err != nil {
		return nil, err
	}
	w, err := c.worker(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("build worker: %w", err)
	}
	undo = append(undo, w.Close)
	wc := &worker.Controller{}
	if err := wc.Add(w); err != nil {
		return nil, err
	}
	gw, err := gateway.NewGatewayFrontend(wc.Infos(), nil)
	if err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(o.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	undo = append(undo, cache.Close)
	history, err := boltutil.SafeOpen(filepath.Join(o.Root, "history.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, err
	}
	undo = append(undo, history.Close)
	hosts := hosts(o)
	c.control, err = control.NewController(control.Opt{
		SessionManager:   c.sessions,
		WorkerController: wc,
		Frontends:        map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(wc.Infos(), builder.Build), "gateway.v0": gw},
		CacheManager:     solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(wc)),
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"inline":   inlinecache.ResolveCacheExporterFunc(),
			"local":    localcache.ResolveCacheExporterFunc(c.sessions),
			"registry": registrycache.ResolveCacheExporterFunc(c.sessions, hosts),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"local":    localcache.ResolveCacheImporterFunc(c.sessions),
			"registry": registrycache.ResolveCacheImporterFunc(c.sessions, w.ContentStore(), hosts),
		},
		Entitlements:   []string{"network.host", "security.insecure"}, // granted only to builds that ask for them
		HistoryDB:      history,
		CacheStore:     cache,
		LeaseManager:   w.LeaseManager(),
		ContentStore:   w.ContentStore(),
		GarbageCollect: w.GarbageCollect,
		GracefulStop:   c.stop,
	})
	if err != nil {
		return nil, err
	}
	c.grpc = grpc.NewServer(grpc.ChainUnaryInterceptor(unaryGuard(o)), grpc.ChainStreamInterceptor(streamGuard(o)), grpc.MaxRecvMsgSize(16<<20), grpc.MaxSendMsgSize(16<<20))
	c.control.Register(c.grpc)
	return c, nil
}

func (c *core) close() error {
	close(c.stop)
	c.grpc.Stop()
	return errors.Join(c.exec.wait(cleanLimit), c.control.Close())
}

const (
	snapshotMetadata = "metadata.db"
	// hostGatewayLabel tells clients what "host-gateway" in --add-host means here.
	hostGatewayLabel = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
)

func (c *core) worker(ctx context.Context, o *Options) (*storeWorker, error) {
	st := o.Stores
	id, err := base.ID(o.Root)
	if err != nil {
		return nil, err
	}
	md, err := bkmetadata.NewStore(filepath.Join(o.Root, snapshotMetadata))
	if err != nil {
		return nil, err
	}
	cdiCache, err := cdi.NewCache(cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, err
	}
	devices := cdidevices.NewManager(cdiCache, nil)
	var dns *oci.DNSConfig
	if len(o.DNS)+len(o.DNSSearch)+len(o.DNSOptions) > 0 {
		dns = &oci.DNSConfig{Nameservers: o.DNS, SearchDomains: o.DNSSearch, Options: o.DNSOptions}
	}
	nets := providers(o.Networks)
	if c.exec, err = newStepRunner(o, nets, dns, devices); err != nil {
		return nil, errors.Join(err, md.Close())
	}
	content := bksnapshot.NewContentStore(st.DB.ContentStore(), st.Namespace)
	names := &nameStore{store: metadata.NewImageStore(st.DB), namespace: st.Namespace, named: o.Named}
	w, err := base.NewWorker(ctx, base.WorkerOpt{
		ID:   id,
		Root: o.Root,
		// The snapshotter's label is what tells clients that image exports can be loaded.
		Labels:           map[string]string{wlabel.Executor: "oci", wlabel.Snapshotter: st.Snapshotter, hostGatewayLabel: o.HostGateway},
		MetadataStore:    md,
		NetworkProviders: nets,
		Executor:         c.exec,
		Snapshotter:      bksnapshot.NewSnapshotter(st.Snapshotter, st.DB.Snapshotter(st.Snapshotter), st.Namespace, nil),
		ContentStore:     content,
		Applier:          apply.NewFileSystemApplier(content),
		Differ:           walking.NewWalkingDiff(content),
		ImageStore:       names,
		RegistryHosts:    hosts(o),
		Platforms:        []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())},
		LeaseManager:     leaseutil.WithNamespace(metadata.NewLeaseManager(st.DB), st.Namespace),
		GarbageCollect:   st.DB.GarbageCollect,
		MountPoolRoot:    filepath.Join(o.Root, "mounts"),
		CDIManager:       devices,
		GCPolicy:         policy(o),
		BuildkitVersion:  client.BuildkitVersion{Package: version.Package, Version: version.Version},
	})
	if err != nil {
		return nil, errors.Join(err, md.Close())
	}
	return &storeWorker{Worker: w}, nil
}

// hosts is the registry policy of this daemon for BuildKit's resolver.
func hosts(o *Options) docker.RegistryHosts {
	return func(host string) ([]docker.RegistryHost, error) {
		entry := config.RegistryConfig{}
		all := map[string]config.RegistryConfig{}
		if o.Registry != nil {
			mirrors, insecure := o.Registry(host)
			for _, m := range mirrors {
				plain := strings.HasPrefix(m, "http://")
				name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(m, "https://"), "http://"), "/")
				entry.Mirrors = append(entry.Mirrors, name)
				all[name] = config.RegistryConfig{PlainHTTP: &plain}
			}
			if insecure {
				yes := true
				entry.Insecure, entry.PlainHTTP = &yes, &yes
			}
		}
		all[host] = entry
		return resolver.NewRegistryConfig(all)(host)
	}
}

// A panic in BuildKit fails one call; the engine and its containers do not notice.
func unaryGuard(o *Options) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (_ any, err error) {
		defer caught(o, info.FullMethod, &err)
		return h(ctx, req)
	}
}

func streamGuard(o *Options) grpc.StreamServerInterceptor {
	return func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
		defer caught(o, info.FullMethod, &err)
		return h(srv, s)
	}
}

func caught(o *Options, what string, err *error) {
	if p := recover(); p != nil {
		o.Log.Error("panic in the builder", "call", what, "value", p, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error in the builder")
	}
}
