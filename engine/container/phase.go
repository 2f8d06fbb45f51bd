package container

import "github.com/berthd/berth/engine/internal/errkind"

// trigger is what makes a container change its phase.
type trigger string

const (
	trStart        trigger = "start"
	trStarted      trigger = "started"
	trStartFailed  trigger = "startFailed"
	trPause        trigger = "pause"
	trResume       trigger = "resume"
	trExit         trigger = "exit"
	trExitRestart  trigger = "exitRestart"
	trGiveUp       trigger = "giveUp"
	trRemove       trigger = "remove"
	trRemoveFailed trigger = "removeFailed"
)

// table holds every legal step; what is not in it is a conflict. A failed start goes back to Created if the container never
// ran; see next.
var table = map[Phase]map[trigger]Phase{
	Created:    {trStart: Starting, trRemove: Removing},
	Starting:   {trStarted: Running, trStartFailed: Exited, trExit: Exited, trExitRestart: Restarting},
	Running:    {trPause: Paused, trExit: Exited, trExitRestart: Restarting},
	Paused:     {trResume: Running, trExit: Exited, trExitRestart: Restarting},
	Restarting: {trStart: Starting, trGiveUp: Exited, trRemove: Removing},
	Exited:     {trStart: Starting, trRemove: Removing},
	Removing:   {trRemoveFailed: Dead},
	Dead:       {trRemove: Removing},
}

// next returns the phase after t. ErrConflict if the step is not legal.
func (s *State) next(t trigger) (Phase, error) {
	p, ok := table[s.Phase][t]
	if !ok {
		return s.Phase, errkind.Conflict("container is %s: cannot %s", s.Phase, t)
	}
	if t == trStartFailed && s.Exit == nil {
		return Created, nil
	}
	return p, nil
}
