package container

import (
	"time"

	"github.com/berthd/berth/engine/network"
	"github.com/berthd/berth/engine/shim"
)

// Phase is the single word for where a container is in its life. Docker's booleans are derived from it.
type Phase string

// The phases.
const (
	Created    Phase = "created"
	Starting   Phase = "starting"
	Running    Phase = "running"
	Paused     Phase = "paused"
	Restarting Phase = "restarting"
	Exited     Phase = "exited"
	Removing   Phase = "removing"
	Dead       Phase = "dead"
)

// Live reports whether processes of the container exist.
func (p Phase) Live() bool { return p == Running || p == Paused }

// Snapshot is an immutable view of a container. Readers hold it without locks and must not change it.
type Snapshot struct {
	ID        ID
	Name      string    // without leading slash
	Created   time.Time // UTC
	Spec      *Spec
	State     State
	Endpoints []network.Endpoint // empty when not running
	ExecIDs   []string           // of running execs; nil when none
	LogPath   string             // "" until first start
	// Files made for the container, "" until first start.
	HostnamePath, HostsPath, ResolvConfPath string
}

// State is the changing part of a container.
type State struct {
	Phase         Phase
	Before        Phase      // the phase that Starting shows as
	Pid           int        // host pid namespace; 0 unless Phase.Live()
	Exit          *shim.Exit // last exit; nil if it never ran
	Error         string     // why the last start failed; for humans
	ErrorCode     int        // exit code shown for a start that failed (126, 127, 128); 0 otherwise
	StartedAt     time.Time
	FinishedAt    time.Time
	RestartCount  int
	StopRequested bool // a user asked; the restart policy respects it
	RemoveVolumes bool `json:",omitempty"` // of phase Removing: anonymous volumes go as well
	Health        *Health
	SandboxID     string // id of the network sandbox, "" when not running
	SandboxKey    string // file that pins its namespace; "" when not running
}

// ExitCode is what inspect, list and wait show: of the last exit or of the failed start, 0 before either.
func (s *State) ExitCode() int {
	switch {
	case s.ErrorCode != 0:
		return s.ErrorCode
	case s.Exit != nil:
		return s.Exit.Code
	}
	return 0
}

// Health is what the probes found.
type Health struct {
	Status        string // starting | healthy | unhealthy
	FailingStreak int
	Log           []HealthResult // last five
}

// HealthResult is one probe.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}
