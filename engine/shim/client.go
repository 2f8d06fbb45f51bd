package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

func asStartError(err error, target **StartError) bool { return errors.As(err, target) }

// Options of a Client.
type Options struct {
	Binary   string // berth-shim
	Root     string // exec-root: shims live in shims/, bundles in shim/
	MaxTasks int    // per shim; 0 = 32
	Log      *slog.Logger
}

// Client launches shims and finds them again. Safe for concurrent use.
type Client struct {
	o      Options
	binary *os.File // sealed copy of the shim: survives an upgrade of the file and needs no cloning per container

	mu struct {
		sync.Mutex
		groups   map[string]*group
		spawning chan struct{} // closed when the shim that is being started is there; nil if none is
	}
}

// group is one shim process.
type group struct {
	name string
	sock string
	hold net.Conn
	n    int // tasks
	// Creates that were not answered yet, and since when there is no answer: a shim that does not answer gets no more of them.
	asked int
	since time.Time
}

// silence is how long a shim may leave creates unanswered before new containers go elsewhere.
const silence = 2 * time.Second

// ask notes that a create begins, or with -1 that it was answered. The caller holds the client's mutex.
func (g *group) ask(n int) {
	g.asked += n
	g.since = time.Now()
}

// NewClient prepares the directories, finds shims that run already and holds them.
func NewClient(o Options) (*Client, error) {
	if o.MaxTasks == 0 {
		o.MaxTasks = 32
	}
	for _, d := range []string{"shims", "shim"} {
		if err := os.MkdirAll(filepath.Join(o.Root, d), 0o700); err != nil {
			return nil, err
		}
	}
	c := &Client{o: o}
	c.mu.groups = map[string]*group{}
	var err error
	if c.binary, err = sealedCopy(o.Binary); err != nil {
		return nil, fmt.Errorf("shim binary %s: %w", o.Binary, err)
	}
	ents, err := os.ReadDir(filepath.Join(o.Root, "shims"))
	if err != nil {
		return nil, err
	}
	for _, e := range ents {
		g := &group{name: e.Name(), sock: filepath.Join(o.Root, "shims", e.Name(), "sock")}
		if g.hold, err = dial(g.sock, Request{Op: OpHold}); err != nil {
			_ = os.RemoveAll(filepath.Dir(g.sock)) // its shim is gone
			continue
		}
		c.mu.groups[g.name] = g
	}
	return c, nil
}

func sealedCopy(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("berth-shim", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "berth-shim")
	if _, err := io.Copy(f, src); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// A descriptor that is open for writing forbids execution: reopen it read-only.
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	return ro, errors.Join(err, f.Close())
}

// Warm makes sure a shim with room runs, so that the first launch finds it.
func (c *Client) Warm() error {
	g, err := c.reserve()
	if err != nil {
		return err
	}
	c.release(g)
	return nil
}

// Close leaves shims and tasks alone.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.mu.groups {
		_ = g.hold.Close() // the shim notices
	}
	return c.binary.Close()
}

// Shutdown ends shims that have no tasks.
func (c *Client) Shutdown(ctx context.Context) {
	c.mu.Lock()
	groups := make([]*group, 0, len(c.mu.groups))
	for _, g := range c.mu.groups {
		groups = append(groups, g)
	}
	c.mu.Unlock()
	for _, g := range groups {
		_, _ = call(ctx, g.sock, Request{Op: OpStop}) // one with tasks refuses, a dead one is no concern
	}
}

// BundleDir is where the bundle of a container belongs.
func (c *Client) BundleDir(id string) string { return filepath.Join(c.o.Root, "shim", id) }

// reserve finds room in a shim, or starts one: one at a time, and without holding anything over it.
func (c *Client) reserve() (*group, error) {
	for {
		c.mu.Lock()
		for _, g := range c.mu.groups {
			if g.n < c.o.MaxTasks && (g.asked == 0 || time.Since(g.since) < silence) {
				g.n++
				c.mu.Unlock()
				return g, nil
			}
		}
		if other := c.mu.spawning; other != nil {
			c.mu.Unlock()
			<-other
			continue
		}
		ready := make(chan struct{})
		c.mu.spawning = ready
		c.mu.Unlock()
		g, err := c.spawn()
		c.mu.Lock()
		c.mu.spawning = nil
		if err == nil {
			g.n = 1
			c.mu.groups[g.name] = g
		}
		c.mu.Unlock()
		close(ready)
		return g, err
	}
}

func (c *Client) ask(g *group, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && g.asked > 0 {
		g.asked += n // the silence goes on
		return
	}
	g.ask(n)
}

func (c *Client) release(g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.n--
}

// drop forgets a shim that does not answer.
func (c *Client) drop(g *group) {
	c.mu.Lock()
	delete(c.mu.groups, g.name)
	c.mu.Unlock()
	if dir := filepath.Dir(g.sock); !PidAlive(dir) {
		_ = os.RemoveAll(dir) // else the next daemon finds it
	}
}

// spawn starts a shim. Its listening socket is made here and handed over, so it can be called at once. Nothing in it points
// back at this process: no pipe, no terminal, a session of its own.
func (c *Client) spawn() (_ *group, err error) {
	g := &group{name: ids.Short(ids.New())}
	dir := filepath.Join(c.o.Root, "shims", g.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir) // the error that matters is err
		}
	}()
	g.sock = filepath.Join(dir, "sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: g.sock, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	defer ln.Close()
	if err := os.Chmod(g.sock, 0o600); err != nil {
		return nil, err
	}
	lf, err := ln.File()
	if err != nil {
		return nil, err
	}
	defer lf.Close()
	logf, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logf.Close()
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", c.binary.Fd()))
	cmd.Args = []string{"berth-shim", "serve", dir}
	cmd.ExtraFiles = []*os.File{lf}
	cmd.Stdout, cmd.Stderr = logf, logf
	cmd.Dir = "/"
	cmd.Env = []string{"GOGC=40", "GOMAXPROCS=2"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }() // reaped if it ends while this daemon lives
	_ = os.WriteFile(filepath.Join(dir, "pid"), strconv.AppendInt(nil, int64(cmd.Process.Pid), 10), 0o600)
	g.hold, err = dial(g.sock, Request{Op: OpHold})
	return g, err
}

// Launch creates the task of a bundle; its init waits for Start. The bundle's directory and config.json must be there.
func (c *Client) Launch(ctx context.Context, b Bundle) (Task, error) {
	var lastErr error
	for range 3 {
		g, err := c.reserve()
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(b.Dir, "shim"), []byte(g.name), 0o600); err != nil {
			c.release(g)
			return nil, err
		}
		c.ask(g, 1)
		resp, err := call(ctx, g.sock, Request{Op: OpCreate, ID: b.ID, Bundle: &b})
		c.ask(g, -1)
		if err == nil {
			return &task{client: c, g: g, id: b.ID, pid: resp.Pid}, nil
		}
		c.release(g)
		if !isDialError(err) {
			return nil, err
		}
		c.drop(g)
		lastErr = err
	}
	return nil, lastErr
}

// Reattach finds the task of a container launched earlier, also by another daemon process.
//
// Errors: ErrNotFound if its shim is gone or does not know it; anything else means the shim lives but does not answer.
func (c *Client) Reattach(ctx context.Context, id string) (Task, error) {
	name, err := os.ReadFile(filepath.Join(c.BundleDir(id), "shim"))
	if err != nil {
		return nil, errkind.NotFound("container %s has no shim: %w", id, err)
	}
	c.mu.Lock()
	g := c.mu.groups[string(name)]
	c.mu.Unlock()
	if g == nil {
		return nil, errkind.NotFound("the shim of container %s is gone", id)
	}
	resp, err := call(ctx, g.sock, Request{Op: OpState, ID: id})
	if err != nil {
		if isDialError(err) {
			c.drop(g)
			return nil, errkind.NotFound("the shim of container %s is gone", id)
		}
		return nil, err
	}
	c.mu.Lock()
	g.n++
	c.mu.Unlock()
	return &task{client: c, g: g, id: id, pid: resp.State.Pid}, nil
}

// ReadExit reads the exit record of a bundle, and whether there is one.
func (c *Client) ReadExit(id string) (Exit, bool, error) {
	b, err := os.ReadFile(filepath.Join(c.BundleDir(id), "exit.json"))
	if errors.Is(err, os.ErrNotExist) {
		return Exit{}, false, nil
	}
	if err != nil {
		return Exit{}, false, err
	}
	var e Exit
	if err := json.Unmarshal(b, &e); err != nil {
		return Exit{}, false, fmt.Errorf("exit record of %s: %w", id, err)
	}
	return e, true, nil
}

// Sweep ends tasks and removes bundles that keep does not know: kill, unmount, remove.
func (c *Client) Sweep(ctx context.Context, keep func(id string) bool) error {
	ents, err := os.ReadDir(filepath.Join(c.o.Root, "shim"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range ents {
		id := e.Name()
		if keep(id) {
			continue
		}
		if t, err := c.Reattach(ctx, id); err == nil {
			if err := t.KillAll(ctx); err == nil {
				wctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				_, _ = t.Wait(wctx) // Delete below kills again if need be
				cancel()
			}
			if _, err := t.Delete(ctx); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		errs = append(errs, c.Bury(ctx, id), RemoveBundle(c.BundleDir(id)))
	}
	return errors.Join(errs...)
}

// RemoveBundle unmounts what is mounted below a bundle and removes it. It never follows into a file system that is still
// mounted. Idempotent.
func RemoveBundle(dir string) error {
	mounts := []string{"rootfs", "shm"}
	parts, _ := os.ReadDir(filepath.Join(dir, "mounts")) // there are none, mostly
	for _, p := range parts {
		mounts = append(mounts, filepath.Join("mounts", p.Name()))
	}
	for _, m := range mounts {
		if err := unix.Unmount(filepath.Join(dir, m), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		if err := os.Remove(filepath.Join(dir, m)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.RemoveAll(dir)
}

type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

func isDialError(err error) bool {
	var d dialError
	return errors.As(err, &d)
}

func dial(sock string, req Request) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: sock, Net: "unix"})
	if err != nil {
		return nil, dialError{err}
	}
	b, err := json.Marshal(req)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// call sends one request and waits for its answer or for ctx.
func call(ctx context.Context, sock string, req Request) (*Response, error) {
	conn, err := dial(sock, req)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var resp Response
	if err := json.NewDecoder(conn).Decode(&resp); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("shim: %w", err)
	}
	return &resp, resp.Err()
}

// open sends an open request and returns the connection as a stream.
func open(ctx context.Context, sock string, req Request) (Stream, error) {
	conn, err := dial(sock, req)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() { // ctx ended in between: the deadline must not outlive the call
			_ = conn.SetReadDeadline(time.Time{})
		}
	}()
	// Byte by byte: what follows the answer belongs to the stream.
	var line []byte
	var one [1]byte
	for {
		if _, err := conn.Read(one[:]); err != nil {
			return nil, errors.Join(fmt.Errorf("shim: %w", err), conn.Close())
		}
		if one[0] == '\n' {
			break
		}
		line = append(line, one[0])
	}
	var resp Response
	if err := json.NewDecoder(bytes.NewReader(line)).Decode(&resp); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := resp.Err(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// PidAlive reports whether the recorded shim process of a group directory still runs. Used by invariant checks.
func PidAlive(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && unix.Kill(pid, 0) == nil
}
