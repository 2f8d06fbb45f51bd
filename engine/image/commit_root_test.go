package image

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/rootdir"
)

func TestCommit(t *testing.T) {
	for _, driver := range []string{"overlayfs", "native"} {
		t.Run(driver, func(t *testing.T) {
			s := service(t, func(o *Options) { o.Snapshotter = driver })
			img := load(t, s, "base:1", layerTar(t, file{"etc/", ""}, file{"etc/passwd", "root"}, file{"etc/group", "g"}, file{"d/", ""}, file{"d/old", "o"}))
			id, dir := container(t, s, img)
			if got, err := s.Changes(t.Context(), id); err != nil || got != nil {
				t.Fatalf("a new container has changes: %v %v", got, err)
			}
			write(t, "new", dir, "new")
			write(t, "changed", dir, "etc", "passwd")
			if err := os.Remove(filepath.Join(dir, "etc", "group")); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, "f", dir, "d", "f")
			if err := os.Link(filepath.Join(dir, "d", "f"), filepath.Join(dir, "hard")); err != nil {
				t.Fatal(err)
			}
			want := []Change{
				{Path: "/d", Kind: rootdir.Modified}, {Path: "/d/f", Kind: rootdir.Added}, {Path: "/d/old", Kind: rootdir.Deleted}, {Path: "/etc", Kind: rootdir.Modified},
				{Path: "/etc/group", Kind: rootdir.Deleted}, {Path: "/etc/passwd", Kind: rootdir.Modified}, {Path: "/hard", Kind: rootdir.Added}, {Path: "/new", Kind: rootdir.Added},
			}
			got, err := s.Changes(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if driver == "overlayfs" {
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
			}
			made, err := s.Commit(t.Context(), id, CommitOptions{
				Image: img.ID.String(), Manifest: img.Manifest.Digest.String(), Repo: "made", Author: "me", Comment: "why", CreatedBy: "sh -c x", Config: Config{Cmd: []string{"run"}, Env: img.Config.Env},
			})
			if err != nil {
				t.Fatal(err)
			}
			d, err := s.Inspect(t.Context(), "made", nil)
			if err != nil || d.ID != made || d.Author != "me" || d.Comment != "why" || d.Image.Config.Cmd[0] != "run" || len(d.Image.Layers) != 2 || d.Parent != img.ID.String() {
				t.Fatalf("%v %+v", err, d)
			}
			h, err := s.History(t.Context(), "made:latest", nil)
			if err != nil || len(h) != 2 || h[0].CreatedBy != "sh -c x" || h[0].Comment != "why" || h[0].Size == 0 {
				t.Errorf("%v %+v", err, h)
			}
			_, root := container(t, s, d.Image)
			if read(t, root, "new") != "new" || read(t, root, "etc", "passwd") != "changed" || read(t, root, "hard") != "f" {
				t.Error("contents")
			}
			for _, p := range []string{"etc/group", "d/old"} {
				if _, err := os.Lstat(filepath.Join(root, p)); !os.IsNotExist(err) {
					t.Errorf("%s came back: %v", p, err)
				}
			}
			a, _ := os.Stat(filepath.Join(root, "hard"))
			if b, err := os.Stat(filepath.Join(root, "d", "f")); err != nil || !os.SameFile(a, b) {
				t.Errorf("hard link: %v", err)
			}
		})
	}
}

func TestCommitOfNothing(t *testing.T) {
	s := service(t)
	img := load(t, s, "base:1", layerTar(t, file{"f", "x"}))
	id, _ := container(t, s, img)
	made, err := s.Commit(t.Context(), id, CommitOptions{Image: img.ID.String(), Manifest: img.Manifest.Digest.String()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Inspect(t.Context(), made.String(), nil)
	if err != nil || len(d.Image.Layers) != 1 || len(d.Tags) != 0 {
		t.Errorf("%v %+v", err, d)
	}
}

func TestCommitAfterTheImageWentAway(t *testing.T) {
	s := service(t)
	img := load(t, s, "base:1", layerTar(t, file{"f", "x"}))
	id, dir := container(t, s, img)
	write(t, "y", dir, "g")
	if _, err := s.Delete(t.Context(), "base:1", DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	made, err := s.Commit(t.Context(), id, CommitOptions{Manifest: img.Manifest.Digest.String(), Repo: "made"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Inspect(t.Context(), made.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, root := container(t, s, d.Image); read(t, root, "f")+read(t, root, "g") != "xy" {
		t.Error("contents")
	}
}

func TestCommitRefusesBadNames(t *testing.T) {
	s := service(t)
	for _, o := range []CommitOptions{{Repo: "UP"}, {Repo: "a", Tag: "b c"}} {
		if _, err := s.Commit(t.Context(), "x", o); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestTreeOfAStoppedContainer(t *testing.T) {
	s := service(t)
	img := load(t, s, "base:1", layerTar(t, file{"f", "x"}, file{"gone", ""}))
	id, dir := container(t, s, img)
	write(t, "y", dir, "g")
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	f, err := s.Tree(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if read(t, at, "f")+read(t, at, "g") != "xy" {
		t.Error("contents")
	}
	for _, p := range []string{".dockerenv", "etc/hosts", "proc", "dev/console"} {
		if _, err := os.Lstat(filepath.Join(at, p)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(at, "gone")); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(at, "w"), nil, 0o644); !os.IsPermission(err) && err == nil {
		t.Error("it is writable")
	}
}

// Many layers make a mount string longer than a page.
func TestManyLayers(t *testing.T) {
	s := service(t)
	const n = 140
	var layers [][]byte
	for i := range n {
		layers = append(layers, layerTar(t, file{fmt.Sprint("f", i), fmt.Sprint(i)}, file{"last", fmt.Sprint(i)}))
	}
	img := load(t, s, "deep:1", layers...)
	id, dir := container(t, s, img)
	if read(t, dir, "f0") != "0" || read(t, dir, "f139") != "139" || read(t, dir, "last") != "139" {
		t.Error("contents")
	}
	write(t, "w", dir, "w")
	if _, err := s.Commit(t.Context(), id, CommitOptions{Manifest: img.Manifest.Digest.String(), Repo: "deeper"}); err != nil {
		t.Error(err)
	}
}

func TestNativeDriverRunsEverything(t *testing.T) {
	s := service(t, func(o *Options) { o.Snapshotter = "native" })
	img := load(t, s, "base:1", layerTar(t, file{"d/", ""}, file{"d/f", "x"}, file{"g", "g"}), layerTar(t, file{".wh.g", ""}, file{"d/.wh.f", ""}, file{"h", "h"}))
	_, dir := container(t, s, img)
	if _, err := os.Lstat(filepath.Join(dir, "g")); !os.IsNotExist(err) {
		t.Error("g is there")
	}
	if read(t, dir, "h") != "h" {
		t.Error("h")
	}
	if name, _ := s.Driver(); name != "native" {
		t.Error(name)
	}
}

// What is large is unpacked behind the answer, and there when somebody needs it.
func TestCommitOfMuch(t *testing.T) {
	s := service(t)
	img := load(t, s, "base:1", layerTar(t, file{"f", "x"}))
	id, dir := container(t, s, img)
	write(t, noise(lateFrom+1), dir, "big")
	made, err := s.Commit(t.Context(), id, CommitOptions{Image: img.ID.String(), Manifest: img.Manifest.Digest.String(), Repo: "much"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Inspect(t.Context(), made.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, root := container(t, s, d.Image); read(t, root, "big") != noise(lateFrom+1) || read(t, root, "f") != "x" {
		t.Error("contents")
	}
	if h, err := s.History(t.Context(), "much", nil); err != nil || h[0].Size < lateFrom {
		t.Errorf("%v %+v", err, h)
	}
}
