package container

import (
	"time"

	"github.com/berthd/berth/engine/shim"
)

// CreateOptions is a container to be made.
type CreateOptions struct {
	Name string // "" = a generated one; a leading slash is dropped
	Spec *Spec  // user's values; Create merges the image's configuration and the daemon's defaults into a copy
	// OldIPCDefault and OldCgroupnsDefault select the defaults of requests below API 1.40 and 1.41.
	OldIPCDefault, OldCgroupnsDefault bool
}

// StopOptions of Stop and Restart.
type StopOptions struct {
	Signal string // "" = the container's stop signal
	Grace  *int   // seconds; nil = the container's; -1 waits for ever
}

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force   bool // kill it first
	Volumes bool // anonymous volumes go too
	Link    bool // the name is that of a link: it goes, the container stays
}

// WaitCondition says what a waiter waits for.
type WaitCondition string

// The conditions.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
)

// WaitResult is delivered once.
type WaitResult struct {
	Code  int
	Error string // why the container failed; "" normally
}

// AttachOptions of Attach.
type AttachOptions struct {
	Which shim.Which // streams; none of them: nothing is streamed live
	Logs  bool       // replay the log first
	Live  bool       // then go on with the live stream
}

// Streams is an attached client's end. TTY says how Read's bytes are framed (raw or stdcopy).
type Streams struct {
	shim.Stream
	TTY bool
	// StdinOpen tells whether the container reads stdin at all; StdinOnce whether the end of this client's input closes it.
	StdinOpen, StdinOnce bool
	// Detached is to be called when the client typed its detach keys.
	Detached func()
}

// LogOptions of Logs.
type LogOptions struct {
	Stdout, Stderr, Follow bool
	Tail                   int // last records; negative: all
	Since, Until           time.Time
	Timestamps, Details    bool
}

// ExecOptions describes a process to run in a container.
type ExecOptions struct {
	Argv                                    []string
	Env                                     []string
	User                                    string // "" = the container's
	WorkingDir                              string // "" = the container's
	TTY                                     bool
	Privileged                              bool
	AttachStdin, AttachStdout, AttachStderr bool
	DetachKeys                              string
	ConsoleSize                             [2]uint
	LinkEnv                                 []string // from the container's links; filled in by the Manager
}

// Exec is an immutable view of an exec process.
type Exec struct {
	ID        string // 64 hex digits
	Container ID
	Options   ExecOptions
	Running   bool
	ExitCode  *int // nil until it ended
	Pid       int
}

// ExecStartOptions of ExecStart.
type ExecStartOptions struct {
	Detach      bool
	ConsoleSize [2]uint
}

// ListFilter reports whether a container belongs into a list.
type ListFilter func(*Snapshot) bool
