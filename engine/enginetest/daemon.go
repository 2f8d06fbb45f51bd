//go:build root

package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a private berthd: own roots, own network namespace, own cgroup.
type Daemon struct {
	Dir    string
	Cgroup string
	bin    string
	keeper *exec.Cmd // holds the namespace over restarts
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd is
	hc     *http.Client
}

// New makes a daemon with the image busybox:latest, not started yet but for that. It is stopped and everything of it removed
// when the test is over.
func New(t testing.TB) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "berthtest")
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Dir: dir, Cgroup: fmt.Sprintf("/berth-%x", sha256.Sum256([]byte(dir)))[:19], bin: bin}
	d.hc = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.Sock())
	}}}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.keeper = exec.Command("sleep", "3600")
	d.keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := d.keeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.clean(t) })
	if out, err := d.Inside("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return d
}

// Sock is the daemon's socket.
func (d *Daemon) Sock() string { return filepath.Join(d.Dir, "sock") }

// Pid of the daemon.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Inside is a command in the daemon's network namespace.
func (d *Daemon) Inside(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(d.keeper.Process.Pid), "-n", name}, args...)...)
}

// Begin starts the daemon with more flags; crash is the step at which it kills itself, empty for none. It does not wait.
func (d *Daemon) Begin(t testing.TB, crash string, flags ...string) {
	t.Helper()
	logf, err := os.OpenFile(filepath.Join(d.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer logf.Close()
	d.cmd = d.Inside(filepath.Join(d.bin, "berthd"), append([]string{"-H", "unix://" + d.Sock(), "--data-root", filepath.Join(d.Dir, "data"), "--exec-root", filepath.Join(d.Dir, "exec"),
		"--pidfile", filepath.Join(d.Dir, "pid"), "--config-file", filepath.Join(d.Dir, "daemon.json"), "--cgroup-parent", d.Cgroup}, flags...)...)
	d.cmd.Stdout, d.cmd.Stderr = logf, logf
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	d.cmd.Env = append(os.Environ(), "BERTH_CRASH="+crash)
	d.ended = make(chan struct{})
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(c *exec.Cmd, ended chan struct{}) {
		_ = c.Wait() // how it ended is asked of its state
		close(ended)
	}(d.cmd, d.ended)
}

// Start starts the daemon and waits until it answers.
func (d *Daemon) Start(t testing.TB, flags ...string) {
	t.Helper()
	d.Begin(t, "", flags...)
	if err := d.Ready(); err != nil {
		t.Fatalf("%v\n%s", err, d.Log())
	}
}

// Ready waits until the daemon answers.
func (d *Daemon) Ready() error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, _, err := d.Call("GET", "/_ping", nil); err == nil && s == 200 {
			return nil
		}
		select {
		case <-d.ended:
			return errors.New("the daemon ended")
		default:
		}
	}
	return errors.New("the daemon does not answer")
}

// Kill ends the daemon as a crash does.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.Ended(t)
}

// Stop ends the daemon in order.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.Ended(t)
}

// Ended waits until the daemon is gone.
func (d *Daemon) Ended(t testing.TB) {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(40 * time.Second):
		t.Fatalf("the daemon does not end\n%s", d.Log())
	}
}

// EndsWithin tells whether the daemon ends by itself in that time.
func (d *Daemon) EndsWithin(limit time.Duration) bool {
	select {
	case <-d.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// Log is the end of what the daemon wrote.
func (d *Daemon) Log() string {
	b, err := os.ReadFile(filepath.Join(d.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// Call sends a request; body is JSON unless it is an io.Reader.
func (d *Daemon) Call(method, path string, body any) (int, []byte, error) {
	var r io.Reader
	if b, ok := body.(io.Reader); ok {
		r = b
	} else if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, "http://engine"+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.hc.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// Want sends a request and ends the test if the status is another one.
func (d *Daemon) Want(t testing.TB, method, path string, body any, status int) []byte {
	t.Helper()
	s, b, err := d.Call(method, path, body)
	if err != nil || s != status {
		t.Fatalf("%s %s: %d %s %v, want %d\n%s", method, path, s, b, err, status, d.Log())
	}
	return b
}

// Load brings in busybox:latest.
func (d *Daemon) Load(t testing.TB) {
	t.Helper()
	f, err := os.Open(d.Image(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.Want(t, "POST", "/images/load?quiet=1", f, 200)
}

// Image is a docker-archive with busybox:latest.
func (d *Daemon) Image(t testing.TB) string {
	t.Helper()
	file := filepath.Join(d.Dir, "busybox.tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	if out, err := exec.Command(filepath.Join(d.bin, "berth-conformance"), "image", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// Create makes a container and returns its id.
func (d *Daemon) Create(t testing.TB, name string, config map[string]any) string {
	t.Helper()
	config["Image"] = "busybox:latest"
	var a struct{ ID string }
	if err := json.Unmarshal(d.Want(t, "POST", "/containers/create?name="+name, config, 201), &a); err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// Inspect decodes what is told about a container.
func (d *Daemon) Inspect(t testing.TB, ref string) (c struct {
	ID    string
	State struct {
		Status   string
		Pid      int
		ExitCode int
		Error    string
	}
	RestartCount int
}) {
	t.Helper()
	if err := json.Unmarshal(d.Want(t, "GET", "/containers/"+ref+"/json", nil, 200), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Containers lists ids and states.
func (d *Daemon) Containers(t testing.TB) (list []struct{ ID, State string }) {
	t.Helper()
	if err := json.Unmarshal(d.Want(t, "GET", "/containers/json?all=1", nil, 200), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// clean removes everything, also after a test that failed.
func (d *Daemon) clean(t testing.TB) {
	if d.cmd != nil && !d.EndsWithin(0) {
		_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may end just now
		if !d.EndsWithin(30 * time.Second) {
			_ = d.cmd.Process.Kill() // as above
			<-d.ended
		}
	}
	for _, pid := range d.shims() {
		_ = unix.Kill(pid, unix.SIGKILL) // ours: it serves a directory of this daemon
	}
	for _, dir := range d.cgroups("") {
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err == nil {
			for _, p := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(p); err == nil {
					_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
				}
			}
		}
	}
	_ = d.keeper.Process.Kill() // with it goes the network
	_ = d.keeper.Wait()
	ms := d.mounts()
	slices.Reverse(ms)
	for _, m := range ms {
		_ = unix.Unmount(m, unix.MNT_DETACH) // what stays mounted makes RemoveAll fail
	}
	dirs := d.cgroups("")
	slices.Reverse(dirs)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left := 0
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				left++
			}
		}
		if left == 0 {
			break
		}
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		t.Error(err)
	}
}
