package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/image/registry"
)

// hubOf is a registry whose answers a test can spoil.
type hubOf struct {
	*httptest.Server
	t    testing.TB
	mu   sync.Mutex
	seen []string // method path range
	// spoil may answer in the registry's place; it returns whether it did.
	spoil func(w http.ResponseWriter, r *http.Request) bool
	inner http.Handler
}

func hub(t testing.TB) *hubOf {
	t.Helper()
	h := &hubOf{t: t, inner: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.seen = append(h.seen, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
		spoil := h.spoil
		h.mu.Unlock()
		if spoil == nil || !spoil(w, r) {
			h.inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hubOf) host() string { return strings.TrimPrefix(h.URL, "http://") }

func (h *hubOf) set(f func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spoil = f
}

func (h *hubOf) requests(part string) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.seen {
		if strings.Contains(s, part) {
			out = append(out, s)
		}
	}
	return out
}

// put stores something behind the test's back.
func (h *hubOf) put(path, mediaType string, b []byte) {
	h.t.Helper()
	r := httptest.NewRequest(http.MethodPut, path, bytes.NewReader(b))
	r.Header.Set("Content-Type", mediaType)
	if strings.Contains(path, "/blobs/") {
		r = httptest.NewRequest(http.MethodPost, path, bytes.NewReader(b))
	}
	w := httptest.NewRecorder()
	h.inner.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		h.t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
}

func (h *hubOf) blob(repo string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	h.put("/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "", b)
	return ocispec.Descriptor{Digest: d, Size: int64(len(b))}
}

// image stores an image of the given plain layers, packed by pack, and returns its manifest.
func (h *hubOf) image(repo, tag string, p ocispec.Platform, pack func([]byte) []byte, kind string, layers ...[]byte) ocispec.Descriptor {
	h.t.Helper()
	cfg := ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers"}, Config: ocispec.ImageConfig{Cmd: []string{"sh"}}}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for _, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(l))
		d := h.blob(repo, pack(l))
		d.MediaType = kind
		m.Layers = append(m.Layers, d)
	}
	m.Config = h.blob(repo, []byte(mustJSON(h.t, cfg)))
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	raw := []byte(mustJSON(h.t, m))
	if tag == "" {
		tag = digest.FromBytes(raw).String()
	}
	h.put("/v2/"+repo+"/manifests/"+tag, m.MediaType, raw)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Platform: &p}
}

var here = ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func asIs(b []byte) []byte { return b }

// noise does not compress, so that a blob has a length to cut.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

type rows struct {
	mu   sync.Mutex
	list []Progress
}

func (r *rows) add(p Progress) { r.mu.Lock(); defer r.mu.Unlock(); r.list = append(r.list, p) }

func (r *rows) statuses() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.list {
		if p.Status != "Downloading" && p.Status != "Extracting" {
			out = append(out, strings.TrimSpace(p.ID+" "+p.Status))
		}
	}
	return out
}

func TestPull(t *testing.T) {
	for name, pack := range map[string]struct {
		f    func([]byte) []byte
		kind string
	}{"gzip": {zipped, ocispec.MediaTypeImageLayerGzip}, "zstd": {zstded, ocispec.MediaTypeImageLayerZstd}, "plain": {asIs, ocispec.MediaTypeImageLayer}} {
		t.Run(name, func(t *testing.T) {
			h := hub(t)
			d := h.image("x", "1", here, pack.f, pack.kind, layerTar(t, file{"a", "a"}), layerTar(t, file{"b", "b"}))
			rec := &recorder{}
			s := service(t, func(o *Options) { o.Publish = rec.publish })
			var r rows
			if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x", Tag: "1"}, r.add); err != nil {
				t.Fatal(err)
			}
			got := r.statuses()
			if got[0] != "1 Pulling from x" || got[len(got)-2] != "Digest: "+d.Digest.String() || got[len(got)-1] != "Status: Downloaded newer image for "+h.host()+"/x:1" {
				t.Errorf("%q", got)
			}
			for _, want := range []string{"Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"} {
				if n := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !strings.HasSuffix(s, want) })); n != 2 {
					t.Errorf("%d rows %q, want 2: %q", n, want, got)
				}
			}
			img, err := s.Resolve(t.Context(), h.host()+"/x:1", nil)
			if err != nil || img.ID != d.Digest {
				t.Fatalf("%v %+v", err, img)
			}
			if _, dir := container(t, s, img); read(t, dir, "a")+read(t, dir, "b") != "ab" {
				t.Error("contents")
			}
			r = rows{}
			if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, r.add); err != nil {
				t.Fatal(err)
			}
			want := []string{"1 Pulling from x", "Digest: " + d.Digest.String(), "Status: Image is up to date for " + h.host() + "/x:1"}
			if got := r.statuses(); !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
			if len(rec.list) != 2 || rec.list[0].Action != "pull" || rec.list[0].ID != h.host()+"/x:1" {
				t.Errorf("%+v", rec.list)
			}
		})
	}
}

// bigBlob keeps apart what is cut: configs are small.
func bigBlob(inner http.Handler, n int, f func(w http.ResponseWriter, b []byte) bool) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		plain := r.Clone(r.Context())
		plain.Header.Del("Range")
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, plain)
		if rec.Body.Len() < n {
			return false
		}
		b := rec.Body.Bytes()
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
			w.Header().Set("Content-Length", fmt.Sprint(len(b)-from))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		}
		return f(w, b[from:])
	}
}

func TestPullResumesACutBlob(t *testing.T) {
	h := hub(t)
	h.image("x", "1", here, asIs, ocispec.MediaTypeImageLayer, layerTar(t, file{"a", noise(1 << 20)}))
	cuts := 0
	h.set(bigBlob(h.inner, 1<<20, func(w http.ResponseWriter, b []byte) bool {
		if cuts++; cuts <= 7 { // more often than MaxAttempts: each brings something
			_, _ = w.Write(b[:100_000])
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(b)
		return true
	}))
	s := service(t)
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if got := h.requests("bytes=700000-"); len(got) != 1 {
		t.Errorf("requests %q", h.requests("/blobs/"))
	}
}

func TestPullResumesAfterACrash(t *testing.T) {
	h := hub(t)
	h.image("x", "1", here, asIs, ocispec.MediaTypeImageLayer, layerTar(t, file{"a", noise(1 << 20)}))
	h.set(bigBlob(h.inner, 1<<20, func(w http.ResponseWriter, b []byte) bool {
		_, _ = w.Write(b[:min(len(b), 300_000)])
		panic(http.ErrAbortHandler)
	}))
	root := t.TempDir()
	s := service(t, func(o *Options) { o.Root, o.MaxAttempts = root, 1 })
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}); err == nil {
		t.Fatal("pulled")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.set(bigBlob(h.inner, 1<<20, func(w http.ResponseWriter, b []byte) bool { _, _ = w.Write(b); return true }))
	s2, err := Open(t.Context(), s.o)
	if err != nil {
		t.Fatal(err)
	}
	defer s2.Close()
	if err := s2.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if len(h.requests("bytes=300000-")) != 1 {
		t.Errorf("requests %q", h.requests("/blobs/"))
	}
	s.bolt = s2.bolt // the clean-up of the first service closes what is open
}

func TestPullRetries(t *testing.T) {
	for name, code := range map[string]int{"too many": 429, "unavailable": 503, "internal": 500} {
		t.Run(name, func(t *testing.T) {
			h := hub(t)
			h.image("x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
			left := map[string]int{}
			h.set(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/" {
					return false
				}
				h.mu.Lock()
				left[r.URL.Path]++
				first := left[r.URL.Path] == 1
				h.mu.Unlock()
				if first {
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(code)
				}
				return first
			})
			s := service(t)
			if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// nothingLeft fails if the stores hold anything but what keep names.
func nothingLeft(t *testing.T, s *Service) {
	t.Helper()
	ctx := ns(t.Context())
	all, err := s.images.List(ctx)
	if err != nil || len(all) != 0 {
		t.Errorf("names: %v %v", all, err)
	}
	if _, err := s.dropPartial(ctx); err != nil {
		t.Error(err)
	}
	if err := s.collect(ctx); err != nil {
		t.Error(err)
	}
	if err := s.content.Walk(ctx, func(i content.Info) error { t.Errorf("blob %s", i.Digest); return nil }); err != nil {
		t.Error(err)
	}
	if n, err := s.Stored(ctx); err != nil || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	ls, err := s.leases.List(ctx)
	if err != nil || len(ls) != 0 {
		t.Errorf("leases: %v %v", ls, err)
	}
}

func TestPullRefusesWhatIsWrong(t *testing.T) {
	good := layerTar(t, file{"a", noise(4096)})
	for name, tc := range map[string]struct {
		spoil func(h *hubOf)
		want  string
	}{
		"other bytes": {func(h *hubOf) {
			h.set(bigBlob(h.inner, 4096, func(w http.ResponseWriter, b []byte) bool {
				c := bytes.Clone(b)
				c[len(c)-1] ^= 1
				_, _ = w.Write(c)
				return true
			}))
		}, "blob sha256"},
		"too many bytes": {func(h *hubOf) {
			h.set(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				h.inner.ServeHTTP(&noLength{w}, r)
				_, _ = io.WriteString(w, "more")
				return true
			})
		}, "larger than its"},
		"schema 1": {func(h *hubOf) {
			h.set(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
				_, _ = io.WriteString(w, `{"schemaVersion":1,"name":"x","fsLayers":[]}`)
				return true
			})
		}, "schema 1 support has been removed"},
		"two documents in one": {func(h *hubOf) {
			h.put("/v2/x/manifests/1", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`))
		}, "at once"},
		"a huge manifest": {func(h *hubOf) {
			h.set(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				for range 5 << 10 {
					if _, err := w.Write(make([]byte, 1024)); err != nil {
						break
					}
				}
				return true
			})
		}, "larger than"},
		"too many layers": {func(h *hubOf) {
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("{}"), Size: 2}}
			m.SchemaVersion = 2
			for range maxLayers + 1 {
				m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 1})
			}
			h.spoilManifest(m.MediaType, []byte(mustJSON(h.t, m)))
		}, "layers, more than"},
		"no image": {func(h *hubOf) {
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json", Digest: digest.FromString("{}"), Size: 2}}
			m.SchemaVersion = 2
			h.spoilManifest(m.MediaType, []byte(mustJSON(h.t, m)))
		}, "not an image"},
		"a bad digest": {func(h *hubOf) {
			h.spoilManifest(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"mediaType":"`+ocispec.MediaTypeImageConfig+`","digest":"../../etc","size":1},"layers":[]}`))
		}, "descriptor"},
		"a redirect to another scheme": {func(h *hubOf) {
			h.set(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
				return true
			})
		}, "file"},
		"no gzip": {func(h *hubOf) {
			h.image("x", "1", here, func([]byte) []byte { return []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3} }, ocispec.MediaTypeImageLayerGzip, good)
		}, "archive"},
		"another layer than promised": {func(h *hubOf) {
			h.image("x", "1", here, func([]byte) []byte { return zipped(layerTar(h.t, file{"b", "b"})) }, ocispec.MediaTypeImageLayerGzip, good)
		}, "unpacked digest"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hub(t)
			h.image("x", "1", here, asIs, ocispec.MediaTypeImageLayer, good)
			tc.spoil(h)
			s := service(t)
			err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			nothingLeft(t, s)
		})
	}
}

// noLength hides how long an answer is meant to be.
type noLength struct{ http.ResponseWriter }

func (n *noLength) WriteHeader(code int) {
	n.Header().Del("Content-Length")
	n.ResponseWriter.WriteHeader(code)
}

func (h *hubOf) spoilManifest(mediaType string, b []byte) {
	h.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(b)
		return true
	})
}

func TestPullJoins(t *testing.T) {
	h := hub(t)
	h.image("x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
	s := service(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			once.Do(func() { close(started) })
			<-goOn
		}
		return false
	})
	var wg sync.WaitGroup
	var rs [3]rows
	var errs [3]error
	for i := range rs {
		if i == 1 {
			<-started
		}
		first := make(chan struct{})
		var saw sync.Once
		wg.Go(func() {
			errs[i] = s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(p Progress) { saw.Do(func() { close(first) }); rs[i].add(p) })
		})
		if i > 0 {
			<-first // it has joined: it sees what went before
		}
	}
	close(goOn)
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if n := len(h.requests("/manifests/")); n != 1 {
		t.Errorf("%d requests for the manifest", n)
	}
	if !slices.Equal(rs[0].statuses(), rs[2].statuses()) {
		t.Errorf("%q\n%q", rs[0].statuses(), rs[2].statuses())
	}
}

func TestPullEndsWhenTheLastLeaves(t *testing.T) {
	h := hub(t)
	h.image("x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
	s := service(t)
	started, ended := make(chan struct{}, 8), make(chan struct{})
	h.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			started <- struct{}{}
			<-r.Context().Done()
			close(ended)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	a, leaveA := context.WithCancel(t.Context())
	b, leaveB := context.WithCancel(t.Context())
	ea, eb, joined := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() { ea <- s.Pull(a, PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}) }()
	<-started
	var once sync.Once
	go func() {
		eb <- s.Pull(b, PullOptions{Ref: h.host() + "/x:1"}, func(Progress) { once.Do(func() { close(joined) }) })
	}()
	<-joined
	leaveA()
	if err := <-ea; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-ended:
		t.Error("the work ended though somebody waits")
	default:
	}
	leaveB()
	if err := <-eb; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the work goes on though nobody waits")
	}
	nothingLeft(t, s)
}

func TestPullPlatform(t *testing.T) {
	h := hub(t)
	other := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		h.image("x", "", other, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"f", "s390x"})),
		h.image("x", "", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"f", "here"})),
	}}
	idx.SchemaVersion = 2
	raw := []byte(mustJSON(t, idx))
	h.put("/v2/x/manifests/1", idx.MediaType, raw)
	s := service(t)
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	img, err := s.Resolve(t.Context(), h.host()+"/x:1", nil)
	if err != nil || img.ID != digest.FromBytes(raw) || img.Platform.Architecture != runtime.GOARCH {
		t.Fatalf("%v %+v", err, img)
	}
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1", Platform: &other}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if img, err = s.Resolve(t.Context(), h.host()+"/x:1", &other); err != nil || img.Platform.Architecture != "s390x" {
		t.Errorf("%v %+v", err, img)
	}
	err = s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1", Platform: &ocispec.Platform{OS: "linux", Architecture: "riscv64"}}, func(Progress) {})
	if !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "no matching manifest for linux/riscv64 in the manifest list entries") {
		t.Error(err)
	}
}

func TestPullAllTagsAndDigest(t *testing.T) {
	h := hub(t)
	d := h.image("x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
	h.image("x", "2", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
	s := service(t)
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x", All: true}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"/x:1", "/x:2", "/x@" + d.Digest.String()} {
		if _, err := s.Resolve(t.Context(), h.host()+ref, nil); err != nil {
			t.Error(err)
		}
	}
	var r rows
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x", Tag: d.Digest.String()}, r.add); err != nil {
		t.Fatal(err)
	}
	if got := r.statuses(); got[0] != h.host()+"/x@"+d.Digest.String()+" Pulling from x" {
		t.Errorf("%q", got)
	}
}

func TestPullErrors(t *testing.T) {
	h := hub(t)
	s := service(t)
	host := h.host()
	for _, tc := range []struct {
		o    PullOptions
		is   func(error) bool
		text string
	}{
		{PullOptions{Ref: host + "/none:1"}, errdefs.IsNotFound, fmt.Sprintf(`failed to resolve reference "%s/none:1": %[1]s/none:1: not found`, host)},
		{PullOptions{Ref: "UPPER"}, errdefs.IsInvalidArgument, "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{PullOptions{Ref: "a", Tag: "b c"}, errdefs.IsInvalidArgument, "invalid tag format"},
		{PullOptions{Ref: "scratch", Tag: "latest"}, errdefs.IsPermissionDenied, "'scratch' is a reserved name"},
		{PullOptions{Ref: "127.0.0.1:9/x/y", Tag: "1"}, func(err error) bool { return !errdefs.IsNotFound(err) }, `failed to resolve reference "127.0.0.1:9/x/y:1": failed to do request: Head "https://127.0.0.1:9/v2/x/y/manifests/1": dial tcp 127.0.0.1:9: connect: connection refused`},
	} {
		err := s.Pull(t.Context(), tc.o, func(p Progress) { t.Errorf("%+v: row %+v", tc.o, p) })
		if err == nil || !tc.is(err) || err.Error() != tc.text {
			t.Errorf("%+v: %v", tc.o, err)
		}
	}
}

func TestPullByMirror(t *testing.T) {
	h := hub(t)
	h.image("library/x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
	s := service(t, func(o *Options) { o.Registry = registry.Config{Mirrors: []string{"http://127.0.0.1:9", h.URL}} })
	if err := s.Pull(t.Context(), PullOptions{Ref: "x:1"}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), "docker.io/library/x:1", nil); err != nil {
		t.Error(err)
	}
}

// locked asks for a token that lives for uses requests.
func locked(h *hubOf, user, password string, uses int) func(w http.ResponseWriter, r *http.Request) bool {
	left, n := map[string]int{}, 0
	return func(w http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if r.URL.Path == "/token" {
			u, p, _ := r.BasicAuth()
			if u != user || p != password {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			n++
			tok := fmt.Sprint("token", n)
			left[tok] = uses
			_ = json.NewEncoder(w).Encode(map[string]any{"token": tok, "expires_in": 60})
			return true
		}
		tok := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if left[tok] > 0 {
			left[tok]--
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s",scope="repository:x:pull"`, h.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

func TestPullWithATokenThatEnds(t *testing.T) {
	h := hub(t)
	h.image("x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}), layerTar(t, file{"b", "b"}))
	h.set(locked(h, "joe", "secret", 1))
	s := service(t)
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1", Auth: &Auth{Username: "joe", Password: "secret"}}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if len(h.requests("/token")) < 2 {
		t.Errorf("%q", h.requests(""))
	}
	err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/y:1"}, func(Progress) {})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pull access denied for "+h.host()+"/y, repository does not exist or may require 'docker login'") {
		t.Error(err)
	}
}

func TestPullWithBasicAuth(t *testing.T) {
	h := hub(t)
	h.image("x", "1", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"a", "a"}))
	h.set(func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == "joe" && p == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s := service(t)
	err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {})
	if err == nil || !strings.HasSuffix(err.Error(), "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials") {
		t.Error(err)
	}
	err = s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1", Auth: &Auth{Username: "joe", Password: "no"}}, func(Progress) {})
	if err == nil || !strings.HasSuffix(err.Error(), "401 Unauthorized") {
		t.Error(err)
	}
	if err = s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1", Auth: &Auth{Username: "joe", Password: "secret"}}, func(Progress) {}); err != nil {
		t.Error(err)
	}
}

func TestCredentialsStayHome(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s got %q", r.URL, r.Header.Get("Authorization"))
		}
	}))
	defer thief.Close()
	elsewhere := strings.Replace(thief.URL, "127.0.0.1", "localhost", 1)
	for name, spoil := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"token realm": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, elsewhere))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				w.WriteHeader(http.StatusUnauthorized)
			} else if strings.Contains(r.URL.Path, "/manifests/") {
				http.Redirect(w, r, elsewhere+"/x", http.StatusTemporaryRedirect)
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := hub(t)
			h.set(spoil)
			s := service(t)
			if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1", Auth: &Auth{Username: "joe", Password: "secret"}}, func(Progress) {}); err == nil {
				t.Error("pulled")
			}
		})
	}
}
