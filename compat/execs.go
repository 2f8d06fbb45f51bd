package compat

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	api "github.com/docker/docker/api/types/container"

	"github.com/berthd/berth/compat/stream"
	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
)

func (s *Server) execCreate(c *Ctx) (any, error) {
	var r api.ExecOptions
	if err := c.decode(&r, false); err != nil {
		return nil, err
	}
	o := container.ExecOptions{
		Argv: r.Cmd, Env: r.Env, User: r.User, WorkingDir: r.WorkingDir, TTY: r.Tty, Privileged: r.Privileged,
		AttachStdin: r.AttachStdin, AttachStdout: r.AttachStdout, AttachStderr: r.AttachStderr, DetachKeys: r.DetachKeys,
	}
	if r.ConsoleSize != nil {
		o.ConsoleSize = *r.ConsoleSize
	}
	if _, err := stream.ParseKeys(r.DetachKeys); err != nil {
		return nil, fmt.Errorf("Invalid escape keys (%s) provided", r.DetachKeys) //nolint:staticcheck // dockerd's text, and no bad argument there
	}
	id, err := s.Containers.ExecCreate(c.Context(), c.Param("id"), o)
	if err != nil {
		return nil, err
	}
	return map[string]string{"Id": id}, nil
}

func (s *Server) execStart(c *Ctx) (any, error) {
	var r api.ExecStartOptions
	if err := c.decode(&r, true); err != nil {
		return nil, err
	}
	id := c.Param("id")
	x, err := s.Containers.ExecGet(id)
	if err != nil {
		return nil, err
	}
	keys, err := stream.ParseKeys(x.Options.DetachKeys)
	if err != nil {
		return nil, wire.Invalid("%v", err)
	}
	o := container.ExecStartOptions{Detach: r.Detach}
	if r.ConsoleSize != nil {
		o.ConsoleSize = *r.ConsoleSize
	}
	st, err := s.Containers.ExecStart(context.WithoutCancel(c.Context()), id, o)
	if r.Detach {
		return nil, err
	}
	// What can be told before the connection is taken over has a status; the rest travels in the stream, as clients expect.
	if early := errdefs.IsNotFound(err) || errdefs.IsConflict(err); early && !errors.Is(err, container.ErrExecRan) {
		return nil, err
	}
	general := "Api-Version: " + MaxVersion + "\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/" + s.Version + " (linux)\r\n"
	conn, herr := stream.Hijack(c.w, c.Request, contentType(c, r.Tty), general)
	if herr != nil {
		if st != nil {
			_ = st.Close() // nobody reads it
		}
		return nil, done
	}
	say := func(text string) []byte {
		if r.Tty {
			return []byte(text + "\r\n")
		}
		return stream.AppendFrame(nil, []byte(text+"\r\n"))
	}
	if err != nil {
		_, _ = conn.Write(say(err.Error())) // the client may be gone
		_ = conn.Close()                    // as above
		return nil, done
	}
	if !st.TTY || !st.StdinOpen {
		keys = nil
	}
	// The process has a terminal or not as create said; how its output travels is said here.
	var peer stream.Peer = st
	switch {
	case st.TTY && !r.Tty:
		peer = stream.Frame(st)
	case !st.TTY && r.Tty:
		peer = stream.Unframe(st)
	}
	if stream.Join(conn, peer, keys, say("exec attach failed: error on attach stdin: read escape sequence")) {
		st.Detached()
	}
	return nil, done
}

func (s *Server) execResize(c *Ctx) (any, error) {
	rows, cols, err := s.size(c)
	if err != nil {
		return nil, err
	}
	return nil, s.Containers.ExecResize(c.Context(), c.Param("id"), rows, cols)
}

func (s *Server) execInspect(c *Ctx) (any, error) {
	x, err := s.Containers.ExecGet(c.Param("id"))
	if err != nil {
		return nil, err
	}
	type config struct {
		Tty        bool     `json:"tty"`
		Entrypoint string   `json:"entrypoint"`
		Arguments  []string `json:"arguments"`
		Privileged bool     `json:"privileged"`
		User       string   `json:"user,omitempty"`
	}
	keys := ""
	if x.Options.DetachKeys != "" {
		b, _ := stream.ParseKeys(x.Options.DetachKeys) // create refused those that cannot be parsed
		keys = base64.StdEncoding.EncodeToString(b)
	}
	return struct {
		ID                                string
		Running                           bool
		ExitCode                          *int
		ProcessConfig                     config
		OpenStdin, OpenStderr, OpenStdout bool
		CanRemove                         bool
		ContainerID                       string
		DetachKeys                        string
		Pid                               int
	}{
		x.ID, x.Running, x.ExitCode, config{x.Options.TTY, x.Options.Argv[0], append([]string{}, x.Options.Argv[1:]...), x.Options.Privileged, x.Options.User},
		x.Options.AttachStdin, x.Options.AttachStderr, x.Options.AttachStdout, false, string(x.Container), keys, x.Pid,
	}, nil
}
