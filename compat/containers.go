package compat

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	api "github.com/docker/docker/api/types/container"

	"github.com/berthd/berth/compat/stream"
	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

func (s *Server) containerCreate(c *Ctx) (any, error) {
	var r api.CreateRequest
	if err := c.decode(&r, false); err != nil {
		return nil, err
	}
	spec, err := wire.ToSpec(&r, c.query.Get("platform"))
	if err != nil {
		return nil, err
	}
	id, warnings, err := s.Containers.Create(c.Context(), container.CreateOptions{
		Name: c.query.Get("name"), Spec: spec, OldIPCDefault: wire.OldIPC(c.version), OldCgroupnsDefault: wire.OldCgroupns(c.version),
	})
	if err != nil {
		return nil, err
	}
	return api.CreateResponse{ID: string(id), Warnings: append(append([]string{}, warnings...), c.warnings...)}, nil
}

func (s *Server) containerStart(c *Ctx) (any, error) {
	if c.query.Get("checkpoint") != "" {
		return nil, wire.Invalid("checkpoint is only supported in experimental mode")
	}
	return nil, s.Containers.Start(c.Context(), c.Param("id"))
}

func (s *Server) stopOptions(c *Ctx) (o container.StopOptions, err error) {
	o.Signal = c.query.Get("signal")
	if t := c.query.Get("t"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil {
			return o, wire.Invalid("%w", err)
		}
		o.Grace = &n
	}
	return o, nil
}

func (s *Server) containerStop(c *Ctx) (any, error) {
	o, err := s.stopOptions(c)
	if err != nil {
		return nil, err
	}
	return nil, s.Containers.Stop(c.Context(), c.Param("id"), o)
}

func (s *Server) containerRestart(c *Ctx) (any, error) {
	o, err := s.stopOptions(c)
	if err != nil {
		return nil, err
	}
	return nil, s.Containers.Restart(c.Context(), c.Param("id"), o)
}

func (s *Server) containerKill(c *Ctx) (any, error) {
	return nil, s.Containers.Kill(c.Context(), c.Param("id"), c.query.Get("signal"))
}

func (s *Server) containerPause(c *Ctx) (any, error) {
	return nil, s.Containers.Pause(c.Context(), c.Param("id"))
}

func (s *Server) containerUnpause(c *Ctx) (any, error) {
	return nil, s.Containers.Unpause(c.Context(), c.Param("id"))
}

func (s *Server) containerRename(c *Ctx) (any, error) {
	return nil, s.Containers.Rename(c.Context(), c.Param("id"), c.query.Get("name"))
}

// size reads the size of a terminal; the kernel takes the lower sixteen bits.
func (s *Server) size(c *Ctx) (rows, cols uint16, err error) {
	h, err := wire.Unsigned("resize height", c.query.Get("h"))
	if err != nil {
		return 0, 0, err
	}
	w, err := wire.Unsigned("resize width", c.query.Get("w"))
	return uint16(h), uint16(w), err
}

func (s *Server) containerResize(c *Ctx) (any, error) {
	rows, cols, err := s.size(c)
	if err != nil {
		return nil, err
	}
	return nil, s.Containers.Resize(c.Context(), c.Param("id"), rows, cols)
}

func (s *Server) containerRemove(c *Ctx) (any, error) {
	return nil, s.Containers.Remove(c.Context(), c.Param("id"), container.RemoveOptions{Force: c.flag("force"), Volumes: c.flag("v"), Link: c.flag("link")})
}

func (s *Server) containerInspect(c *Ctx) (any, error) {
	sn, err := s.Containers.Get(c.Param("id"))
	if err != nil {
		return nil, err
	}
	driver, _ := s.Images.Driver()
	links, _ := s.Containers.LinkNames()
	f := wire.Facts{Driver: driver, Dir: s.Containers.Dir(sn.ID), LogPath: s.Containers.LogPath(sn.ID), ExecIDs: s.Containers.ExecIDs(sn.ID), Links: links(sn)}
	if c.flag("size") {
		own, whole, err := s.Images.Sizes(c.Context(), string(sn.ID))
		if err != nil {
			return nil, err
		}
		f.SizeRw, f.SizeRootFs = &own, &whole
	}
	return wire.Inspect(sn, f), nil
}

// containerWait flushes its head as soon as the waiter is registered: clients start the container only then.
func (s *Server) containerWait(c *Ctx) (any, error) {
	cond := container.WaitCondition(c.query.Get("condition"))
	switch cond {
	case "":
		cond = container.WaitNotRunning
	case container.WaitNotRunning, container.WaitNextExit, container.WaitRemoved:
	default:
		return nil, wire.Invalid("invalid condition: %q", string(cond))
	}
	ch, err := s.Containers.Wait(c.Context(), c.Param("id"), cond)
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	if wire.WaitFlushes(c.version) {
		_ = http.NewResponseController(c.w).Flush() // the client may be gone: noticed below
	}
	select {
	case r := <-ch:
		resp := api.WaitResponse{StatusCode: int64(r.Code)}
		if r.Error != "" {
			resp.Error = &api.WaitExitError{Message: r.Error}
		}
		_ = json.NewEncoder(c.w).Encode(resp) // as above
	case <-c.Context().Done():
	}
	return nil, done
}

// contentType of a stream: newer clients learn from it whether it is multiplexed.
func contentType(c *Ctx, tty bool) string {
	if !tty && wire.TypedStreams(c.version) {
		return "application/vnd.docker.multiplexed-stream"
	}
	return "application/vnd.docker.raw-stream"
}

// attach opens the streams of a container, and its log if that is to be read here.
func (s *Server) attach(c *Ctx, which shim.Which) (*container.Streams, *container.LogReader, error) {
	o := container.AttachOptions{Which: which, Logs: c.flag("logs"), Live: c.flag("stream")}
	ref := c.Param("id")
	// The log of a container that does not run is read here; of a running one the shim replays it without a gap.
	sn, err := s.Containers.Get(ref)
	if err != nil {
		return nil, nil, err
	}
	var replay *container.LogReader
	if o.Logs && (!o.Live || !sn.State.Phase.Live()) {
		if replay, err = s.Containers.Logs(c.Context(), ref, container.LogOptions{Stdout: o.Which.Stdout, Stderr: o.Which.Stderr, Tail: -1}); err != nil {
			return nil, nil, err
		}
		o.Logs = false
	}
	st, err := s.Containers.Attach(c.Context(), ref, o)
	return st, replay, err
}

func (s *Server) containerAttach(c *Ctx) (any, error) {
	keys, err := stream.ParseKeys(c.query.Get("detachKeys"))
	if err != nil {
		return nil, wire.Invalid("%v", err)
	}
	which := shim.Which{Stdin: c.flag("stdin"), Stdout: c.flag("stdout"), Stderr: c.flag("stderr")}
	st, replay, err := s.attach(c, which)
	if err != nil {
		return nil, err
	}
	if !st.TTY || !which.Stdin {
		keys = nil
	}
	conn, err := stream.Hijack(c.w, c.Request, contentType(c, st.TTY), "")
	return nil, s.join(conn, err, st, st.Stream, replay, keys, st.TTY)
}

// attachSocket is attach over a web socket. Its streams are never multiplexed; old requests get all of them.
func (s *Server) attachSocket(c *Ctx) (any, error) {
	keys, err := stream.ParseKeys(c.query.Get("detachKeys"))
	if err != nil {
		return nil, wire.Invalid("%v", err)
	}
	if err := stream.CheckSocket(c.Request); err != nil {
		return nil, wire.Invalid("%w", err)
	}
	which := shim.Which{Stdin: true, Stdout: true, Stderr: true}
	if c.version >= 42 {
		which = shim.Which{Stdin: c.flag("stdin"), Stdout: c.flag("stdout"), Stderr: c.flag("stderr")}
	}
	st, replay, err := s.attach(c, which)
	if err != nil {
		return nil, err
	}
	if !st.TTY || !which.Stdin {
		keys = nil
	}
	peer := stream.Peer(st.Stream)
	if st.Stream != nil && !st.TTY {
		peer = stream.Plain(peer)
	}
	conn, err := stream.AcceptSocket(c.w, c.Request, c.version < 28)
	return nil, s.join(conn, err, st, peer, replay, keys, true)
}

// join connects a client that was taken over, or could not be, with a container; raw tells how the log is written.
func (s *Server) join(conn *stream.Conn, err error, st *container.Streams, peer stream.Peer, replay *container.LogReader, keys []byte, raw bool) error {
	if err != nil {
		if st.Stream != nil {
			_ = st.Close() // nobody reads it
		}
		return done
	}
	if replay != nil {
		_ = writeLog(conn, func() {}, replay, logs.FrameOptions{Raw: raw}) // a client that left: noticed below
	}
	if st.Stream == nil {
		_ = conn.CloseWrite() // a web socket says good-bye
		_ = conn.Close()      // the whole answer was given
		return done
	}
	if stream.Join(conn, peer, keys, nil) {
		st.Detached()
	}
	return done
}

// writeLog renders records; many go out with one write, but none waits for the next to come.
func writeLog(w io.Writer, flush func(), r *container.LogReader, o logs.FrameOptions) error {
	const batch = 128 << 10
	buf := make([]byte, 0, batch+logs.MaxRecord*2)
	for rec, err := range r.Records {
		if err != nil {
			return err
		}
		buf = logs.AppendFrame(buf, rec, o)
		if len(buf) >= batch || rec.Last {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			flush()
			buf = buf[:0]
		}
	}
	if len(buf) > 0 {
		if _, err := w.Write(buf); err != nil {
			return err
		}
		flush()
	}
	return nil
}

func (s *Server) containerLogs(c *Ctx) (any, error) {
	o := container.LogOptions{Stdout: c.flag("stdout"), Stderr: c.flag("stderr"), Follow: c.flag("follow"), Tail: -1, Timestamps: c.flag("timestamps"), Details: c.flag("details")}
	if !o.Stdout && !o.Stderr {
		return nil, wire.Invalid("must specify at least one of 'stdout' or 'stderr'")
	}
	if n, err := strconv.Atoi(c.query.Get("tail")); err == nil && n >= 0 {
		o.Tail = n
	}
	var err error
	if o.Since, err = wire.Time(`"since"`, c.query.Get("since")); err != nil {
		return nil, err
	}
	if o.Until, err = wire.Time(`"until"`, c.query.Get("until")); err != nil {
		return nil, err
	}
	r, err := s.Containers.Logs(c.Context(), c.Param("id"), o)
	if err != nil {
		return nil, err
	}
	if wire.TypedStreams(c.version) {
		c.w.Header().Set("Content-Type", contentType(c, r.TTY))
	}
	c.w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(c.w)
	_ = rc.Flush() // a client that left: noticed at the first write
	_ = writeLog(c.w, func() { _ = rc.Flush() }, r, logs.FrameOptions{Timestamps: o.Timestamps, Details: o.Details, Raw: r.TTY})
	return nil, done
}
