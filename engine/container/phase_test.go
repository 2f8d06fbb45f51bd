package container

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/shim"
)

func TestEveryPairOfPhaseAndTrigger(t *testing.T) {
	phases := []Phase{Created, Starting, Running, Paused, Restarting, Exited, Removing, Dead}
	triggers := []trigger{trStart, trStarted, trStartFailed, trPause, trResume, trExit, trExitRestart, trGiveUp, trRemove, trRemoveFailed}
	legal := 0
	for _, p := range phases {
		for _, tr := range triggers {
			s := State{Phase: p, Exit: &shim.Exit{}}
			got, err := s.next(tr)
			if want, ok := table[p][tr]; ok {
				legal++
				if err != nil || got != want {
					t.Errorf("%s on %s: %s, %v", tr, p, got, err)
				}
			} else if !errdefs.IsConflict(err) || got != p {
				t.Errorf("%s on %s must be a conflict: %s, %v", tr, p, got, err)
			}
		}
	}
	if legal != 19 {
		t.Errorf("%d legal steps", legal)
	}
	if p, _ := (&State{Phase: Starting}).next(trStartFailed); p != Created {
		t.Errorf("a container that never ran becomes %s", p)
	}
}

func TestEveryPhaseCanReachRemoving(t *testing.T) {
	for from := range table {
		seen := map[Phase]bool{}
		var walk func(Phase) bool
		walk = func(p Phase) bool {
			if p == Removing {
				return true
			}
			if seen[p] {
				return false
			}
			seen[p] = true
			for _, to := range table[p] {
				if walk(to) {
					return true
				}
			}
			return false
		}
		if !walk(from) {
			t.Errorf("%s is a trap", from)
		}
	}
}
