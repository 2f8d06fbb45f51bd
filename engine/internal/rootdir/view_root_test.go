package rootdir

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountedTree makes a directory that is a mount of its own, as a container's root file system is.
func mountedTree(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	dir := t.TempDir()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	write(t, filepath.Join(dir, "etc", "hosts"), "tree")
	return dir
}

func write(t *testing.T, p, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, tree int, o ViewOptions, ms ...Mount) *View {
	t.Helper()
	c, err := CopyMounts(ms)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o.Mounts = c
	v, err := NewView(tree, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func packed(t *testing.T, v *View, p string) string {
	t.Helper()
	var b bytes.Buffer
	if err := v.Pack(context.Background(), p, &b); err != nil {
		t.Fatal(err)
	}
	return strings.Join(names(t, &b), " ")
}

func TestView(t *testing.T) {
	dir, vol, hosts := mountedTree(t), t.TempDir(), filepath.Join(t.TempDir(), "hosts")
	write(t, filepath.Join(vol, "in-volume"), "x")
	write(t, hosts, "longer than the tree's")
	before := mountsBelow(t, filepath.Dir(dir))
	tree, err := CloneTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	v := view(t, tree, ViewOptions{Make: true, Dirs: []string{"/work/dir"}}, Mount{vol, "/vol/deep", false}, Mount{vol, "/ro", true}, Mount{hosts, "/etc/hosts", false}, Mount{"/nonexistent", "/gone", false})
	if got := packed(t, v, "/vol"); got != "vol/ vol/deep/ vol/deep/in-volume" {
		t.Error(got)
	}
	if i, err := v.Stat("/etc/hosts"); err != nil || i.Size != 22 {
		t.Errorf("%+v %v", i, err)
	}
	for p, want := range map[string]error{"/": nil, "/vol/deep": nil, "/ro": ErrReadOnlyMount} {
		if err := v.Writable(p); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", p, err, want)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "work", "dir")); err != nil || !st.IsDir() {
		t.Error("the directory was not made:", err)
	}
	// What is mounted on the host later is not seen.
	if err := unix.Mount("none", filepath.Join(dir, "work"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "work"), unix.MNT_DETACH) })
	if got := packed(t, v, "/work"); got != "work/ work/dir/" {
		t.Error("a later mount shows:", got)
	}
	if err := unix.Unmount(filepath.Join(dir, "work"), 0); err != nil {
		t.Error("the view pins a mount of the host:", err)
	}
	// A mount point is not replaced: its mount would go in every namespace.
	err = v.Unpack(context.Background(), "/etc", archive(t, tar.Header{Name: "hosts", Typeflag: tar.TypeReg}), UnpackOptions{})
	if !errors.Is(err, unix.EBUSY) {
		t.Error("a mount point was replaced:", err)
	}
	if err := v.Unpack(context.Background(), "/vol/deep", archive(t, tar.Header{Name: "new", Typeflag: tar.TypeReg}), UnpackOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(vol, "new")); err != nil {
		t.Error("it is not in the volume:", err)
	}
	if after := mountsBelow(t, filepath.Dir(dir)); !slices.Equal(before, after) {
		t.Errorf("mounts of the host before %q, after %q", before, after)
	}
}

func TestViewOfView(t *testing.T) {
	dir := mountedTree(t)
	tree, err := CloneTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := view(t, tree, ViewOptions{ReadOnly: true})
	if err := a.Writable("/etc"); !errors.Is(err, ErrReadOnlyTree) {
		t.Error(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal("the view pins the tree:", err)
	}
	if tree, err = a.Clone(); err != nil {
		t.Fatal(err)
	}
	if err := Attach(tree, dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "etc", "hosts")); err != nil || string(b) != "tree" {
		t.Errorf("%q %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "w"), nil, 0o600); err != nil {
		t.Error("a copy of a read-only view is for a container that may write:", err)
	}
}

// mountsBelow lists the host's mounts below dir: others come and go with what else runs here.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir) {
			out = append(out, line)
		}
	}
	return out
}
