package shim

import (
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/internal/errkind"
)

// The protocol between daemon and shim: one connection per call on the shim's unix socket, one JSON line each way. Open
// turns its connection into the stream; Hold keeps the shim alive while the daemon lives.

// Op names a call.
type Op string

// The calls.
const (
	OpHold   Op = "hold"
	OpStop   Op = "stop" // end if there are no tasks
	OpCreate Op = "create"
	OpStart  Op = "start" // init, or the exec named
	OpWait   Op = "wait"
	OpKill   Op = "kill"
	OpExec   Op = "exec"
	OpOpen   Op = "open"
	OpResize Op = "resize"
	OpState  Op = "state"
	OpPids   Op = "pids"
	OpPause  Op = "pause"
	OpResume Op = "resume"
	OpUpdate Op = "update"
	OpDelete Op = "delete"
)

// Request is what the daemon sends.
type Request struct {
	Op        Op                    `json:"op"`
	ID        string                `json:"id,omitempty"`
	Exec      string                `json:"exec,omitempty"` // "" = init
	Bundle    *Bundle               `json:"bundle,omitempty"`
	Process   *ExecSpec             `json:"process,omitempty"`
	Signal    int                   `json:"signal,omitempty"`
	All       bool                  `json:"all,omitempty"`
	Rows      uint16                `json:"rows,omitempty"`
	Cols      uint16                `json:"cols,omitempty"`
	Which     *Which                `json:"which,omitempty"`
	Resources *specs.LinuxResources `json:"resources,omitempty"`
}

// Response is the answer. Kind and Cause are set only with Error.
type Response struct {
	Error string `json:"error,omitempty"`
	Kind  string `json:"kind,omitempty"`  // notfound | exists | precondition | ""
	Cause Cause  `json:"cause,omitempty"` // a start that failed
	Pid   int    `json:"pid,omitempty"`
	State *State `json:"state,omitempty"`
	Exit  *Exit  `json:"exit,omitempty"`
	Pids  []int  `json:"pids,omitempty"`
}

// Failure turns an error into a response.
func Failure(err error) Response {
	r := Response{Error: err.Error()}
	var se *StartError
	switch {
	case asStartError(err, &se):
		r.Cause = se.Cause
	case errdefs.IsNotFound(err):
		r.Kind = "notfound"
	case errdefs.IsAlreadyExists(err):
		r.Kind = "exists"
	case errdefs.IsConflict(err), errdefs.IsFailedPrecondition(err):
		r.Kind = "conflict"
	}
	return r
}

// Err is the inverse of Failure; nil for a success.
func (r *Response) Err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Cause != "":
		return &StartError{Cause: r.Cause, Message: r.Error}
	case r.Kind == "notfound":
		return errkind.NotFound("%s", r.Error)
	case r.Kind == "exists":
		return errkind.With(errdefs.ErrAlreadyExists, fmt.Errorf("%s", r.Error))
	case r.Kind == "conflict":
		return errkind.Conflict("%s", r.Error)
	}
	return fmt.Errorf("%s", r.Error)
}
