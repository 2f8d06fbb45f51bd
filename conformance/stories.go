package conformance

import (
	"fmt"
	"io"
	"strings"
)

func story(name string, ops []string, f func(t *T) error) Case {
	return Case{Name: name, Ops: ops, Run: f}
}

// steps runs f one after the other until one fails.
func steps(fs ...func() error) error {
	for i, f := range fs {
		if err := f(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func (t *T) want(method, path string, body any, status int, part string) func() error {
	return func() error { _, err := t.expect(method, path, body, status, part); return err }
}

func stories() []Case {
	return []Case{
		story("life of a container", []string{"ContainerStart", "ContainerStop", "ContainerKill", "ContainerRestart", "ContainerDelete", "ContainerRename"}, func(t *T) error {
			id, err := t.create(cmd("sleep", "100"), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(
				t.want("GET", p+"/json", nil, 200, `"Status":"created"`), t.want("POST", p+"/kill", nil, 409, "is not running"),
				t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/start", nil, 304, ""),
				t.want("GET", p+"/json", nil, 200, `"Status":"running"`), t.want("DELETE", p, nil, 409, "running"),
				t.want("POST", p+"/pause", nil, 204, ""), t.want("GET", p+"/json", nil, 200, `"Status":"paused"`), t.want("POST", p+"/unpause", nil, 204, ""),
				t.want("POST", p+"/rename?name="+t.prefix+"renamed", nil, 204, ""), t.want("GET", "/containers/"+t.prefix+"renamed/json", nil, 200, id),
				t.want("POST", p+"/restart?t=0", nil, 204, ""), t.want("POST", p+"/kill?signal=NOPE", nil, 400, "invalid signal: NOPE"),
				t.want("POST", p+"/stop?t=0", nil, 204, ""), t.want("POST", p+"/stop", nil, 304, ""),
				t.want("GET", p+"/json", nil, 200, `"ExitCode":137`), t.want("DELETE", p, nil, 204, ""), t.want("GET", p+"/json", nil, 404, "No such container"),
			)
		}),
		story("name in use", []string{"ContainerCreate"}, func(t *T) error {
			if _, err := t.create(cmd("true"), nil); err != nil {
				return err
			}
			_, err := t.expect("POST", "/containers/create?name="+t.prefix+"0", obj{"Image": "busybox"}, 409, "is already in use by container")
			return err
		}),
		story("missing program", []string{"ContainerStart"}, func(t *T) error {
			id, err := t.create(cmd("nosuch"), nil)
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 400, "executable file not found in $PATH"), t.want("GET", "/containers/"+id+"/json", nil, 200, `"ExitCode":127`))
		}),
		story("not executable", []string{"ContainerStart"}, func(t *T) error {
			id, err := t.create(cmd("/etc/passwd"), nil)
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 400, "permission denied"), t.want("GET", "/containers/"+id+"/json", nil, 200, `"ExitCode":126`))
		}),
		story("attach before start, half-close", []string{"ContainerAttach"}, func(t *T) error {
			c := cmd("cat")
			c["OpenStdin"], c["StdinOnce"], c["AttachStdin"], c["AttachStdout"] = true, true, true, true
			id, err := t.create(c, nil)
			if err != nil {
				return err
			}
			conn, head, err := t.Hijack("/containers/"+id+"/attach?stream=1&stdin=1&stdout=1", nil, true)
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 UPGRADED\r\n") {
				return fmt.Errorf("%q %w", head, err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "typed early\n"); err != nil {
				return err
			}
			if err := halfClose(conn); err != nil {
				return err
			}
			if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
				return err
			}
			b, err := io.ReadAll(conn)
			if want := "\x01\x00\x00\x00\x00\x00\x00\x0ctyped early\n"; err != nil || string(b) != want {
				return fmt.Errorf("%q, %w", b, err)
			}
			_, err = t.expect("POST", "/containers/"+id+"/wait", nil, 200, `"StatusCode":0`)
			return err
		}),
		story("old hijack answers 200", []string{"ContainerAttach"}, func(t *T) error {
			id, err := t.create(cmd("echo", "x"), nil)
			if err != nil {
				return err
			}
			conn, head, err := t.Hijack("/containers/"+id+"/attach", nil, false)
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || strings.Contains(strings.ToLower(head), "chunked") {
				return fmt.Errorf("%q %w", head, err)
			}
			return conn.Close()
		}),
		story("exec", []string{"ContainerExec", "ExecStart", "ExecInspect"}, func(t *T) error {
			id, err := t.create(cmd("sleep", "100"), nil)
			if err != nil {
				return err
			}
			if _, err := t.expect("POST", "/containers/"+id+"/exec", obj{"Cmd": []string{"true"}}, 409, "is not running"); err != nil {
				return err
			}
			if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
				return err
			}
			a, err := t.expect("POST", "/containers/"+id+"/exec", obj{"Cmd": []string{"sh", "-c", "echo out; exit 5"}, "AttachStdout": true}, 201, "Id")
			if err != nil {
				return err
			}
			x := a.JSON()["Id"].(string)
			conn, _, err := t.Hijack("/exec/"+x+"/start", obj{}, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			b, err := io.ReadAll(conn)
			if err != nil || string(b) != "\x01\x00\x00\x00\x00\x00\x00\x04out\n" {
				return fmt.Errorf("%q, %w", b, err)
			}
			_, err = t.expect("GET", "/exec/"+x+"/json", nil, 200, `"ExitCode":5`)
			return err
		}),
		story("auto-remove frees the name", []string{"ContainerWait"}, func(t *T) error {
			id, err := t.create(cmd("true"), obj{"AutoRemove": true})
			if err != nil {
				return err
			}
			got := make(chan error, 1)
			go func() {
				_, err := t.expect("POST", "/containers/"+id+"/wait?condition=removed", nil, 200, `"StatusCode":0`)
				got <- err
			}()
			if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
				return err
			}
			return <-got
		}),
		story("logs: tail and streams", []string{"ContainerLogs"}, func(t *T) error {
			id, err := t.create(sh("echo a; echo b; echo c; echo e >&2"), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, ""), t.want("GET", p+"/logs", nil, 400, "at least one"), func() error {
				a, err := t.expect("GET", p+"/logs?stdout=1&tail=1", nil, 200, "")
				if err == nil && strings.Contains(string(a.Body), "a\n") {
					err = fmt.Errorf("tail=1 gave %q", a.Body)
				}
				return err
			}, t.want("GET", p+"/logs?stderr=1", nil, 200, "e\n"))
		}),
		story("tag and untag", []string{"ImageTag", "ImageDelete"}, func(t *T) error {
			name := strings.TrimSuffix(t.prefix, "-")
			return steps(t.want("POST", "/images/busybox/tag?repo="+name+"&tag=1", nil, 201, ""), t.want("GET", "/images/"+name+":1/json", nil, 200, name+":1"), t.want("DELETE", "/images/"+name+":1", nil, 200, `"Untagged":"`+name+":1"), t.want("GET", "/images/"+name+":1/json", nil, 404, ""))
		}),
		story("published port is shown", []string{"ContainerInspect"}, func(t *T) error {
			c := cmd("sleep", "100")
			c["ExposedPorts"] = obj{"80/tcp": obj{}}
			id, err := t.create(c, obj{"PortBindings": obj{"80/tcp": []obj{{}}}})
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), t.want("GET", "/containers/"+id+"/json", nil, 200, `"HostIp":"0.0.0.0","HostPort":"`), t.want("GET", "/networks/bridge", nil, 200, id))
		}),
	}
}
