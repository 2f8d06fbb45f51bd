package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/internal/ids"
)

// service opens stores in a directory of the test. Unpacking needs root.
func service(t testing.TB, change ...func(*Options)) *Service {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: unpacking layers and mounting overlays")
	}
	o := Options{Root: t.TempDir(), Log: slog.New(slog.DiscardHandler), Registry: registry.Config{}}
	for _, f := range change {
		f(&o)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// recorder collects events.
type recorder struct{ list []event.Event }

func (r *recorder) publish(e event.Event) { r.list = append(r.list, e) }

// file is an entry of a test layer; a name that ends with a slash is a directory.
type file struct{ name, body string }

func layerTar(t testing.TB, fs ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range fs {
		h := &tar.Header{Name: f.name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(f.body)), ModTime: time.Unix(1_000_000_000, 0)}
		if f.name[len(f.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarOf packs named contents.
func tarOf(t testing.TB, fs ...file) *bytes.Buffer { return bytes.NewBuffer(layerTar(t, fs...)) }

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dockerArchive is what `docker save` wrote before version 25.
func dockerArchive(t testing.TB, tags []string, layers ...[]byte) *bytes.Buffer {
	t.Helper()
	cfg := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: ocispec.RootFS{Type: "layers"}, Config: ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"A=1"}}}
	var fs []file
	var names []string
	for i, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(l))
		cfg.History = append(cfg.History, ocispec.History{CreatedBy: fmt.Sprint("layer ", i)})
		n := fmt.Sprintf("l%d/layer.tar", i)
		names = append(names, n)
		fs = append(fs, file{n, string(l)})
	}
	raw := mustJSON(t, cfg)
	config := digest.FromString(raw).Encoded() + ".json"
	fs = append(fs, file{config, raw}, file{"manifest.json", mustJSON(t, []any{map[string]any{"Config": config, "RepoTags": tags, "Layers": names}})})
	return tarOf(t, fs...)
}

// load brings an archive in and returns the image of the first tag.
func load(t *testing.T, s *Service, tag string, layers ...[]byte) *Image {
	t.Helper()
	if err := s.Load(t.Context(), dockerArchive(t, []string{tag}, layers...), LoadOptions{}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	img, err := s.Resolve(t.Context(), tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// container prepares a root file system and mounts it; it goes with the test.
func container(t *testing.T, s *Service, img *Image) (id, dir string) {
	t.Helper()
	id, dir = ids.New(), t.TempDir()
	if err := s.Prepare(t.Context(), id, img); err != nil {
		t.Fatal(err)
	}
	if err := s.MountRootfs(t.Context(), id, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH) // the test may have done it
		if err := s.RemoveRootfs(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return id, dir
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, body string, elem ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(elem...), []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}
