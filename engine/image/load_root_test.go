package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The id of a docker-archive is the digest of a manifest that the reader makes up: it has to be the one everybody makes up.
func TestLoadMakesTheSameIDAsContainerd(t *testing.T) {
	s := service(t)
	raw := dockerArchive(t, []string{"a:1"}, layerTar(t, file{"f", "a"}), zipped(layerTar(t, file{"g", "b"}))).Bytes()
	var id digest.Digest
	err := s.leased(t.Context(), func(ctx context.Context) error {
		d, err := archive.ImportIndex(ctx, s.content, bytes.NewReader(raw))
		if err != nil {
			return err
		}
		b, err := s.document(ctx, d)
		if i := strings.Index(string(b), "sha256:"); i >= 0 {
			id = digest.Digest(b[i : i+71])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.leased(t.Context(), func(ctx context.Context) error {
		a := newArchiveReader(ctx, s)
		defer a.close(ctx)
		if err := errors.Join(a.read(ctx, bytes.NewReader(raw)), a.work.Wait()); err != nil {
			return err
		}
		es, err := a.entries(ctx)
		if err == nil && (len(es) != 1 || es[0].target.Digest != id) {
			t.Errorf("%+v, containerd has %s", es, id)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	layer := layerTar(t, file{"f", "a"})
	whole := dockerArchive(t, []string{"a:1"}, layer).Bytes()
	config := mustJSON(t, ocispec.Image{Platform: here, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}}})
	manifest := func(layers string) file {
		return file{"manifest.json", `[{"Config":"c.json","RepoTags":["a:1"],"Layers":[` + layers + `]}]`}
	}
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"no archive":             {[]byte("not a tar"), "unexpected EOF"},
		"empty":                  {nil, "unrecognized image format"},
		"another archive":        {tarOf(t, file{"x", "x"}).Bytes(), "unrecognized image format"},
		"no config":              {tarOf(t, file{"manifest.json", `[{"Config":"c.json","Layers":[]}]`}).Bytes(), `image config "c.json" not found`},
		"no layer":               {tarOf(t, file{"c.json", config}, manifest(`"l.tar"`)).Bytes(), `layer "l.tar" not found`},
		"a layer too few":        {tarOf(t, file{"c.json", config}, manifest("")).Bytes(), "0 layers, its config 1"},
		"another layer":          {tarOf(t, file{"c.json", config}, file{"l.tar", string(layerTar(t, file{"f", "b"}))}, manifest(`"l.tar"`)).Bytes(), "unpacked digest"},
		"truncated":              {whole[:len(whole)/2], "EOF"},
		"no JSON":                {tarOf(t, file{"manifest.json", `[{`}).Bytes(), "manifest.json"},
		"a bad tag":              {tarOf(t, file{"c.json", config}, file{"l.tar", string(layer)}, file{"manifest.json", `[{"Config":"c.json","RepoTags":["UP:1"],"Layers":["l.tar"]}]`}).Bytes(), "invalid tag"},
		"a blob with a bad name": {tarOf(t, file{"blobs/sha256/../../etc", "x"}, file{"blobs/sha256/ab", "x"}).Bytes(), "archive entry"},
		"a blob of other bytes":  {tarOf(t, file{"blobs/sha256/" + digest.FromString("y").Encoded(), "x"}).Bytes(), "other bytes"},
		"an index of nothing":    {tarOf(t, file{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`}, file{"index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + digest.FromString("y").String() + `","size":1}]}`}).Bytes(), "incomplete image"},
		"an escaping hard link":  {dockerArchive(t, []string{"a:1"}, escaping(t)).Bytes(), "hard link"},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(t)
			err := s.Load(t.Context(), bytes.NewReader(tc.in), LoadOptions{Quiet: true}, func(Progress) {})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			nothingLeft(t, s)
		})
	}
}

// escaping is a layer with a hard link to a file of the host.
func escaping(t *testing.T) []byte {
	t.Helper()
	b := layerTar(t, file{"x", ""})
	copy(b[157:], "../../../../../../../../etc/passwd") // link name
	b[156] = '1'
	sum := 0
	copy(b[148:156], "        ")
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], strings.Repeat("0", 7)+"\x00")
	for i := 5; i >= 0; i-- {
		b[148+i] = byte('0' + sum%8)
		sum /= 8
	}
	b[154], b[155] = 0, ' '
	return b
}

func TestLoadOfSeveralTagsAndNone(t *testing.T) {
	s := service(t)
	var r rows
	collect := func(p Progress) { r.add(p) }
	if err := s.Load(t.Context(), dockerArchive(t, []string{"a:1", "b"}, layerTar(t, file{"f", "a"})), LoadOptions{Quiet: true}, collect); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), dockerArchive(t, nil, layerTar(t, file{"f", "c"})), LoadOptions{Quiet: true}, collect); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range r.list {
		got = append(got, p.Stream)
	}
	if len(got) != 3 || got[0] != "Loaded image: a:1\n" || got[1] != "Loaded image: b:latest\n" || !strings.HasPrefix(got[2], "Loaded image ID: sha256:") {
		t.Errorf("%q", got)
	}
}

func TestImport(t *testing.T) {
	s := service(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(zipped(layerTar(t, file{"f", "url"}))) }))
	defer srv.Close()
	body, err := s.Fetch(t.Context(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := s.Import(t.Context(), body, ImportOptions{Repo: "imp", Tag: "1", Message: "msg", Changes: Config{Cmd: []string{"x"}}, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}); err != nil {
		t.Fatal(err)
	}
	d, err := s.Inspect(t.Context(), "imp:1", nil)
	if err != nil || d.Comment != "msg" || d.Image.Config.Cmd[0] != "x" || d.Image.Platform.Architecture != "s390x" {
		t.Fatalf("%v %+v", err, d)
	}
	if _, dir := container(t, s, d.Image); read(t, dir, "f") != "url" {
		t.Error("contents")
	}
	if _, err := s.Import(t.Context(), strings.NewReader("garbage"), ImportOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	if _, err := s.Fetch(t.Context(), srv.URL+":x"); err == nil {
		t.Error("fetched")
	}
	if _, err := s.Fetch(t.Context(), "file:///etc/passwd"); err == nil {
		t.Error("fetched")
	}
}

func FuzzLoad(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root: unpacking layers and mounting overlays")
	}
	b := dockerArchive(f, []string{"a:1"}, layerTar(f, file{"f", "a"})).Bytes()
	f.Add(b)
	f.Add(b[:len(b)/3])
	f.Add(zipped(b))
	f.Add(tarOf(f, file{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`}, file{"index.json", `{"manifests":[{"digest":"sha256:"}]}`}).Bytes())
	s := service(f)
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = s.Load(context.Background(), io.LimitReader(bytes.NewReader(b), 1<<20), LoadOptions{Quiet: true}, func(Progress) {}) // any answer is fine
	})
}
