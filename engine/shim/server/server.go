//go:build cgo && linux

package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/shim"
)

// idleLimit is how long a shim without tasks and without a daemon stays.
const idleLimit = 5 * time.Second

// Server serves one group. Serve returns when the group is empty and nobody holds it, or when asked to stop.
type Server struct {
	dir   string // holds sock; state/ is made below it
	log   *slog.Logger
	ln    *net.UnixListener
	state string

	mu    sync.Mutex
	tasks map[string]*task
	holds int
	busy  int // creates and starts in flight
	idle  time.Time
}

// New makes a server for the listening socket in dir.
func New(dir string, ln *net.UnixListener, log *slog.Logger) (*Server, error) {
	s := &Server{dir: dir, log: log, ln: ln, state: filepath.Join(dir, "state"), tasks: map[string]*task{}, idle: time.Now()}
	return s, os.MkdirAll(s.state, 0o700)
}

// Serve answers requests until the group has no more purpose; then its directory is removed.
func (s *Server) Serve() error {
	go s.watchIdle()
	for {
		conn, err := s.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return os.RemoveAll(s.dir)
		}
		if err != nil {
			return err
		}
		go s.serve(conn)
	}
}

func (s *Server) watchIdle() {
	for range time.Tick(time.Second) {
		s.mu.Lock()
		used := len(s.tasks) > 0 || s.holds > 0 || s.busy > 0
		if used {
			s.idle = time.Now()
		}
		expired := time.Since(s.idle) > idleLimit
		s.mu.Unlock()
		if expired {
			_ = s.ln.Close() // ends Serve
			return
		}
	}
}

func (s *Server) serve(conn *net.UnixConn) {
	defer func() {
		if r := recover(); r != nil { // one request must not cost the group
			s.log.Error("panic", "value", r)
			_ = conn.Close() // the client sees the end
		}
	}()
	if !samePeer(conn) {
		_ = conn.Close() // not for others
		return
	}
	br := bufio.NewReaderSize(conn, 4096)
	line, err := br.ReadBytes('\n')
	if err != nil {
		_ = conn.Close() // nothing was asked
		return
	}
	var req shim.Request
	if err := json.Unmarshal(line, &req); err != nil {
		s.reply(conn, shim.Failure(err))
		return
	}
	switch req.Op {
	case shim.OpHold:
		s.hold(conn)
	case shim.OpOpen:
		s.open(conn, br, &req)
	case shim.OpWait:
		s.wait(conn, &req)
	default:
		resp, err := s.handle(&req)
		if err != nil {
			resp = shim.Failure(err)
		}
		s.reply(conn, resp)
	}
}

func samePeer(conn *net.UnixConn) bool {
	rc, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = rc.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return err == nil && ok
}

func (s *Server) reply(conn *net.UnixConn, r shim.Response) {
	_ = json.NewEncoder(conn).Encode(r) // the daemon may be gone; what was done stays done
	_ = conn.Close()                    // as above
}

func (s *Server) hold(conn *net.UnixConn) {
	s.count(&s.holds, 1)
	var b [1]byte
	_, _ = conn.Read(b[:]) // until the daemon goes
	s.count(&s.holds, -1)
	_ = conn.Close() // the other side is gone
}

func (s *Server) count(what *int, d int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what += d
}

func (s *Server) task(id string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[id]
	if t == nil {
		return nil, errkind.NotFound("task %s does not exist", id)
	}
	return t, nil
}

func (s *Server) find(req *shim.Request) (*task, *process, error) {
	t, err := s.task(req.ID)
	if err != nil {
		return nil, nil, err
	}
	p, err := t.process(req.Exec)
	return t, p, err
}

func (s *Server) open(conn *net.UnixConn, br *bufio.Reader, req *shim.Request) {
	_, p, err := s.find(req)
	if err != nil {
		s.reply(conn, shim.Failure(err))
		return
	}
	p.hub.attach(conn, br, *req.Which)
}

func (s *Server) wait(conn *net.UnixConn, req *shim.Request) {
	_, p, err := s.find(req)
	if err != nil {
		s.reply(conn, shim.Failure(err))
		return
	}
	gone := make(chan struct{})
	go func() {
		var b [1]byte
		_, _ = conn.Read(b[:]) // ends with the daemon's interest
		close(gone)
	}()
	select {
	case <-p.exited:
		p.mu.Lock()
		e := p.exit
		p.mu.Unlock()
		s.reply(conn, shim.Response{Exit: &e})
	case <-gone:
		_ = conn.Close() // nobody waits any more
	}
}

func (s *Server) handle(req *shim.Request) (shim.Response, error) {
	switch req.Op {
	case shim.OpCreate:
		return s.create(*req.Bundle)
	case shim.OpStop:
		return shim.Response{}, s.stop()
	case shim.OpDelete:
		return s.delete(req)
	}
	t, p, err := s.find(&shim.Request{ID: req.ID, Exec: execOf(req)})
	if err != nil {
		return shim.Response{}, err
	}
	switch req.Op {
	case shim.OpStart:
		s.count(&s.busy, 1)
		defer s.count(&s.busy, -1)
		pid, err := t.start(p)
		return shim.Response{Pid: pid}, err
	case shim.OpKill:
		if p == t.init && req.Signal == int(syscall.SIGKILL) {
			go s.reapStrays(t)
		}
		return shim.Response{}, t.kill(p, syscall.Signal(req.Signal))
	case shim.OpExec:
		return shim.Response{}, t.addExec(req.Exec, req.Process)
	case shim.OpResize:
		return shim.Response{}, p.resize(req.Rows, req.Cols)
	case shim.OpState:
		st := t.state(p)
		return shim.Response{State: &st}, nil
	case shim.OpPids:
		pids, err := t.c.Pids()
		return shim.Response{Pids: pids}, err
	case shim.OpPause, shim.OpResume:
		return shim.Response{}, t.pause(req.Op == shim.OpPause)
	case shim.OpUpdate:
		return shim.Response{}, t.c.Update(req.Resources)
	}
	return shim.Response{}, errkind.InvalidArgument("unknown call %q", req.Op)
}

// execOf names the process a call is about; for Exec it does not exist yet.
func execOf(req *shim.Request) string {
	if req.Op == shim.OpExec {
		return ""
	}
	return req.Exec
}

func (s *Server) create(b shim.Bundle) (shim.Response, error) {
	s.mu.Lock()
	if s.tasks[b.ID] != nil {
		s.mu.Unlock()
		return shim.Response{}, errkind.Conflict("task %s exists", b.ID)
	}
	s.busy++
	s.mu.Unlock()
	defer s.count(&s.busy, -1)
	t, err := newTask(s.state, b)
	if err != nil {
		return shim.Response{}, err
	}
	s.mu.Lock()
	s.tasks[b.ID] = t
	s.mu.Unlock()
	go t.reapInit()
	return shim.Response{Pid: t.init.pid}, nil
}

// delete frees a stopped exec, or the whole task; a task that still runs is killed.
func (s *Server) delete(req *shim.Request) (shim.Response, error) {
	t, err := s.task(req.ID)
	if err != nil {
		return shim.Response{}, nil //nolint:nilerr // idempotent
	}
	if req.Exec != "" {
		t.mu.Lock()
		delete(t.execs, req.Exec)
		t.mu.Unlock()
		return shim.Response{}, nil
	}
	if !t.init.done() {
		_ = t.c.Signal(syscall.SIGKILL) // the wait below tells
		go s.reapStrays(t)
		select {
		case <-t.init.exited:
		case <-time.After(10 * time.Second):
			return shim.Response{}, errkind.Conflict("task %s does not die", req.ID)
		}
	}
	if err := t.c.Destroy(); err != nil {
		return shim.Response{}, err
	}
	_ = t.target.Close() // nothing to lose
	s.mu.Lock()
	delete(s.tasks, req.ID)
	s.mu.Unlock()
	e := t.init.exit
	return shim.Response{Exit: &e}, nil
}

func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tasks) > 0 || s.busy > 0 {
		return errkind.Conflict("there are tasks")
	}
	go func() {
		time.Sleep(10 * time.Millisecond) // let the answer leave
		_ = s.ln.Close()                  // ends Serve
	}()
	return nil
}
