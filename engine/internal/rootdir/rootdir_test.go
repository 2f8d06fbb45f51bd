package rootdir

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a root and, beside it, a file that nothing may reach.
func tree(t *testing.T) (root *Root, dir, secret string) {
	t.Helper()
	base := t.TempDir()
	dir, secret = filepath.Join(base, "root"), filepath.Join(base, "secret")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "d"), 0o755), os.WriteFile(secret, []byte("host"), 0o600), os.WriteFile(filepath.Join(dir, "d", "f"), []byte("inside"), 0o640),
		os.Symlink("../../..", filepath.Join(dir, "up")), os.Symlink(base, filepath.Join(dir, "abs")), os.Symlink("d", filepath.Join(dir, "link")), os.Symlink(secret, filepath.Join(dir, "leak")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir, secret
}

func archive(t *testing.T, hs ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = "new"
		}
		h.Size, h.Uid, h.Gid = int64(len(body)), os.Getuid(), os.Getgid()
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestNothingLeadsOut(t *testing.T) {
	for name, hs := range map[string][]tar.Header{
		"dots":                  {{Name: "../../secret", Typeflag: tar.TypeReg}},
		"absolute":              {{Name: "/secret", Typeflag: tar.TypeReg}},
		"through a link there":  {{Name: "up/secret", Typeflag: tar.TypeReg}},
		"through an absolute":   {{Name: "abs/secret", Typeflag: tar.TypeReg}},
		"over a link":           {{Name: "leak", Typeflag: tar.TypeReg}},
		"through a link of its": {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "x/secret", Typeflag: tar.TypeReg}},
		"directory over a link": {{Name: "abs", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "abs/secret", Typeflag: tar.TypeReg}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, secret := tree(t)
			_ = r.Unpack(context.Background(), "/", archive(t, hs...), UnpackOptions{}) // refused or confined, both are right
			if b, err := os.ReadFile(secret); err != nil || string(b) != "host" {
				t.Errorf("the file outside is now %q, %v", b, err)
			}
			ents, err := os.ReadDir(filepath.Dir(secret))
			if err != nil || len(ents) != 2 {
				t.Errorf("beside the root: %v %v", ents, err)
			}
		})
	}
}

func TestHardLinkToTheHost(t *testing.T) {
	r, dir, secret := tree(t)
	err := r.Unpack(context.Background(), "/", archive(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../secret"}), UnpackOptions{})
	if err == nil {
		t.Error("a link to a file that is not in the root was made")
	}
	if a, err := os.Stat(filepath.Join(dir, "h")); err == nil {
		if b, _ := os.Stat(secret); os.SameFile(a, b) {
			t.Error("it is the host's file")
		}
	}
}

func names(t *testing.T, b *bytes.Buffer) (out []string) {
	t.Helper()
	for tr := tar.NewReader(b); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, h.Name)
	}
}

func TestPack(t *testing.T) {
	r, _, _ := tree(t)
	for p, want := range map[string][]string{
		"/d": {"d/", "d/f"}, "/d/.": {"./", "./f"}, "/d/f": {"f"}, "/link": {"link"}, "/link/": {"link/", "link/f"},
	} {
		var b bytes.Buffer
		if err := r.Pack(context.Background(), p, &b); err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		if got := names(t, &b); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	if err := r.Pack(context.Background(), "/up/secret", io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path through a link out: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	r, dir, _ := tree(t)
	var b bytes.Buffer
	if err := r.Pack(context.Background(), "/d", &b); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "to"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := r.Unpack(context.Background(), "/to", &b, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dir, "to", "d", "f"))
	if err != nil || st.Mode().Perm() != 0o640 || st.Size() != 6 {
		t.Errorf("%v %v", st, err)
	}
}

func TestKeepKind(t *testing.T) {
	r, _, _ := tree(t)
	for _, h := range []tar.Header{{Name: "d", Typeflag: tar.TypeReg}, {Name: "d/f", Typeflag: tar.TypeDir, Mode: 0o755}} {
		if err := r.Unpack(context.Background(), "/", archive(t, h), UnpackOptions{KeepKind: true}); err == nil {
			t.Errorf("%s changed its kind", h.Name)
		}
	}
	if err := r.Unpack(context.Background(), "/", archive(t, tar.Header{Name: "d", Typeflag: tar.TypeReg}), UnpackOptions{}); err != nil {
		t.Error(err)
	}
}

func TestStat(t *testing.T) {
	r, _, secret := tree(t)
	i, err := r.Stat("/leak")
	if err != nil || i.Mode&os.ModeSymlink == 0 || i.Target != secret {
		t.Errorf("%+v %v", i, err)
	}
	if i, err = r.Stat("/link/"); err != nil || !i.Mode.IsDir() || i.Name != "link" {
		t.Errorf("%+v %v", i, err)
	}
	if _, err = r.Stat("/nosuch"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, secret := tree(t)
		_ = r.Unpack(context.Background(), "/", bytes.NewReader(b), UnpackOptions{}) // any answer is fine
		if got, err := os.ReadFile(secret); err != nil || string(got) != "host" {
			t.Errorf("the file outside is now %q, %v", got, err)
		}
	})
}

// A process in the container exchanges a directory for a link out while an archive is read or written below it.
func TestExchangeDuringTheWork(t *testing.T) {
	r, dir, secret := tree(t)
	for _, err := range []error{os.Mkdir(filepath.Join(dir, "x"), 0o755), os.Symlink(filepath.Dir(secret), filepath.Join(dir, "y"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		x, y := filepath.Join(dir, "x"), filepath.Join(dir, "y")
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, x, unix.AT_FDCWD, y, unix.RENAME_EXCHANGE) // both are there
			}
		}
	}()
	for range 300 {
		_ = r.Unpack(context.Background(), "/x", archive(t, tar.Header{Name: "secret", Typeflag: tar.TypeReg}, tar.Header{Name: "made", Typeflag: tar.TypeDir, Mode: 0o755}), UnpackOptions{}) // refused or confined
		var b bytes.Buffer
		if r.Pack(context.Background(), "/x/secret", &b) == nil && bytes.Contains(b.Bytes(), []byte("host")) {
			t.Error("the file outside was read")
			break
		}
	}
	close(stop)
	<-stopped
	if b, err := os.ReadFile(secret); err != nil || string(b) != "host" {
		t.Errorf("the file outside is now %q, %v", b, err)
	}
	if ents, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(ents) != 2 {
		t.Errorf("beside the root: %v %v", ents, err)
	}
}
