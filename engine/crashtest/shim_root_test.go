//go:build root

package crashtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/berthd/berth/engine/enginetest"
)

// killShims ends every shim of a daemon as a fault would, and only them.
func killShims(t *testing.T, d *enginetest.Daemon) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.Dir, "exec", "shims", "*", "pid"))
	if err != nil || len(files) == 0 {
		t.Fatal("no shim runs", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }

// TestShimDies: the containers of a dead shim end with it, policies hold, and nothing of them is left.
func TestShimDies(t *testing.T) {
	for _, tc := range []struct {
		name   string
		daemon bool // lives meanwhile
	}{{"while the daemon lives", true}, {"while no daemon runs", false}} {
		t.Run(tc.name, func(t *testing.T) {
			d := enginetest.New(t)
			d.Start(t)
			d.Load(t)
			run(t, d, "always", simple("sleep 1000 & sleep 1000", policy("always")))
			run(t, d, "once", simple("sleep 1000", nil))
			always, once := d.Inspect(t, "always").State.Pid, d.Inspect(t, "once").State.Pid
			if !tc.daemon {
				d.Kill(t)
			}
			killShims(t, d)
			if !tc.daemon {
				d.Start(t)
			}
			until(t, "the processes of a dead shim's containers end", func() bool { return gone(always) && gone(once) })
			until(t, "the policy starts its container again", func() bool {
				s := d.Inspect(t, "always").State
				return s.Status == "running" && s.Pid != always
			})
			until(t, "the other one has ended", func() bool { return d.Inspect(t, "once").State.Status == "exited" })
			if c := code(t, d, "once"); c != 255 {
				t.Errorf("code %d of an exit that nobody saw, want 255", c)
			}
			for _, name := range []string{"always", "once"} {
				d.Want(t, "DELETE", "/containers/"+name+"?force=1", nil, 204)
			}
			enginetest.CheckInvariants(t, d)
		})
	}
}
