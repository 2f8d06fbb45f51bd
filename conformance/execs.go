package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// running starts a container that sleeps and returns its id.
func (t *T) running(config, host obj) (string, error) {
	if config == nil {
		config = cmd("sleep", "1000")
	}
	id, err := t.create(config, host)
	if err != nil {
		return "", err
	}
	_, err = t.expect("POST", "/containers/"+id+"/start", nil, 204, "")
	return id, err
}

// newExec registers an exec and returns its id.
func (t *T) newExec(id string, config obj) (string, error) {
	a, err := t.expect("POST", "/containers/"+id+"/exec", config, 201, "Id")
	if err != nil {
		return "", err
	}
	x, _ := a.JSON()["Id"].(string)
	return x, nil
}

// execOutput runs an exec to its end, gives it input if there is some, and returns everything it sent.
func (t *T) execOutput(id string, config, start obj, input string) (out string, inspect map[string]any, err error) {
	x, err := t.newExec(id, config)
	if err != nil {
		return "", nil, err
	}
	conn, head, err := t.Hijack("/exec/"+x+"/start", start, true)
	if err != nil {
		return "", nil, fmt.Errorf("%q: %w", head, err)
	}
	defer conn.Close()
	if !strings.HasPrefix(head, "HTTP/1.1 101 UPGRADED\r\n") {
		return "", nil, fmt.Errorf("head %q", head)
	}
	if input != "" {
		if _, err := io.WriteString(conn, input); err != nil {
			return "", nil, err
		}
		if err := halfClose(conn); err != nil {
			return "", nil, err
		}
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		return string(b), nil, err
	}
	if config["AttachStdout"] == nil && config["AttachStderr"] == nil { // nothing tells when it ends
		if err := t.until("/exec/"+x+"/json", `"Running":false`)(); err != nil {
			return string(b), nil, err
		}
	}
	// Right after the end of the stream the exit is known.
	a, err := t.expect("GET", "/exec/"+x+"/json", nil, 200, `"Running":false`)
	if err != nil {
		return string(b), nil, err
	}
	return string(b), a.JSON(), nil
}

// frame is text as one frame of a stream.
func frame(stream byte, text string) string {
	n := len(text)
	return string([]byte{stream, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + text
}

// execPrints is a case of one exec in a running container.
func execPrints(name string, config, start obj, input, want string, code float64) Case {
	return story(name, []string{"ContainerExec", "ExecStart", "ExecInspect"}, func(t *T) error {
		id, err := t.running(nil, nil)
		if err != nil {
			return err
		}
		got, x, err := t.execOutput(id, config, start, input)
		if err != nil {
			return err
		}
		if !strings.Contains(got, want) || x["ExitCode"] != code {
			return fmt.Errorf("got %q and code %v, want %q and %v", got, x["ExitCode"], want, code)
		}
		return nil
	})
}

// refusedExec is a case of an exec that cannot run: in the stream when attached, as an error when not.
func refusedExec(name string, config obj, text string) Case {
	return story(name, []string{"ExecStart"}, func(t *T) error {
		id, err := t.running(nil, nil)
		if err != nil {
			return err
		}
		config["AttachStdout"] = true
		got, x, err := t.execOutput(id, config, obj{}, "")
		if err != nil {
			return err
		}
		if got == "" || got[0] != 1 || !strings.Contains(got, "OCI runtime exec failed: exec failed: ") || !strings.Contains(got, text) || !strings.HasSuffix(got, "\r\n") {
			return fmt.Errorf("attached: %q, want %q", got, text)
		}
		if c := x["ExitCode"]; c != 126.0 && c != 127.0 {
			return fmt.Errorf("exit code %v", c)
		}
		y, err := t.newExec(id, config)
		if err != nil {
			return err
		}
		a, err := t.Do("POST", "/exec/"+y+"/start", obj{"Detach": true})
		if err == nil && (a.Status != 400 || !strings.Contains(a.Message(), text)) {
			err = fmt.Errorf("detached: %d %s", a.Status, a.Body)
		}
		return err
	})
}

func execs() []Case {
	both := func(words ...string) obj { return obj{"Cmd": words, "AttachStdout": true, "AttachStderr": true} }
	with := func(o obj, k string, v any) obj { o[k] = v; return o }
	return []Case{
		execPrints("exec: streams are told apart", both("sh", "-c", "echo e >&2"), obj{}, "", frame(2, "e\n"), 0),
		execPrints("exec: environment", with(both("sh", "-c", "echo $E $HOME $PWD"), "Env", []string{"E=2"}), obj{}, "", frame(1, "2 /root /\n"), 0),
		execPrints("exec: user and directory", with(with(both("sh", "-c", "id -u; id -g; pwd"), "User", "42:77"), "WorkingDir", "/etc"), obj{}, "", "/etc\n", 0),
		execPrints("exec: numeric user", with(both("sh", "-c", "echo $(id -u):$(id -g)"), "User", "42:77"), obj{}, "", frame(1, "42:77\n"), 0),
		execPrints("exec: terminal", with(both("sh", "-c", "tty; echo $TERM"), "Tty", true), obj{"Tty": true}, "", "/dev/pts/0\r\nxterm\r\n", 0),
		execPrints("exec: terminal with frames", with(both("echo", "x"), "Tty", true), obj{}, "", frame(1, "x\r\n"), 0),
		execPrints("exec: no terminal, raw", both("echo", "x"), obj{"Tty": true}, "", "x\n", 0),
		execPrints("exec: console size", with(with(both("stty", "size"), "Tty", true), "ConsoleSize", []int{30, 90}), obj{"Tty": true}, "", "30 90\r\n", 0).since("1.42"),
		execPrints("exec: input ends", with(both("sh", "-c", "cat; exit 3"), "AttachStdin", true), obj{}, "hello\n", frame(1, "hello\n"), 3),
		execPrints("exec: input that is not attached", both("cat"), obj{}, "ignored\n", "", 0),
		execPrints("exec: nothing attached", obj{"Cmd": []string{"echo", "lost"}}, obj{}, "", "", 0),
		refusedExec("exec: no program", both("nosuch"), `exec: "nosuch": executable file not found in $PATH`),
		refusedExec("exec: no executable", both("/etc/passwd"), `exec: "/etc/passwd": permission denied`),
		refusedExec("exec: no directory", with(both("true"), "WorkingDir", "/no/such"), `chdir to cwd ("/no/such") set in config.json failed: no such file or directory`),
		story("exec: bad requests", []string{"ContainerExec", "ExecResize"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id + "/exec"
			return steps(t.want("POST", p, obj{}, 400, "No exec command specified"), t.want("POST", p, obj{"Cmd": "x"}, 400, "cannot unmarshal string into Go struct field"),
				t.want("POST", p, obj{"Cmd": []string{"x"}, "DetachKeys": "bogus,x"}, 500, "Invalid escape keys (bogus,x) provided"),
				t.want("POST", "/exec/nosuch/start", obj{}, 404, "No such exec instance: nosuch"), t.want("POST", "/exec/nosuch/resize?h=1&w=1", nil, 404, "No such exec instance: nosuch"),
				t.want("POST", "/exec/nosuch/resize?h=1", nil, 400, "invalid syntax"))
		}),
		story("exec: an unknown user", []string{"ContainerExec"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			return t.want("POST", "/containers/"+id+"/exec", obj{"Cmd": []string{"x"}, "User": "nosuch"}, 400, `"unable to find user nosuch: no matching entries in passwd file"`)()
		}).since("1.42"),
		story("exec: once only", []string{"ExecStart", "ExecInspect"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			x, err := t.newExec(id, obj{"Cmd": []string{"sh", "-c", "exit 6"}, "DetachKeys": "ctrl-a,b", "AttachStderr": true, "User": "0"})
			if err != nil {
				return err
			}
			p := "/exec/" + x
			return steps(t.want("GET", p+"/json", nil, 200, `"Running":false,"ExitCode":null,"ProcessConfig":{"tty":false,"entrypoint":"sh","arguments":["-c","exit 6"],"privileged":false,"user":"0"},"OpenStdin":false,"OpenStderr":true,"OpenStdout":false,"CanRemove":false,"ContainerID":"`+id+`","DetachKeys":"AWI=","Pid":0}`),
				t.want("GET", "/containers/"+id+"/json", nil, 200, `"ExecIDs":["`+x+`"]`), t.want("POST", p+"/start", obj{"Detach": true}, 200, ""), t.until("/exec/"+x+"/json", `"ExitCode":6`), t.want("POST", p+"/start", obj{"Detach": true}, 409, "has already run"), t.want("POST", p+"/start", obj{}, 200, "has already run\r\n"),
				t.want("GET", "/containers/"+id+"/json", nil, 200, `"ExecIDs":null`))
		}),
		story("exec: detach keys", []string{"ExecStart"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			x, err := t.newExec(id, obj{"Cmd": []string{"cat"}, "Tty": true, "AttachStdin": true, "AttachStdout": true, "DetachKeys": "ctrl-a,b"})
			if err != nil {
				return err
			}
			conn, _, err := t.Hijack("/exec/"+x+"/start", obj{"Tty": true}, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "\x01b"); err != nil {
				return err
			}
			b, err := io.ReadAll(conn)
			if err != nil || !strings.HasSuffix(string(b), "exec attach failed: error on attach stdin: read escape sequence\r\n") {
				return fmt.Errorf("%q, %w", b, err)
			}
			return nil
		}),
		story("exec: the container's state", []string{"ContainerExec", "ExecStart", "ExecInspect"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			x, err := t.newExec(id, obj{"Cmd": []string{"sleep", "100"}})
			if err != nil {
				return err
			}
			y, err := t.newExec(id, obj{"Cmd": []string{"true"}})
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/exec/"+x+"/start", obj{"Detach": true}, 200, ""), t.want("GET", "/exec/"+x+"/json", nil, 200, `"Running":true,"ExitCode":null`),
				t.want("POST", p+"/pause", nil, 204, ""), t.want("POST", p+"/exec", obj{"Cmd": []string{"true"}}, 409, `"Container `+id+` is paused, unpause the container before exec"`),
				t.want("POST", "/exec/"+y+"/start", obj{}, 409, `"Container `+id+` is paused, unpause the container before exec"`), t.want("POST", p+"/unpause", nil, 204, ""),
				t.want("POST", p+"/kill", nil, 204, ""), t.until("/exec/"+x+"/json", `"Running":false,"ExitCode":137`),
				t.want("POST", p+"/exec", obj{"Cmd": []string{"true"}}, 409, "ontainer "+id+" is not running"),
				t.want("DELETE", p, nil, 204, ""), t.want("GET", "/exec/"+x+"/json", nil, 404, "No such exec instance: "+x))
		}),
		story("exec: resize", []string{"ExecResize"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			x, err := t.newExec(id, obj{"Cmd": []string{"sh", "-c", "read l; stty size"}, "Tty": true, "AttachStdin": true, "AttachStdout": true})
			if err != nil {
				return err
			}
			conn, _, err := t.Hijack("/exec/"+x+"/start", obj{"Tty": true}, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := t.expect("POST", "/exec/"+x+"/resize?h=11&w=22", nil, 200, ""); err != nil {
				return err
			}
			if _, err := io.WriteString(conn, "go\n"); err != nil {
				return err
			}
			b, err := io.ReadAll(conn)
			if err != nil || !strings.HasSuffix(string(b), "11 22\r\n") {
				return fmt.Errorf("%q, %w", b, err)
			}
			return nil
		}),
		story("exec: events", []string{"SystemEvents", "ExecStart"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			since := time.Now().Unix()
			if _, _, err := t.execOutput(id, obj{"Cmd": []string{"sh", "-c", "exit 4"}}, obj{}, ""); err != nil {
				return err
			}
			if _, _, err := t.execOutput(id, obj{"Cmd": []string{"nosuch"}}, obj{}, ""); err != nil {
				return err
			}
			want := "exec_create: sh -c exit 4|exec_start: sh -c exit 4|exec_die 4|exec_create: nosuch|exec_start: nosuch"
			var got []string
			return poll(func() (bool, error) {
				all, err := t.eventsOf(obj{"container": []string{id}, "type": []string{"container"}}, since)
				if err != nil {
					return false, err
				}
				got = got[:0]
				for _, e := range all {
					if e.Actor.Attributes["execID"] != "" {
						got = append(got, strings.TrimSpace(e.Action+" "+e.Actor.Attributes["exitCode"]))
					}
				}
				return strings.Join(got, "|") == want, nil
			}, func() string { return strings.Join(got, "|") })
		}),
		story("exec: hundreds", []string{"ContainerExec", "ExecStart"}, func(t *T) error {
			id, err := t.running(nil, nil)
			if err != nil {
				return err
			}
			jobs, errs := make(chan int), make(chan error, 200)
			for range 8 {
				go func() {
					for i := range jobs {
						text := fmt.Sprintf("%d\n", i)
						got, x, err := t.execOutput(id, obj{"Cmd": []string{"echo", "-n", text}, "AttachStdout": true}, obj{}, "")
						if err == nil && (got != frame(1, text) || x["ExitCode"] != 0.0) {
							err = fmt.Errorf("exec %d: %q, %v", i, got, x["ExitCode"])
						}
						errs <- err
					}
				}()
			}
			go func() {
				defer close(jobs)
				for i := range cap(errs) {
					jobs <- i
				}
			}()
			for range cap(errs) {
				if e := <-errs; e != nil && err == nil {
					err = e
				}
			}
			if err != nil {
				return err
			}
			return t.want("GET", "/containers/"+id+"/json", nil, 200, `"ExecIDs":null`)()
		}).within(2 * time.Minute),
	}
}

// poll asks until f says yes, for half a minute at most; what tells what was seen instead.
func poll(f func() (bool, error), what func() string) error {
	for end := time.Now().Add(30 * time.Second); ; {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited half a minute: %s", what())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// eventsOf lists the events that happened since a second. They are no document of the specification: older versions carry
// fields beyond it.
func (t *T) eventsOf(filters obj, since int64) ([]happening, error) {
	f, err := json.Marshal(filters)
	if err != nil {
		return nil, err
	}
	q := fmt.Sprintf("/events?since=%d&until=%d&filters=%s", since, time.Now().Unix()+1, url.QueryEscape(string(f)))
	req, err := http.NewRequestWithContext(t.ctx, http.MethodGet, "http://engine"+t.full(q), nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out []happening
	for d := json.NewDecoder(resp.Body); ; {
		var h happening
		err := d.Decode(&h)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
}
