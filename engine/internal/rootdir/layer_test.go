package rootdir

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func rooted(t *testing.T) (*Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: devices and trusted attributes")
	}
}

func TestLayerNothingLeadsOut(t *testing.T) {
	for name, hs := range map[string][]tar.Header{
		"dots":                    {{Name: "../../secret", Typeflag: tar.TypeReg}},
		"through a link there":    {{Name: "up/secret", Typeflag: tar.TypeReg}},
		"through an absolute":     {{Name: "abs/secret", Typeflag: tar.TypeReg}},
		"over a link":             {{Name: "leak", Typeflag: tar.TypeReg}},
		"through a link of its":   {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "x/secret", Typeflag: tar.TypeReg}},
		"directory over a link":   {{Name: "abs", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "abs/secret", Typeflag: tar.TypeReg}},
		"whiteout of the parent":  {{Name: ".wh...", Typeflag: tar.TypeReg}},
		"whiteout through a link": {{Name: "up/.wh.secret", Typeflag: tar.TypeReg}},
		"opaque through a link":   {{Name: "up/.wh..wh..opq", Typeflag: tar.TypeReg}},
		"hard link out":           {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../secret"}, {Name: "h", Typeflag: tar.TypeReg}},
		"hard link over a link":   {{Name: "h", Typeflag: tar.TypeLink, Linkname: "leak"}, {Name: "h", Typeflag: tar.TypeReg}},
	} {
		for _, overlay := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				needRoot(t)
				r, _, secret := tree(t)
				_ = r.ApplyLayer(context.Background(), archive(t, hs...), LayerOptions{Overlay: overlay}) // refused or confined
				if b, err := os.ReadFile(secret); err != nil || string(b) != "host" {
					t.Errorf("the file outside is now %q, %v", b, err)
				}
				if ents, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(ents) != 2 {
					t.Errorf("beside the root: %v %v", ents, err)
				}
			})
		}
	}
}

func TestLayerRoundTrip(t *testing.T) {
	needRoot(t)
	long := strings.Repeat("n", 200) + "/" + strings.Repeat("m", 200)
	when := time.Unix(1_000_000_000, 0)
	capable := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 5, Gid: 6},
		{Name: "d/.wh..wh..opq", Typeflag: tar.TypeReg},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 70000, Gid: 70001, Size: 3, PAXRecords: map[string]string{xattrPrefix + "security.capability": capable}},
		{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "dev", Typeflag: tar.TypeChar, Mode: 0o600, Devmajor: 1, Devminor: 3},
		{Name: ".wh.gone", Typeflag: tar.TypeReg},
		{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o644},
		{Name: "sym", Typeflag: tar.TypeSymlink, Linkname: "/nowhere", Mode: 0o777},
		{Name: long, Typeflag: tar.TypeReg, Mode: 0o644, Size: 3, PAXRecords: map[string]string{xattrPrefix + "user.x": "a b\n"}},
	} {
		h.ModTime = when
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, "abc"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := headers(t, bytes.NewReader(in.Bytes()))
	r, dir := rooted(t)
	if err := r.ApplyLayer(t.Context(), bytes.NewReader(in.Bytes()), LayerOptions{Overlay: true}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "gone"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout: %v %o %d", err, st.Mode, st.Rdev)
	}
	var out bytes.Buffer
	if err := r.WriteLayer(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := headers(t, &out)
	delete(got, strings.Repeat("n", 200)+"/") // made on the way
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

type entry struct {
	Type     byte
	Mode     int64
	Uid, Gid int
	Link     string
	Dev      [2]int64
	Time     int64
	Body     string
	Attrs    map[string]string
}

// headers reads an archive; permissions of whiteouts and links mean nothing.
func headers(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	out := map[string]entry{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		e := entry{Type: h.Typeflag, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, Link: h.Linkname, Dev: [2]int64{h.Devmajor, h.Devminor}, Time: h.ModTime.Unix(), Body: string(b), Attrs: map[string]string{}}
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, xattrPrefix) {
				e.Attrs[k] = v
			}
		}
		if h.Typeflag == tar.TypeLink || strings.Contains(h.Name, whiteout) {
			e = entry{Type: h.Typeflag, Link: h.Linkname}
		}
		out[h.Name] = e
	}
}

func TestLayerWithoutOverlayDeletes(t *testing.T) {
	needRoot(t)
	r, dir := rooted(t)
	for _, hs := range [][]tar.Header{
		{{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "a/old", Typeflag: tar.TypeReg}, {Name: "b", Typeflag: tar.TypeReg}, {Name: "c/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "c/x", Typeflag: tar.TypeReg}},
		{{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "a/new", Typeflag: tar.TypeReg}, {Name: "a/.wh..wh..opq", Typeflag: tar.TypeReg}, {Name: ".wh.b", Typeflag: tar.TypeReg}, {Name: ".wh.c", Typeflag: tar.TypeReg}},
	} {
		if err := r.ApplyLayer(t.Context(), archive(t, hs...), LayerOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]bool{"a/old": false, "a/new": true, "b": false, "c": false} {
		if _, err := os.Lstat(filepath.Join(dir, p)); (err == nil) != want {
			t.Errorf("%s: %v, want there %v", p, err, want)
		}
	}
}

func TestLayerSparse(t *testing.T) {
	r, dir := rooted(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	const size = 64 << 20
	if err := w.WriteHeader(&tar.Header{Name: "s", Typeflag: tar.TypeReg, Mode: 0o644, Size: size, Uid: os.Getuid(), Gid: os.Getgid()}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.ApplyLayer(t.Context(), &b, LayerOptions{Overlay: true}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "s"), &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%v size %d, %d blocks", err, st.Size, st.Blocks)
	}
}

func TestLayerRefuses(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"long name":      {Name: strings.Repeat("a/", 3000) + "f", Typeflag: tar.TypeReg},
		"no whiteout":    {Name: ".wh.", Typeflag: tar.TypeReg},
		"unknown kind":   {Name: "x", Typeflag: 'Z'},
		"link nowhere":   {Name: "x", Typeflag: tar.TypeLink, Linkname: "nosuch"},
		"root is a file": {Name: "./", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := rooted(t)
			if err := r.ApplyLayer(t.Context(), archive(t, h), LayerOptions{Overlay: true}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	needRoot(t)
	low, lowDir := rooted(t)
	up, upDir := rooted(t)
	when := time.Unix(1_000_000_000, 0)
	write := func(dir, p string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, p), []byte(dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"etc/passwd", "etc/group", "same/f", "again/old", "again/kept", "touched/f"} {
		write(lowDir, p)
	}
	for _, p := range []string{"etc/passwd", "new", "d/f", "again/kept"} {
		write(upDir, p)
	}
	for _, p := range []string{"same", "touched"} {
		if err := os.Mkdir(filepath.Join(upDir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"etc/group", "never"} {
		if err := unix.Mknod(filepath.Join(upDir, p), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(upDir, "again"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{lowDir, upDir} {
		for _, p := range []string{"same", "etc", "again"} {
			if err := os.Chtimes(filepath.Join(d, p), when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := up.Changes(t.Context(), low)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{"/again", Modified}, {"/again/kept", Modified}, {"/again/old", Deleted}, {"/d", Added}, {"/d/f", Added},
		{"/etc", Modified}, {"/etc/group", Deleted}, {"/etc/passwd", Modified}, {"/new", Added}, {"/touched", Modified},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzApplyLayer(f *testing.F) {
	f.Add([]byte("no archive"), true)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "../secret"}, {Name: "x/.wh..wh..opq", Typeflag: tar.TypeReg}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "x"},
		{Name: ".wh.x", Typeflag: tar.TypeReg}, {Name: "x/", Typeflag: tar.TypeDir},
	} {
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), true)
	f.Add(b.Bytes(), false)
	f.Fuzz(func(t *testing.T, b []byte, overlay bool) {
		r, _, secret := tree(t)
		_ = r.ApplyLayer(context.Background(), bytes.NewReader(b), LayerOptions{Overlay: overlay}) // any answer is fine
		if got, err := os.ReadFile(secret); err != nil || string(got) != "host" {
			t.Errorf("the file outside is now %q, %v", got, err)
		}
	})
}
