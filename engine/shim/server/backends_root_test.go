//go:build cgo && linux && seccomp

package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/shim/fastinit"
	"github.com/berthd/berth/engine/shim/libct"
)

// The tests start containers, so they need root. They show that a process sees the same under both backends, and that a
// hostile root file system leads neither of them out of it.

// libcontainer leaves a thread in a container's mount namespace and lets it end; the first thread of a process cannot end, so
// it is kept from such work.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libct.Init()
	}
	code := m.Run()
	_ = os.Remove(busybox())
	// Parents made for a container stay, also after a start that failed.
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(pattern + groupParent)
		for _, d := range dirs {
			if err := os.Remove(d); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// groupParent holds the cgroups of this process's tests.
var groupParent = "/berth-test-" + strconv.Itoa(os.Getpid())

// busybox is a copy that the root file systems of all tests link to: never the host's own.
var busybox = sync.OnceValue(func() string {
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return ""
	}
	f, err := os.CreateTemp("", "busybox")
	if err != nil {
		return ""
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return ""
	}
	return f.Name()
})

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts containers")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs /bin/busybox")
	}
}

// rootfs makes a small root file system.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "data", "home/u"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.Link(busybox(), filepath.Join(dir, "bin/busybox")))
	for _, a := range []string{"sh", "cat", "ls", "id", "env", "sort", "grep", "sed", "awk", "find", "stat", "readlink", "tty", "hostname", "sleep", "wc", "cut", "true", "touch", "mknod", "kill", "stty", "head"} {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", a)))
	}
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/text"), []byte("text\n"), 0o755))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var someCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID", "CAP_KILL", "CAP_AUDIT_WRITE"}

// plainSpec is what the engine asks for by default.
func plainSpec(t *testing.T, root, id string, args ...string) *specs.Spec {
	t.Helper()
	adj := 0
	dev := func(allow bool, typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: allow, Type: typ, Access: access}
		if typ != "" {
			d.Major, d.Minor = &major, &minor
		}
		return d
	}
	s := &specs.Spec{
		Version: specs.Version, Hostname: "box", Root: &specs.Root{Path: root},
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin", "A=1", "HOME=/root", "A=2"}, OOMScoreAdj: &adj,
			User: specs.User{AdditionalGids: []uint32{0}}, Capabilities: &specs.LinuxCapabilities{Bounding: someCaps, Effective: someCaps, Permitted: someCaps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: groupParent + "/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
			MaskedPaths: []string{"/proc/acpi", "/proc/kcore", "/proc/timer_list", "/proc/timer_list", "/proc/nosuch", "/sys/firmware"}, ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/sys", "/proc/nosuch"},
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				dev(false, "", 0, 0, "rwm"), dev(true, "c", 1, 5, "rwm"), dev(true, "c", 1, 3, "rwm"), dev(true, "c", 5, 0, "rwm"), dev(false, "c", 10, 229, "rwm"),
			}},
		},
	}
	p, err := seccomp.GetDefaultProfile(s)
	must(t, err)
	s.Linux.Seccomp = p
	return s
}

// asBundle writes a specification and reads it as the server does.
func asBundle(t *testing.T, s *specs.Spec) *spec {
	t.Helper()
	b, err := json.Marshal(s)
	must(t, err)
	path := filepath.Join(t.TempDir(), "config.json")
	must(t, os.WriteFile(path, b, 0o600))
	out, err := readSpec(path)
	must(t, err)
	return out
}

var backends = map[string]func(t *testing.T, id string, s *spec, io stdio) (container, *os.File, error){
	"fastinit": func(_ *testing.T, id string, s *spec, io stdio) (container, *os.File, error) {
		c, console, err := fastinit.Create(id, &s.Spec, s.filter, io)
		if err != nil {
			return nil, nil, err
		}
		return c, console, nil
	},
	"libct": func(t *testing.T, id string, s *spec, io stdio) (container, *os.File, error) {
		all, err := s.whole()
		must(t, err)
		c, console, err := libct.Create(t.TempDir(), id, all, io)
		if err != nil {
			return nil, nil, err
		}
		return c, console, nil
	},
}

// outcome is what a process printed and how it ended.
type outcome struct {
	Out  string
	Code int
}

// output collects what is written to files that the process gets, or to its terminal.
type output struct {
	io   stdio
	read chan string
	r    *os.File
}

func newOutput(t *testing.T, tty bool) *output {
	t.Helper()
	o := &output{read: make(chan string, 1)}
	if tty {
		o.io.TTY = true
		return o
	}
	r, w, err := os.Pipe()
	must(t, err)
	null, err := os.Open(os.DevNull)
	must(t, err)
	o.io, o.r = stdio{Stdin: null, Stdout: w, Stderr: w}, r
	return o
}

func (o *output) started(console *os.File) {
	r := o.r
	if console != nil {
		r = console
	} else {
		closeAll(o.io.Stdin, o.io.Stdout)
	}
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, r) // a terminal ends with EIO
		_ = r.Close()         // its number is free again
		o.read <- b.String()
	}()
}

// patience is how long anything may take here; what takes longer hangs.
const patience = 10 * time.Second

// reap waits for a process, but not for ever.
func reap(t *testing.T, r runner) syscall.WaitStatus {
	t.Helper()
	type end struct {
		ws  syscall.WaitStatus
		err error
	}
	c := make(chan end, 1)
	go func() { ws, err := r.Wait(); c <- end{ws, err} }()
	select {
	case e := <-c:
		must(t, e.err)
		return e.ws
	case <-time.After(patience):
		st, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Pid()))
		t.Fatalf("process %d does not end:\n%s", r.Pid(), st)
	}
	return 0
}

func ended(t *testing.T, r runner, o *output) outcome {
	t.Helper()
	ws := reap(t, r)
	select {
	case s := <-o.read:
		code := ws.ExitStatus()
		if ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
		return outcome{s, code}
	case <-time.After(patience):
		t.Fatal("the output does not end")
	}
	return outcome{}
}

// removeGroups shows that a container has left no cgroup; their parent goes at the end.
func removeGroups(t *testing.T, groups map[string]string) {
	t.Helper()
	for _, g := range groups {
		if _, err := os.Stat(g); err == nil {
			t.Errorf("cgroup %s is left", g)
		}
	}
}

func run(t *testing.T, backend, id string, s *spec) (outcome, error) {
	t.Helper()
	o := newOutput(t, s.Process.Terminal)
	c, console, err := backends[backend](t, id, s, o.io)
	if err != nil {
		closeAll(o.io.Stdin, o.io.Stdout, o.r)
		return outcome{}, err
	}
	o.started(console)
	groups := c.Groups()
	must(t, c.Start())
	out := ended(t, c, o)
	must(t, c.Destroy())
	removeGroups(t, groups)
	return out, nil
}

// look prints what a process sees. $$ is the shell, so that what is read is not a short-lived child's.
const look = `
p=/proc/$$
grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig[BI]|Umask|Cpus_allowed_list|Speculation)' $p/status
echo mounts; cut -d' ' -f4- $p/mountinfo
echo cgroup; cat $p/cgroup
cat $p/limits $p/oom_score_adj $p/attr/current 2>&1
echo session $(cut -d' ' -f5,6,7 $p/stat | sed "s/\b$$\b/me/g"); grep NSpid $p/status | wc -w
echo dev; find /dev -not -path '/dev/pts/*' -exec stat -c '%A %u %g %t %T %n' {} +
ls -l /dev | grep -e '->' | sed 's/.* \([^ ]* -> .*\)/\1/'
echo sysctl; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax /proc/sys/kernel/shmmax /proc/sys/kernel/domainname
echo masked; head -c1 /proc/timer_list | wc -c; cat /proc/kcore; ls -la /proc/acpi /sys/firmware 2>&1 | wc -l
echo x >/proc/sys/kernel/domainname; touch /proc/bus/x /sys/x /etc/new; rm -f /etc/new
grep -h "_ses.$cid" /proc/keys | sed 's/.*perm//' | sort -u
hostname; env | sort; id; pwd; umask; tty
for f in 0 1 2 3 4 5 6 7 8 9; do readlink $p/fd/$f; done
for n in mnt pid net ipc uts cgroup user; do [ "$(readlink $p/ns/$n)" = "$(eval echo \$host_$n)" ] && echo $n host || echo $n own; done
find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/bin/*' | sort
`

var volatile = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`[0-9a-f]{64}`), "ID"},
	{regexp.MustCompile(`berth-test-[0-9a-f]+`), "PARENT"},
	{regexp.MustCompile(`(/[^ ]*)?/Test[^ ]*/rootfs`), "ROOTFS"},
	{regexp.MustCompile(`pipe:\[[0-9]+\]`), "PIPE"},
	{regexp.MustCompile(`/tmp/Test[^ ]*/00[0-9]`), "TMP"},
}

func normal(s string) string {
	s = strings.ReplaceAll(s, "\r", "")
	for _, v := range volatile {
		s = v.what.ReplaceAllString(s, v.as)
	}
	return s
}

func hostNamespaces(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, n := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
		l, err := os.Readlink("/proc/self/ns/" + n)
		must(t, err)
		out = append(out, "host_"+n+"="+l)
	}
	return out
}

func allCaps(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	must(t, err)
	var bits uint64
	_, rest, _ := strings.Cut(string(b), "CapBnd:")
	_, err = fmt.Sscanf(rest, "%x", &bits)
	must(t, err)
	var out []string
	for i, n := range []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
		"NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE",
	} {
		if bits>>i&1 == 1 {
			out = append(out, "CAP_"+n)
		}
	}
	return out
}

func namespace(s *specs.Spec, typ specs.LinuxNamespaceType, add bool) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == typ })
	if add {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ})
	}
}

func ptr[T any](v T) *T { return &v }

func TestBothBackendsShowTheSame(t *testing.T) {
	needRoot(t)
	cases := map[string]func(t *testing.T, s *specs.Spec){
		"plain": func(*testing.T, *specs.Spec) {},
		"user with groups": func(_ *testing.T, s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 7, 8}}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: someCaps}
			s.Process.Env = []string{"PATH=/bin", "HOME="}
		},
		"no new privileges": func(_ *testing.T, s *specs.Spec) { s.Process.NoNewPrivileges = true },
		"ambient": func(_ *testing.T, s *specs.Spec) {
			c := []string{"CAP_CHOWN", "CAP_NOSUCH"}
			s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000}}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Effective: c, Permitted: c, Inheritable: c, Ambient: c}
		},
		"read-only": func(_ *testing.T, s *specs.Spec) {
			s.Root.Readonly = true
			s.Mounts[1].Options = append(s.Mounts[1].Options, "ro")
			s.Mounts[6].Options = append(s.Mounts[6].Options, "ro")
		},
		"privileged": func(t *testing.T, s *specs.Spec) {
			c := allCaps(t)
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Effective: c, Permitted: c}
			s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
			s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
			s.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/deep/kmsg", Type: "c", Major: 1, Minor: 11, FileMode: ptr(os.FileMode(0o640)), UID: ptr(uint32(3)), GID: ptr(uint32(4))},
				{Path: "/dev/loop9", Type: "b", Major: 7, Minor: 9}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5, FileMode: ptr(os.FileMode(0o600))},
			}
			for _, i := range []int{3, 4} {
				s.Mounts[i].Options = slices.DeleteFunc(s.Mounts[i].Options, func(o string) bool { return o == "ro" })
			}
		},
		"terminal": func(_ *testing.T, s *specs.Spec) {
			s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 77}
			s.Process.Args[2] += "stty size"
		},
		"limits": func(_ *testing.T, s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
			s.Process.OOMScoreAdj = ptr(321)
			s.Process.User.Umask = ptr(uint32(0o27))
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}
			s.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(77))}
			s.Linux.Resources.CPU = &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0"}
			s.Process.Args[2] += "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpuset/cpuset.cpus memory.max pids.max cpu.max 2>&1"
		},
		"sysctls and names": func(_ *testing.T, s *specs.Spec) {
			s.Hostname, s.Domainname = "host-name", "domain.name"
			s.Linux.Sysctl = map[string]string{"kernel.msgmax": "4096", "kernel/shmmax": "123456"}
		},
		"shared namespaces": func(_ *testing.T, s *specs.Spec) {
			for _, n := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace} {
				namespace(s, n, false)
			}
			s.Hostname = ""
			s.Mounts[5] = specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "rprivate"}}
			if _, err := os.Stat("/dev/mqueue"); err != nil {
				s.Mounts = slices.Delete(s.Mounts, 5, 6)
			}
		},
		"cgroup namespace": func(_ *testing.T, s *specs.Spec) { namespace(s, specs.CgroupNamespace, true) },
		"unmasked":         func(_ *testing.T, s *specs.Spec) { s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil },
		"mounts": func(t *testing.T, s *specs.Spec) {
			src := t.TempDir()
			must(t, os.WriteFile(filepath.Join(src, "file"), []byte("x"), 0o600))
			must(t, os.Symlink("/run/made/resolv.conf", filepath.Join(s.Root.Path, "etc/resolv.conf")))
			must(t, os.Symlink("/data", filepath.Join(s.Root.Path, "link")))
			s.Mounts = append(s.Mounts,
				specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: filepath.Join(src, "file"), Options: []string{"rbind", "rprivate"}},
				specs.Mount{Destination: "/link/in", Type: "bind", Source: src, Options: []string{"rbind", "rprivate", "ro"}},
				specs.Mount{Destination: "/new/deep/dir", Type: "bind", Source: src, Options: []string{"bind", "private", "ro", "noexec", "noatime"}},
				specs.Mount{Destination: "/new/rro", Type: "bind", Source: src, Options: []string{"rbind", "rslave", "rro"}},
				specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"noexec", "nosuid", "nodev", "size=1m", "ro"}},
				specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=700", "uid=5", "noatime"}},
				specs.Mount{Destination: "/dev/shm/sub", Type: "tmpfs", Source: "tmpfs"},
			)
			s.Process.Args[2] += "find /etc /data /new /tmp /scratch /run -exec stat -c '%A %u %g %n' {} +"
		},
		"working directory": func(_ *testing.T, s *specs.Spec) { s.Process.Cwd = "/made/for/it/../that" },
		"exit code": func(_ *testing.T, s *specs.Spec) {
			s.Process.Args = []string{"sh", "-c", "echo out; echo err >&2; exit 42"}
		},
		"signal": func(_ *testing.T, s *specs.Spec) {
			s.Process.Args = []string{"sh", "-c", "sh -c 'kill -KILL $$'; echo $?"}
		},
		"too many files": func(_ *testing.T, s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 40, Hard: 1 << 40}}
		},
		"not found":       func(_ *testing.T, s *specs.Spec) { s.Process.Args = []string{"no such"} },
		"no such path":    func(_ *testing.T, s *specs.Spec) { s.Process.Args = []string{"/bin/no/such"} },
		"not in text":     func(_ *testing.T, s *specs.Spec) { s.Process.Args = []string{"/etc/text/x"} },
		"directory":       func(_ *testing.T, s *specs.Spec) { s.Process.Args = []string{"/etc"} },
		"not executable":  func(_ *testing.T, s *specs.Spec) { s.Process.Args = []string{"/etc/passwd"} },
		"wrong format":    func(_ *testing.T, s *specs.Spec) { s.Process.Args = []string{"/etc/text"} },
		"no path":         func(_ *testing.T, s *specs.Spec) { s.Process.Args, s.Process.Env = []string{"sh"}, nil },
		"bad environment": func(_ *testing.T, s *specs.Spec) { s.Process.Env = append(s.Process.Env, "novalue") },
		"relative": func(_ *testing.T, s *specs.Spec) {
			s.Process.Args, s.Process.Cwd = []string{"../bin/sh", "-c", "pwd"}, "/etc"
		},
		"sysctl of the host": func(_ *testing.T, s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"vm.swappiness": "1"}
		},
	}
	id := ids.New()
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			got := map[string]outcome{}
			errs := map[string]string{}
			for b := range backends {
				s := plainSpec(t, rootfs(t), id, "sh", "-c", look)
				s.Process.Env = append(s.Process.Env, append(hostNamespaces(t), "cid="+id)...)
				change(t, s)
				out, err := run(t, b, id, asBundle(t, s))
				if fastinit.IsUncovered(err) {
					t.Skip("left to libct")
				}
				if err != nil {
					errs[b] = normal(err.Error())
				}
				got[b] = outcome{normal(out.Out), out.Code}
			}
			if d := cmp.Diff(errs["libct"], errs["fastinit"]); d != "" {
				t.Errorf("errors (-libct +fastinit):\n%s", d)
			}
			if d := cmp.Diff(got["libct"], got["fastinit"]); d != "" {
				t.Errorf("(-libct +fastinit):\n%s", d)
			}
			t.Log(errs["fastinit"], len(got["fastinit"].Out), got["fastinit"].Code)
		})
	}
}

// sleeper starts a container that waits.
func sleeper(t *testing.T, backend string, s *specs.Spec) (container, *fastinit.Target) {
	t.Helper()
	id := ids.New()
	s.Linux.CgroupsPath = groupParent + "/" + id
	s.Process.Args = []string{"sleep", "1000"}
	b := asBundle(t, s)
	o := newOutput(t, false)
	c, console, err := backends[backend](t, id, b, o.io)
	must(t, err)
	o.started(console)
	must(t, c.Start())
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Pid())); err != nil || backend == "fastinit" && string(name) != "sleep\n" {
		t.Errorf("started, but the process is %q (%v)", name, err)
	}
	target, err := fastinit.NewTarget(fastinit.TargetOptions{ID: id, Pid: c.Pid(), Groups: c.Groups(), Filter: b.filter, OOMScoreAdj: b.Process.OOMScoreAdj})
	must(t, err)
	t.Cleanup(func() {
		groups := c.Groups()
		must(t, c.Signal(syscall.SIGKILL))
		reap(t, c)
		must(t, c.Destroy())
		must(t, target.Close())
		removeGroups(t, groups)
	})
	return c, target
}

func TestExecsShowTheSame(t *testing.T) {
	needRoot(t)
	cases := map[string]func(p *specs.Process){
		"plain": func(*specs.Process) {},
		"user": func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 9}}
			p.Capabilities = &specs.LinuxCapabilities{Bounding: someCaps}
			p.Env = []string{"PATH=/bin"}
		},
		"terminal": func(p *specs.Process) {
			p.Terminal, p.ConsoleSize = true, &specs.Box{Height: 20, Width: 50}
			p.Args[2] += "stty size"
		},
		"no new privileges": func(p *specs.Process) { p.NoNewPrivileges = true },
		"limits":            func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 64}} },
		"exit code":         func(p *specs.Process) { p.Args = []string{"sh", "-c", "exit 17"} },
		"not found":         func(p *specs.Process) { p.Args = []string{"nosuch"} },
		"not executable":    func(p *specs.Process) { p.Args = []string{"/etc/passwd"} },
		"wrong format":      func(p *specs.Process) { p.Args = []string{"/etc/text"} },
		"no directory":      func(p *specs.Process) { p.Cwd = "/nosuch" },
	}
	for _, started := range []string{"fastinit", "libct"} {
		s := plainSpec(t, rootfs(t), ids.New())
		s.Process.OOMScoreAdj = ptr(55)
		namespace(s, specs.CgroupNamespace, true)
		c, target := sleeper(t, started, s)
		for name, change := range cases {
			t.Run(started+"/"+name, func(t *testing.T) {
				proc := func() *specs.Process {
					p := plainSpec(t, "/", ids.New(), "sh", "-c", look).Process
					p.Env = append(p.Env, append(hostNamespaces(t), "cid="+filepath.Base(s.Linux.CgroupsPath))...)
					change(p)
					return p
				}
				finish := func(r runner, console *os.File, o *output, err error) (outcome, string) {
					if err != nil {
						closeAll(o.io.Stdin, o.io.Stdout, o.r)
						return outcome{}, normal(err.Error())
					}
					o.started(console)
					out := ended(t, r, o)
					return outcome{normal(out.Out), out.Code}, ""
				}
				p := proc()
				o := newOutput(t, p.Terminal)
				fast, console, err := target.Exec(p, o.io)
				got, gotErr := finish(fast, console, o, err)
				lc, ok := c.(*libct.Container)
				if !ok { // libcontainer cannot enter what it did not make: compare with what init was given
					if gotErr == "" && name == "plain" && !strings.Contains(got.Out, "\n55\n") {
						t.Errorf("oom_score_adj is not init's: %s", got.Out)
					}
					return
				}
				p = proc()
				o = newOutput(t, p.Terminal)
				slow, console, err := lc.Exec(p, o.io)
				want, wantErr := finish(slow, console, o, err)
				if d := cmp.Diff(wantErr, gotErr); d != "" {
					t.Errorf("errors (-libct +fastinit):\n%s", d)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("(-libct +fastinit):\n%s", d)
				}
			})
		}
	}
}

// Many execs at once beside other work: each has its own exit code and output, and nothing stays behind that would keep the
// container from ending.
func TestManyExecsAtOnce(t *testing.T) {
	needRoot(t)
	const width, each = 8, 30
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range runtime.NumCPU() {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	defer busy.Wait()
	defer close(stop)
	c, target := sleeper(t, "fastinit", plainSpec(t, rootfs(t), ids.New()))
	var wg sync.WaitGroup
	for w := range width {
		wg.Go(func() {
			for i := range each {
				code := (w*each + i) % 100
				p := plainSpec(t, "/", ids.New(), "sh", "-c", fmt.Sprintf("echo %d; exit %d", code, code)).Process
				o := newOutput(t, false)
				r, _, err := target.Exec(p, o.io)
				if err != nil {
					t.Error(err)
					return
				}
				o.started(nil)
				if out := ended(t, r, o); out.Code != code || out.Out != fmt.Sprintln(code) {
					t.Errorf("got %+v, want %d", out, code)
				}
			}
		})
	}
	wg.Wait()
	pids, err := c.Pids()
	if err != nil || len(pids) != 1 {
		t.Errorf("processes %v, want init alone (%v)", pids, err)
	}
}
