package shim

import (
	"context"
	"io"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/logs"
)

// Exit is how a process ended, as its witness saw it.
type Exit struct {
	Code      int       `json:"code"`      // 0–255; 128+signal when killed by a signal
	Signal    int       `json:"signal"`    // 0 if it returned by itself
	OOMKilled bool      `json:"oomKilled"` // the kernel killed a process of its cgroup for memory
	At        time.Time `json:"at"`        // when the shim reaped it, UTC
	Witnessed bool      `json:"witnessed"` // false: nobody saw it, Code is 255
}

// Bundle is what a task is made from: a directory that holds config.json (OCI) and rootfs/, mounted by the caller.
type Bundle struct {
	// Runtime is the program that makes the container; zero: the shim does it itself.
	Runtime Runtime `json:"runtime"`
	ID      string  // container id, 64 hex digits
	Dir     string  // absolute; exec-root/shim/<id>
	IO      IO
}

// Runtime is an OCI runtime program.
type Runtime struct {
	Path string   `json:"path,omitempty"` // absolute, or a name to be found in PATH when the engine starts
	Args []string `json:"args,omitempty"` // global options
}

// RuntimeSpecVersion is the version that the specification of a bundle for a runtime program must claim: programs refuse one
// newer than themselves, and ignore what they do not know.
const RuntimeSpecVersion = "1.0.2"

// IO says what the shim does with the init process's stdio.
type IO struct {
	TTY       bool        `json:"tty"`
	Stdin     bool        `json:"stdin"`     // keep a stdin open (OpenStdin); otherwise the process reads /dev/null
	StdinOnce bool        `json:"stdinOnce"` // close stdin when the first client's stdin ends
	Log       logs.Config `json:"log"`
	LogPath   string      `json:"logPath"` // file for json-file and local; unused for none
	// LogAttrs go into every record (from log options labels and env).
	LogAttrs map[string]string `json:"logAttrs"`
}

// ExecSpec is an additional process for a task.
type ExecSpec struct {
	Process *specs.Process // Terminal included
	Stdin   bool           // give it a stdin pipe; otherwise /dev/null
}

// Which names the streams a client wants.
type Which struct {
	Stdin, Stdout, Stderr bool
	// Replay asks for what is in the log first, without a gap to the live stream (attach with logs=1 and stream=1).
	Replay bool
}

// Stream is one client's connection to a process's stdio.
//
// Read yields stdcopy frames (8-byte header, then payload) without a TTY and raw bytes with one; io.EOF after the process
// has ended and everything it wrote was delivered. Write feeds stdin; CloseWrite ends it. Close drops the client.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// State of a process as its shim knows it.
type State struct {
	Status Status
	Pid    int   // host pid namespace
	Exit   *Exit // set when Status is Stopped
}

// Status of a process.
type Status string

// The statuses.
const (
	StatusCreated Status = "created"
	StatusRunning Status = "running"
	StatusPaused  Status = "paused"
	StatusStopped Status = "stopped"
)

// Process is an exec process of a task. Methods are safe for concurrent use.
type Process interface {
	ID() string
	// Start runs it and returns its pid in the host's namespace. Errors are *StartError.
	Start(ctx context.Context) (pid int, err error)
	// Wait returns after the exit is recorded and all output was handed to the streams. Any number of callers.
	Wait(ctx context.Context) (Exit, error)
	Kill(ctx context.Context, sig syscall.Signal) error
	Resize(ctx context.Context, rows, cols uint16) error
	Open(ctx context.Context, w Which) (Stream, error)
	State(ctx context.Context) (State, error)
	// Delete frees what the shim holds for it. Idempotent.
	Delete(ctx context.Context) error
}

// Task is a container's running side: its init process and its execs. Methods are safe for concurrent use.
type Task interface {
	ID() string
	Pid() int // of init, host pid namespace
	State(ctx context.Context) (State, error)
	// Start releases the created init. Errors are *StartError.
	Start(ctx context.Context) error
	// Wait returns after exit.json is durable and the log is complete and closed. Any number of callers, also after exit.
	Wait(ctx context.Context) (Exit, error)
	Kill(ctx context.Context, sig syscall.Signal) error
	// KillAll ends every process of the task's cgroup.
	KillAll(ctx context.Context) error
	// Exec registers a process; it runs at Process.Start. ErrAlreadyExists if the id is taken.
	Exec(ctx context.Context, execID string, p ExecSpec) (Process, error)
	// Process finds an exec made earlier, also by a daemon that is gone. ErrNotFound.
	Process(ctx context.Context, execID string) (Process, error)
	Open(ctx context.Context, w Which) (Stream, error)
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Update(ctx context.Context, r *specs.LinuxResources) error
	Resize(ctx context.Context, rows, cols uint16) error // character cells
	Pids(ctx context.Context) ([]int, error)             // host pid namespace
	// Delete frees everything the shim holds; the caller unmounts rootfs and removes the bundle. Idempotent.
	Delete(ctx context.Context) (Exit, error)
}

// Cause classifies why a process could not be started.
type Cause string

// The causes; CauseOther covers everything the user cannot mend in the command line.
const (
	CauseNotFound      Cause = "not-found"      // executable absent: exit code 127
	CauseNotExecutable Cause = "not-executable" // permission, directory, wrong format: 126
	CauseOther         Cause = "other"          // 128
)

// StartError is returned by Launch, Task.Start and Process.Start when the process could not be executed. Message holds the
// runtime's words, in the wording class that clients match ("executable file not found in $PATH", "permission denied", …).
type StartError struct {
	Cause   Cause
	Message string
}

func (e *StartError) Error() string { return e.Message }
