//go:build root

package crashtest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/engine/enginetest"
)

// act drives a daemon until it is gone; answers that do not come are the point.
type act func(t *testing.T, d *enginetest.Daemon)

func body(cmd string) map[string]any {
	return map[string]any{
		"Image": "busybox:latest", "Cmd": []string{"sh", "-c", cmd}, "Volumes": map[string]any{"/data": map[string]any{}}, "ExposedPorts": map[string]any{"80/tcp": map[string]any{}},
		"HostConfig": map[string]any{"PortBindings": map[string]any{"80/tcp": []map[string]string{{"HostPort": "8081"}}}},
	}
}

func create(_ *testing.T, d *enginetest.Daemon) {
	_, _, _ = d.Call("POST", "/containers/create?name=victim", body("sleep 1000"))
}

func start(t *testing.T, d *enginetest.Daemon) {
	create(t, d)
	_, _, _ = d.Call("POST", "/containers/victim/start", nil)
}

func short(_ *testing.T, d *enginetest.Daemon) {
	_, _, _ = d.Call("POST", "/containers/create?name=victim", body("exit 7"))
	_, _, _ = d.Call("POST", "/containers/victim/start", nil)
	_, _, _ = d.Call("POST", "/containers/victim/wait", nil)
	_, _, _ = d.Call("DELETE", "/containers/victim?v=1", nil)
}

func remove(t *testing.T, d *enginetest.Daemon) {
	start(t, d)
	_, _, _ = d.Call("DELETE", "/containers/victim?force=1&v=1", nil)
}

func execute(t *testing.T, d *enginetest.Daemon) {
	start(t, d)
	_, b, _ := d.Call("POST", "/containers/victim/exec", map[string]any{"Cmd": []string{"sleep", "1000"}})
	var x struct{ ID string }
	_ = json.Unmarshal(b, &x) // an empty id is refused
	_, _, _ = d.Call("POST", "/exec/"+x.ID+"/start", map[string]any{"Detach": true})
}

func load(t *testing.T, d *enginetest.Daemon) {
	f, err := os.Open(d.Image(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _, _ = d.Call("POST", "/images/load?quiet=1", f)
}

// TestCrashAtEveryStep kills the daemon in the midst of each operation. After the next start nothing is half-made, what runs can
// be used, and when all is removed nothing is left.
func TestCrashAtEveryStep(t *testing.T) {
	for _, tc := range []struct {
		step string
		do   act
		want string // states of the container that may be found afterwards; "" is none
	}{
		{"create.volumes", create, ""},
		{"create.rootfs", create, ""},
		{"create.row", create, "created"},
		{"start.row", start, "created"},
		{"container.dir", start, "created"},
		{"start.effects", start, "created"},
		{"start.bundle", start, "created"},
		{"start.created", start, "created"},
		{"start.started", start, "running"},
		{"start.running", start, "running"},
		{"exit.seen", short, "exited"},
		{"exit.row", short, "exited"},
		{"exit.undone", short, "exited"},
		{"remove.row", short, ""},
		{"container.remove", remove, ""},
		{"remove.effects", remove, ""},
		{"remove.deleted", remove, ""},
		{"volume.remove", remove, ""},
		{"volume.data", create, ""},
		{"exec.started", execute, "running"},
		{"load.content", load, ""},
		{"load.unpacked", load, ""},
		{"load.named", load, ""},
	} {
		t.Run(tc.step, func(t *testing.T) {
			d := enginetest.New(t)
			if !strings.HasPrefix(tc.step, "load.") {
				d.Start(t)
				d.Load(t)
				d.Stop(t)
			}
			d.Begin(t, tc.step)
			if err := d.Ready(); err != nil {
				t.Fatal(err, d.Log())
			}
			tc.do(t, d)
			if !d.EndsWithin(5 * time.Second) {
				t.Fatalf("the step was not reached\n%s", d.Log())
			}
			d.Ended(t)
			d.Start(t)
			got := ""
			for _, c := range d.Containers(t) {
				got += c.State
			}
			if got != tc.want {
				t.Errorf("found %q, want %q\n%s", got, tc.want, d.Log())
			}
			if got == "exited" && d.Inspect(t, "victim").State.ExitCode != 7 {
				t.Errorf("exit code %d", d.Inspect(t, "victim").State.ExitCode)
			}
			enginetest.CheckInvariants(t, d)
			// Everything works as if nothing had been: the same again, to its end.
			d.Load(t)
			if got != "" {
				d.Want(t, "DELETE", "/containers/victim?force=1&v=1", nil, 204)
			}
			d.Want(t, "POST", "/containers/create?name=victim", body("exit 7"), 201)
			d.Want(t, "POST", "/containers/victim/start", nil, 204)
			d.Want(t, "POST", "/containers/victim/wait", nil, 200)
			d.Want(t, "DELETE", "/containers/victim?v=1", nil, 204)
			enginetest.CheckInvariants(t, d)
			// Every removal took its volumes along.
			var left struct{ Volumes []struct{ Name string } }
			if err := json.Unmarshal(d.Want(t, "GET", "/volumes", nil, 200), &left); err != nil || len(left.Volumes) > 0 {
				t.Errorf("left: %v %v", left.Volumes, err)
			}
		})
	}
}
