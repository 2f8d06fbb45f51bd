package container

import (
	"testing"
	"time"

	"github.com/berthd/berth/engine/shim"
)

func TestRestartDecision(t *testing.T) {
	always, failure := RestartPolicy{Name: "always"}, RestartPolicy{Name: "on-failure", MaxRetries: 2}
	for _, tc := range []struct {
		name   string
		p      RestartPolicy
		code   int
		st     State
		inARow int
		again  bool
		delay  time.Duration
	}{
		{"no", RestartPolicy{Name: "no"}, 1, State{}, 0, false, 0},
		{"always", always, 0, State{}, 0, true, 100 * time.Millisecond},
		{"always, but a user stopped it", always, 0, State{StopRequested: true}, 0, false, 0},
		{"always doubles", always, 0, State{}, 3, true, 800 * time.Millisecond},
		{"never more than a minute", always, 0, State{}, 50, true, time.Minute},
		{"on-failure after success", failure, 0, State{}, 0, false, 0},
		{"on-failure after a failure", failure, 1, State{RestartCount: 1}, 0, true, 100 * time.Millisecond},
		{"on-failure gives up", failure, 1, State{RestartCount: 2}, 0, false, 0},
		{"on-failure without limit", RestartPolicy{Name: "on-failure"}, 1, State{RestartCount: 9}, 1, true, 200 * time.Millisecond},
	} {
		again, delay := decide(tc.p, shim.Exit{Code: tc.code}, &tc.st, tc.inARow)
		if again != tc.again || again && delay != tc.delay {
			t.Errorf("%s: %v after %s", tc.name, again, delay)
		}
	}
}

func TestWantedAtBoot(t *testing.T) {
	exit := func(code int) *shim.Exit { return &shim.Exit{Code: code} }
	for _, tc := range []struct {
		name   string
		policy RestartPolicy
		st     State
		want   bool
	}{
		{"no policy", RestartPolicy{Name: "no"}, State{Phase: Exited, Exit: exit(1)}, false},
		{"always, stopped by a user", RestartPolicy{Name: "always"}, State{Phase: Exited, Exit: exit(0), StopRequested: true}, true},
		{"always, never started", RestartPolicy{Name: "always"}, State{Phase: Created}, false},
		{"unless-stopped", RestartPolicy{Name: "unless-stopped"}, State{Phase: Exited, Exit: exit(0)}, true},
		{"unless-stopped, stopped by a user", RestartPolicy{Name: "unless-stopped"}, State{Phase: Exited, Exit: exit(0), StopRequested: true}, false},
		{"on-failure after success", RestartPolicy{Name: "on-failure"}, State{Phase: Exited, Exit: exit(0)}, false},
		{"on-failure", RestartPolicy{Name: "on-failure"}, State{Phase: Exited, Exit: exit(137), StopRequested: true}, true},
		{"on-failure, retries used up", RestartPolicy{Name: "on-failure", MaxRetries: 1}, State{Phase: Exited, Exit: exit(1), RestartCount: 1}, false},
		{"between two tries", RestartPolicy{Name: "always"}, State{Phase: Restarting, Exit: exit(1)}, true},
	} {
		if got := wantedAtBoot(&Snapshot{Spec: &Spec{Restart: tc.policy}, State: tc.st}); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
