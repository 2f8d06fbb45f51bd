//go:build root

package crashtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/engine/enginetest"
)

func simple(cmd string, host map[string]any) map[string]any {
	if host == nil {
		host = map[string]any{}
	}
	return map[string]any{"Cmd": []string{"sh", "-c", cmd}, "HostConfig": host}
}

func policy(name string) map[string]any {
	return map[string]any{"RestartPolicy": map[string]any{"Name": name}}
}

// run creates and starts a container.
func run(t *testing.T, d *enginetest.Daemon, name string, config map[string]any) string {
	t.Helper()
	id := d.Create(t, name, config)
	d.Want(t, "POST", "/containers/"+name+"/start", nil, 204)
	return id
}

// until waits for a condition of a container; twenty seconds are enough for anything.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// code is what wait answers.
func code(t *testing.T, d *enginetest.Daemon, name string) int {
	t.Helper()
	var a struct{ StatusCode int }
	if err := json.Unmarshal(d.Want(t, "POST", "/containers/"+name+"/wait", nil, 200), &a); err != nil {
		t.Fatal(err)
	}
	return a.StatusCode
}

// lines is the log of a container without its frames.
func lines(t *testing.T, d *enginetest.Daemon, name string) []string {
	t.Helper()
	var out strings.Builder
	for b := d.Want(t, "GET", "/containers/"+name+"/logs?stdout=1", nil, 200); len(b) >= 8; {
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		out.Write(b[8 : 8+n])
		b = b[8+n:]
	}
	return strings.Fields(out.String())
}

// event is the part of an event that is looked at.
type event struct {
	Action string
	Actor  struct{ Attributes map[string]string }
}

// told is the events about a container since a time.
func told(t *testing.T, d *enginetest.Daemon, since time.Time, name string) (out []event) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(d.Want(t, "GET", fmt.Sprintf(`/events?since=%d&until=%d&filters={"container":[%q],"type":["container"]}`, since.Unix(), time.Now().Unix()+1, name), nil, 200))))
	for {
		var e event
		if err := dec.Decode(&e); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
}

// TestCrash is the promise for a daemon that dies: containers run on, their ports answer, not a line of their logs is missing,
// and what ended meanwhile has its true code, its event and its policy.
func TestCrash(t *testing.T) {
	d := enginetest.New(t)
	d.Start(t)
	d.Load(t)
	begun := time.Now()
	run(t, d, "counter", simple("i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done", nil))
	web := simple("exec httpd -f -h /www", map[string]any{"PortBindings": map[string]any{"80/tcp": []map[string]string{{"HostPort": "8080"}}}})
	run(t, d, "web", web)
	page := func() bool { return d.Inside("curl", "-fs", "-m", "2", "http://127.0.0.1:8080/").Run() == nil }
	until(t, "the page", page)
	poll := d.Inside("sh", "-c", "while true; do curl -fs -m 2 http://127.0.0.1:8080/ >/dev/null && echo yes || echo no; sleep 0.05; done")
	answers, err := poll.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := poll.Start(); err != nil {
		t.Fatal(err)
	}
	polled := make(chan [2]int, 1)
	go func() {
		var n [2]int
		for s := bufio.NewScanner(answers); s.Scan(); {
			n[0]++
			if s.Text() != "yes" {
				n[1]++
			}
		}
		polled <- n
	}()
	counter, webPid := d.Inspect(t, "counter").State.Pid, d.Inspect(t, "web").State.Pid
	for round := range 3 {
		n := func(name string) string { return fmt.Sprint(name, round) }
		run(t, d, n("short"), simple(fmt.Sprintf("sleep 0.3; exit %d", 40+round), nil))
		run(t, d, n("again"), simple("sleep 0.3; exit 3", policy("on-failure")))
		run(t, d, n("gone"), simple("sleep 0.3", map[string]any{"AutoRemove": true}))
		run(t, d, n("stopped"), simple("sleep 1000", policy("unless-stopped")))
		d.Want(t, "POST", "/containers/"+n("stopped")+"/stop?t=0", nil, 204)
		d.Kill(t)
		time.Sleep(700 * time.Millisecond) // not a wait for something: the containers end while nobody looks
		d.Start(t)
		if c := code(t, d, n("short")); c != 40+round {
			t.Errorf("round %d: exit code %d", round, c)
		}
		until(t, "the policy starts it again", func() bool { return d.Inspect(t, n("again")).RestartCount > 0 })
		until(t, "the auto-removal", func() bool { s, _, _ := d.Call("GET", "/containers/"+n("gone")+"/json", nil); return s == 404 })
		if s := d.Inspect(t, n("stopped")).State.Status; s != "exited" {
			t.Errorf("round %d: a stopped container is %s", round, s)
		}
		if d.Inspect(t, "counter").State.Pid != counter || d.Inspect(t, "web").State.Pid != webPid {
			t.Errorf("round %d: pids changed", round)
		}
		es := told(t, d, begun, n("short"))
		if i := slices.IndexFunc(es, func(e event) bool { return e.Action == "die" }); i < 0 || es[i].Actor.Attributes["exitCode"] != fmt.Sprint(40+round) {
			t.Errorf("round %d: events of a container that ended while no daemon ran: %v", round, es)
		}
		var x struct{ ID string }
		if err := json.Unmarshal(d.Want(t, "POST", "/containers/counter/exec", map[string]any{"Cmd": []string{"echo", "in"}, "AttachStdout": true}, 201), &x); err != nil {
			t.Fatal(err)
		}
		if b := d.Want(t, "POST", "/exec/"+x.ID+"/start", map[string]any{}, 200); !strings.HasSuffix(string(b), "in\n") {
			t.Errorf("round %d: exec gave %q", round, b)
		}
		attached(t, d, "counter")
		d.Want(t, "DELETE", "/containers/"+n("again")+"?force=1", nil, 204)
	}
	if err := poll.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = poll.Wait() // killed
	if n := <-polled; n[0] == 0 || n[1] > 0 {
		t.Errorf("the port was asked %d times and did not answer %d times", n[0], n[1])
	}
	d.Want(t, "POST", "/containers/counter/kill", nil, 204)
	if c := code(t, d, "counter"); c != 137 {
		t.Errorf("exit code %d", c)
	}
	for i, l := range lines(t, d, "counter") {
		if l != fmt.Sprint(i+1) {
			t.Fatalf("line %d of the log is %s", i+1, l)
		}
	}
	enginetest.CheckInvariants(t, d)
	for _, c := range d.Containers(t) {
		d.Want(t, "DELETE", "/containers/"+c.ID+"?force=1&v=1", nil, 204)
	}
	enginetest.CheckInvariants(t, d)
}

// attached reads something from the output of a container that runs.
func attached(t *testing.T, d *enginetest.Daemon, name string) {
	t.Helper()
	c, err := net.Dial("unix", d.Sock())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "POST /containers/%s/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", name); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		head, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if head == "\r\n" {
			break
		}
	}
	frame := make([]byte, 10)
	if _, err := io.ReadFull(r, frame); err != nil || frame[0] != 1 {
		t.Errorf("attach gave %q, %v", frame, err)
	}
}

// TestStopInOrder is what SIGTERM does: containers are stopped and come back by their policies, or, with live-restore, stay.
func TestStopInOrder(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("live-restore=%t", live), func(t *testing.T) {
			flags := []string{fmt.Sprintf("--live-restore=%t", live)}
			d := enginetest.New(t)
			d.Start(t, flags...)
			d.Load(t)
			run(t, d, "no", simple("trap 'exit 5' TERM; echo up; while true; do sleep 0.05; done", nil))
			run(t, d, "always", simple("trap 'exit 5' TERM; echo up; while true; do sleep 0.05; done", policy("always")))
			run(t, d, "unless", simple("trap 'exit 5' TERM; echo up; while true; do sleep 0.05; done", policy("unless-stopped")))
			run(t, d, "user", simple("sleep 1000", policy("always")))
			d.Want(t, "POST", "/containers/user/stop?t=0", nil, 204)
			for _, n := range []string{"no", "always", "unless"} {
				until(t, n+" is up", func() bool { return len(lines(t, d, n)) == 1 })
			}
			pid := d.Inspect(t, "no").State.Pid
			d.Stop(t)
			d.Start(t, flags...)
			want := map[string]string{"no": "exited", "always": "running", "unless": "running", "user": "running"}
			if live {
				want["no"], want["user"] = "running", "running"
			}
			for n, s := range want {
				until(t, n+" is "+s, func() bool { return d.Inspect(t, n).State.Status == s })
			}
			if c := d.Inspect(t, "no"); live && c.State.Pid != pid || !live && c.State.ExitCode != 5 {
				t.Errorf("the container without a policy: %+v", c.State)
			}
			enginetest.CheckInvariants(t, d)
			for _, c := range d.Containers(t) {
				d.Want(t, "DELETE", "/containers/"+c.ID+"?force=1", nil, 204)
			}
			enginetest.CheckInvariants(t, d)
			d.Stop(t)
			d.Start(t, flags...)
			enginetest.CheckInvariants(t, d)
		})
	}
}

// TestSoak makes and removes containers until what leaks would be seen.
func TestSoak(t *testing.T) {
	d := enginetest.New(t)
	d.Start(t)
	d.Load(t)
	cycle := func(n int) {
		config := body("echo x")
		delete(config["HostConfig"].(map[string]any), "PortBindings")
		name := fmt.Sprint("c", n)
		run(t, d, name, config)
		d.Want(t, "POST", "/containers/"+name+"/wait", nil, 200)
		d.Want(t, "DELETE", "/containers/"+name+"?v=1", nil, 204)
	}
	type counts struct{ NFd, NGoroutines int }
	now := func() (c counts) {
		if err := json.Unmarshal(d.Want(t, "GET", "/info", nil, 200), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for n := range 20 {
		cycle(n)
	}
	enginetest.CheckInvariants(t, d)
	before := now()
	const cycles = 200
	for n := range cycles {
		cycle(n)
	}
	enginetest.CheckInvariants(t, d)
	// A leak is one for each cycle; what comes and goes is a few.
	var after counts
	until(t, "descriptors and goroutines go back", func() bool {
		after = now()
		return after.NFd <= before.NFd+10 && after.NGoroutines <= before.NGoroutines+20
	})
	t.Logf("%d cycles: descriptors %d then %d, goroutines %d then %d", cycles, before.NFd, after.NFd, before.NGoroutines, after.NGoroutines)
}
