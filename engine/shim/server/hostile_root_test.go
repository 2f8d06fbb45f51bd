//go:build cgo && linux && seccomp

package server

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/internal/ids"
)

// hostileRoot is a root file system made by somebody who wants to reach the host; outside is a directory of the host that
// has to stay as it is: one file with known content.
func hostileRoot(t *testing.T) (root, outside string) {
	t.Helper()
	root, outside = rootfs(t), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte("host"), 0o644))
	return root, outside
}

func untouched(t *testing.T, outside string) {
	t.Helper()
	ents, err := os.ReadDir(outside)
	must(t, err)
	b, err := os.ReadFile(filepath.Join(outside, "file"))
	if len(ents) != 1 || err != nil || string(b) != "host" {
		t.Errorf("the host was reached: %v %q %v", ents, b, err)
	}
}

// replace puts a link into the root in place of what is there.
func replace(t *testing.T, root, name, target string) {
	t.Helper()
	path := filepath.Join(root, name)
	must(t, os.RemoveAll(path))
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.Symlink(target, path))
}

func TestHostileRootsStayInside(t *testing.T) {
	needRoot(t)
	up := strings.Repeat("../", 20)
	cases := map[string]struct {
		make func(t *testing.T, s *specs.Spec, outside string)
		fail string // part of the error; "" for a container that runs
		out  string // part of what it prints
	}{
		"proc is a link": {func(t *testing.T, s *specs.Spec, outside string) { replace(t, s.Root.Path, "proc", outside) }, "must be mounted on ordinary directory", ""},
		"proc is a file": {func(t *testing.T, s *specs.Spec, _ string) {
			must(t, os.Remove(filepath.Join(s.Root.Path, "proc")))
			must(t, os.WriteFile(filepath.Join(s.Root.Path, "proc"), nil, 0o644))
		}, "must be mounted on ordinary directory", ""},
		"sys is a link": {func(t *testing.T, s *specs.Spec, _ string) { replace(t, s.Root.Path, "sys", "/proc") }, "must be mounted on ordinary directory", ""},
		"dev is a link to the host": {func(t *testing.T, s *specs.Spec, outside string) {
			replace(t, s.Root.Path, "dev", up+outside)
			s.Process.Args = []string{"ls", outside}
		}, "", "null"},
		"dev is a link to proc": {func(t *testing.T, s *specs.Spec, _ string) { replace(t, s.Root.Path, "dev", "/proc/sys") }, "inside /proc", ""},
		"file mount through a link": {func(t *testing.T, s *specs.Spec, outside string) {
			replace(t, s.Root.Path, "etc/hosts", up+outside+"/new")
			src := filepath.Join(t.TempDir(), "hosts")
			must(t, os.WriteFile(src, []byte("mine\n"), 0o644))
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: src, Options: []string{"rbind", "rprivate"}})
			s.Process.Args = []string{"cat", outside + "/new"}
		}, "", "mine"},
		"directory mount through links": {func(t *testing.T, s *specs.Spec, outside string) {
			replace(t, s.Root.Path, "a", "/b/..//c")
			replace(t, s.Root.Path, "b", up+outside)
			replace(t, s.Root.Path, "c", up+outside)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/a/x/y", Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "rprivate"}})
			s.Process.Args = []string{"ls", outside + "/x"}
		}, "", "y"},
		"mount into proc through a link": {func(t *testing.T, s *specs.Spec, _ string) {
			replace(t, s.Root.Path, "esc", "/proc/sys")
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/esc/kernel", Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "rprivate"}})
		}, "inside /proc", ""},
		"mount onto the root through a link": {func(t *testing.T, s *specs.Spec, _ string) {
			replace(t, s.Root.Path, "esc", "/")
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/esc", Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "rprivate"}})
		}, "on the top of rootfs", ""},
		"links in a circle": {func(t *testing.T, s *specs.Spec, _ string) {
			replace(t, s.Root.Path, "x", "y")
			replace(t, s.Root.Path, "y", "x")
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Source: "tmpfs"})
		}, "too many levels of symbolic links", ""},
		"device node through a link": {func(t *testing.T, s *specs.Spec, outside string) {
			replace(t, s.Root.Path, "nodes", up+outside)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/nodes/deep/null", Type: "c", Major: 1, Minor: 3}}
			s.Process.Args = []string{"ls", outside + "/deep"}
		}, "", "null"},
		"device null is another": {func(_ *testing.T, s *specs.Spec, _ string) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 5}}
		}, "container's /dev/null is invalid", ""},
		"working directory through a link": {func(t *testing.T, s *specs.Spec, outside string) {
			replace(t, s.Root.Path, "cwd", up+outside)
			must(t, os.MkdirAll(filepath.Join(s.Root.Path, outside), 0o755))
			s.Process.Cwd, s.Process.Args = "/cwd/made", []string{"sh", "-c", "pwd -P"}
		}, "", "/made"},
		"program by descriptor": {func(_ *testing.T, s *specs.Spec, _ string) { s.Process.Args = []string{"/proc/self/fd/3"} }, "", "exec /proc/self/fd/3: "},
	}
	for name, tc := range cases {
		for b := range backends {
			t.Run(name+"/"+b, func(t *testing.T) {
				root, outside := hostileRoot(t)
				id := ids.New()
				s := plainSpec(t, root, id, "true")
				tc.make(t, s, outside)
				out, err := run(t, b, id, asBundle(t, s))
				untouched(t, outside)
				switch {
				case tc.fail == "" && err != nil:
					t.Fatal(err)
				case tc.fail != "" && err == nil, tc.fail != "" && !strings.Contains(err.Error(), tc.fail):
					t.Errorf("got %v and %+v, want an error with %q", err, out, tc.fail)
				case !strings.Contains(out.Out, tc.out):
					t.Errorf("printed %q, want %q", out.Out, tc.out)
				}
			})
		}
	}
}

// A descriptor of the host that is open while the working directory is made would be a way out.
func TestWorkingDirectoriesByDescriptor(t *testing.T) {
	needRoot(t)
	for fd := 3; fd < 8; fd++ {
		for _, way := range []string{"", "/1/root"} {
			root, outside := hostileRoot(t)
			id := ids.New()
			s := plainSpec(t, root, id, "ls", "/")
			s.Process.Cwd = "/proc/self/fd/" + strconv.Itoa(fd) + way + outside + "/made"
			out, err := run(t, "fastinit", id, asBundle(t, s))
			untouched(t, outside)
			if err == nil {
				t.Errorf("%s: %+v", s.Process.Cwd, out)
			}
		}
	}
}

// A container that changed its own files before somebody execs into it.
func TestExecIntoHostileContainer(t *testing.T) {
	needRoot(t)
	root, outside := hostileRoot(t)
	s := plainSpec(t, root, ids.New())
	s.Linux.MaskedPaths = nil
	_, target := sleeper(t, "fastinit", s)
	exec := func(tty bool, script string) (outcome, error) {
		p := plainSpec(t, "/", ids.New(), "sh", "-c", script).Process
		p.Terminal = tty
		o := newOutput(t, tty)
		r, console, err := target.Exec(p, o.io)
		if err != nil {
			closeAll(o.io.Stdin, o.io.Stdout, o.r)
			return outcome{}, err
		}
		o.started(console)
		return ended(t, r, o), nil
	}
	// No descriptor of the host is left, and the shim's program cannot be written to through the process.
	out, err := exec(false, "ls /proc/$$/fd; (echo x >/proc/$$/exe) 2>&1; readlink /proc/$$/exe")
	must(t, err)
	if strings.Join(strings.Fields(out.Out)[:3], " ") != "0 1 2" || !strings.Contains(out.Out, "/bin/busybox") || len(strings.Fields(out.Out)) > 12 {
		t.Errorf("%q", out.Out)
	}
	must(t, os.Remove(filepath.Join(root, "etc/passwd")))
	must(t, os.Symlink(outside+"/file", filepath.Join(root, "etc/passwd")))
	if out, err = exec(false, "rm /dev/ptmx; ls -ld /etc/passwd"); err != nil || out.Code != 0 {
		t.Errorf("%+v %v", out, err)
	}
	if out, err = exec(true, "tty"); err != nil || !strings.Contains(out.Out, "/dev/pts/") {
		t.Errorf("a terminal must not depend on /dev/ptmx: %+v %v", out, err)
	}
	untouched(t, outside)
}
