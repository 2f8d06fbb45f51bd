package buildkit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/identity"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/internal/errkind"
)

var errCancelled = errors.New("the build was cancelled")

// Build implements build.Builder: the classic request as a solve with the Dockerfile frontend.
func (b *Builder) Build(ctx context.Context, r build.Request, report func(build.Progress)) (*build.Result, error) {
	c, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(r.Remote); r.Remote != "" && !strings.HasPrefix(r.Remote, "git@") && (err != nil || !slices.Contains([]string{"http", "https", "git", "ssh"}, u.Scheme)) && !strings.HasPrefix(r.Remote, "github.com/") {
		return nil, errkind.Internal("remoteURL (%s) could not be recognized as URL", r.Remote)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if r.BuildID != "" {
		b.mu.Lock()
		b.mu.builds[r.BuildID] = cancel
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.mu.builds, r.BuildID)
		}()
	}
	req := &controlapi.SolveRequest{Ref: identity.NewID(), Session: r.Session, Frontend: "dockerfile.v0", FrontendAttrs: attributes(&r), Cache: &controlapi.CacheOptions{}}
	if r.BuildID != "" {
		req.Ref = r.BuildID
	}
	if r.NetworkMode == "host" {
		req.Entitlements = append(req.Entitlements, "network.host")
	}
	for _, from := range r.CacheFrom {
		req.Cache.Imports = append(req.Cache.Imports, &controlapi.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": from}})
	}
	req.Exporters = exporters(&r)
	var f *dockerfile
	if r.Session == "" {
		s, err := c.serve(ctx, &r)
		if err != nil {
			return nil, err
		}
		defer s.close()
		req.Session, f = s.id, s.file
	}
	return c.solve(ctx, req, newTranscript(&r, f, report))
}

// Cancel implements build.Builder.
func (b *Builder) Cancel(_ context.Context, buildID string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancel := b.mu.builds[buildID]; cancel != nil {
		cancel(errCancelled)
	}
	return nil
}

func exporters(r *build.Request) []*controlapi.Exporter {
	if len(r.Outputs) == 0 {
		return []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": strings.Join(r.Tags, ",")}}}
	}
	var out []*controlapi.Exporter
	for _, o := range r.Outputs {
		e := &controlapi.Exporter{Type: o.Type, Attrs: o.Attrs}
		if (o.Type == "moby" || o.Type == "image") && len(r.Tags) > 0 {
			if e.Attrs == nil {
				e.Attrs = map[string]string{}
			}
			e.Attrs["name"] = strings.Join(r.Tags, ",")
		}
		out = append(out, e)
	}
	return out
}

// attributes are the options of the Dockerfile frontend. Source: BuildKit, frontend/dockerui.
func attributes(r *build.Request) map[string]string {
	a := map[string]string{}
	set := func(k, v string) {
		if v != "" {
			a[k] = v
		}
	}
	set("filename", r.Dockerfile)
	set("context", r.Remote)
	set("target", r.Target)
	set("platform", r.Platform)
	set("cgroup-parent", r.CgroupParent)
	for k, v := range r.Args {
		if v != nil {
			a["build-arg:"+k] = *v
		}
	}
	for k, v := range r.Labels {
		a["label:"+k] = v
	}
	if r.NoCache {
		a["no-cache"] = ""
	}
	if r.Pull {
		a["image-resolve-mode"] = "pull"
	}
	if r.NetworkMode == "host" || r.NetworkMode == "none" {
		a["force-network-mode"] = r.NetworkMode
	}
	var hosts []string
	for _, h := range r.ExtraHosts {
		name, ip, _ := strings.Cut(h, ":")
		hosts = append(hosts, name+"="+ip)
	}
	set("add-hosts", strings.Join(hosts, ","))
	number := func(k string, n int64) {
		if n != 0 {
			a[k] = strconv.FormatInt(n, 10)
		}
	}
	number("shm-size", r.ShmSize)
	number("memory", r.Limits.Memory)
	number("memswap", r.Limits.MemorySwap)
	number("cpushares", r.Limits.CPUShares)
	number("cpuperiod", r.Limits.CPUPeriod)
	number("cpuquota", r.Limits.CPUQuota)
	set("cpusetcpus", r.Limits.CpusetCpus)
	set("cpusetmems", r.Limits.CpusetMems)
	var limits []string
	for _, u := range r.Ulimits {
		limits = append(limits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	set("ulimit", strings.Join(limits, ","))
	return a
}

// solve runs the request and reports its progress until the last word.
func (c *core) solve(ctx context.Context, req *controlapi.SolveRequest, tr *transcript) (*build.Result, error) {
	var resp *controlapi.SolveResponse
	eg, ectx := errgroup.WithContext(ctx)
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // the status ends by itself with the solve
	defer stop()
	eg.Go(func() error {
		var err error
		resp, err = c.control.Solve(ectx, req)
		return err
	})
	eg.Go(func() error {
		return c.control.Status(&controlapi.StatusRequest{Ref: req.Ref}, &statusStream{ctx: sctx, send: tr.message})
	})
	if err := eg.Wait(); err != nil {
		return nil, tr.failure(ctx, err)
	}
	tr.end()
	res := &build.Result{}
	if raw, err := base64.StdEncoding.DecodeString(resp.ExporterResponse[exptypes.ExporterImageDescriptorKey]); err == nil && len(raw) > 0 {
		var d ocispec.Descriptor
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, err
		}
		res.ID = d.Digest
	} else if d := resp.ExporterResponse[exptypes.ExporterImageDigestKey]; d != "" {
		res.ID = digest.Digest(d)
	}
	return res, nil
}

// statusStream receives what the controller tells about a solve.
type statusStream struct {
	grpc.ServerStream
	ctx  context.Context
	send func(*controlapi.StatusResponse)
}

func (s *statusStream) Context() context.Context                { return s.ctx }
func (s *statusStream) SendHeader(metadata.MD) error            { return nil }
func (s *statusStream) SetHeader(metadata.MD) error             { return nil }
func (s *statusStream) SetTrailer(metadata.MD)                  {}
func (s *statusStream) Send(m *controlapi.StatusResponse) error { s.send(m); return nil }
func (s *statusStream) SendMsg(m any) error {
	if r, ok := m.(*controlapi.StatusResponse); ok {
		s.send(r)
	}
	return nil
}
