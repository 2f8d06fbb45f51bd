package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Socket opens a web socket; head is the response head.
func (c *Client) Socket(path string) (conn net.Conn, head string, err error) {
	if conn, err = (&net.Dialer{}).DialContext(c.ctx, c.network, c.address); err != nil {
		return nil, "", err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // sockets of both kinds take it
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nOrigin: http://elsewhere\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", c.full(path))
	var one [1]byte
	for err == nil && !strings.HasSuffix(head, "\r\n\r\n") {
		_, err = conn.Read(one[:])
		head += string(one[:])
	}
	if err == nil && !strings.Contains(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
		err = fmt.Errorf("no web socket: %q", head)
	}
	if err != nil {
		conn.Close()
	}
	return conn, head, err
}

// readSocket joins what comes in binary frames until the server says good-bye.
func readSocket(conn net.Conn) (string, error) {
	var out bytes.Buffer
	for {
		var head [2]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return out.String(), err
		}
		n := int64(head[1])
		if n == 126 {
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return out.String(), err
			}
			n = int64(size[0])<<8 | int64(size[1])
		}
		if head[0] == 0x88 {
			return out.String(), nil
		}
		if head[0] != 0x82 || n > 1<<16 {
			return out.String(), fmt.Errorf("frame head %x", head)
		}
		if _, err := io.CopyN(&out, conn, n); err != nil {
			return out.String(), err
		}
	}
}

// typed is a client's binary frame; a mask of zeros leaves the text as it is.
func typed(text string) []byte {
	return append([]byte{0x82, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}

func loop() obj { return sh("trap 'exit 0' TERM; while :; do sleep 0.1; done") }

// lifecycle holds what is asked of containers in the wrong phase or with wrong values, and attach over a web socket.
func lifecycle() []Case {
	with := func(name string, ops []string, config, host obj, start bool, checks func(t *T, p string) error) Case {
		return story(name, ops, func(t *T) error {
			id, err := t.create(config, host)
			if err != nil {
				return err
			}
			if start {
				if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
					return err
				}
			}
			return checks(t, "/containers/"+id)
		})
	}
	return []Case{
		with("a container that never ran", []string{"ContainerStop", "ContainerKill", "ContainerPause", "ContainerUnpause", "ContainerResize", "ContainerTop", "ContainerRestart"}, loop(), nil, false, func(t *T, p string) error {
			return steps(t.want("POST", p+"/stop", nil, 304, ""), t.want("POST", p+"/kill", nil, 409, "is not running"), t.want("POST", p+"/pause", nil, 409, "is not running"), t.want("POST", p+"/unpause", nil, 500, "is not paused"),
				t.want("POST", p+"/resize?h=1&w=1", nil, 409, "is not running"), t.want("GET", p+"/top", nil, 409, "is not running"), t.want("POST", p+"/restart?t=0", nil, 204, ""), t.want("GET", p+"/json", nil, 200, `"Status":"running"`))
		}),
		with("a paused container", []string{"ContainerPause", "ContainerStart", "ContainerExec", "ContainerDelete", "ContainerKill", "ContainerStop"}, loop(), nil, true, func(t *T, p string) error {
			return steps(t.want("POST", p+"/unpause", nil, 500, "is not paused"), t.want("POST", p+"/pause", nil, 204, ""), t.want("POST", p+"/pause", nil, 409, "is already paused"),
				t.want("POST", p+"/start", nil, 409, "cannot start a paused container, try unpause instead"), t.want("POST", p+"/exec", obj{"Cmd": []string{"true"}}, 409, "is paused, unpause the container before exec"), t.want("DELETE", p, nil, 409, "paused"),
				t.want("GET", p+"/top", nil, 200, "sleep"), t.want("POST", p+"/stop?t=5", nil, 204, ""), t.want("GET", p+"/json", nil, 200, `"ExitCode":0`))
		}),
		with("signals", []string{"ContainerKill"}, sh("trap 'echo u1' USR1; trap 'exit 7' USR2; echo up; while :; do sleep 0.1; done"), nil, true, func(t *T, p string) error {
			log := func(part string) func() error { return t.until(p+"/logs?stdout=1", part) }
			return steps(log("up\n"), t.want("POST", p+"/kill?signal=BOGUS", nil, 400, "invalid signal: BOGUS"), t.want("POST", p+"/kill?signal=0", nil, 400, "invalid signal: 0"), t.want("POST", p+"/kill?signal=SIGUSR", nil, 400, "invalid signal: SIGUSR"),
				t.want("POST", p+"/kill?signal=usr1", nil, 204, ""), log("u1\n"), t.want("GET", p+"/json", nil, 200, `"Status":"running"`), t.want("POST", p+"/kill?signal=12", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, `"StatusCode":7`))
		}),
		with("a signal that there is not", []string{"ContainerKill"}, loop(), nil, true, func(t *T, p string) error {
			return t.want("POST", p+"/kill?signal=99", nil, 400, "the linux daemon does not support signal 99")()
		}).since("1.44"),
		with("stop by its own signal and within its time", []string{"ContainerStop", "ContainerRestart"}, obj{"Cmd": []string{"sh", "-c", "trap 'exit 5' USR1; echo up; while :; do sleep 0.1; done"}, "StopSignal": "SIGUSR1", "StopTimeout": 20}, nil, true, func(t *T, p string) error {
			return steps(t.until(p+"/logs?stdout=1", "up\n"), t.want("POST", p+"/stop", nil, 204, ""), t.want("GET", p+"/json", nil, 200, `"ExitCode":5`), t.want("POST", p+"/stop", nil, 304, ""))
		}),
		with("terminal size", []string{"ContainerResize"}, obj{"Cmd": []string{"sh", "-c", "while :; do stty size; sleep 0.1; done"}, "Tty": true}, nil, true, func(t *T, p string) error {
			return steps(t.want("POST", p+"/resize?h=21&w=103", nil, 200, ""), t.until(p+"/logs?stdout=1", "21 103\r\n"), t.want("POST", p+"/resize?h=x&w=1", nil, 400, "invalid syntax"), t.want("POST", p+"/resize?h=1", nil, 400, "invalid syntax"))
		}),
		with("processes: what ps is asked", []string{"ContainerTop"}, cmd("sleep", "1000"), nil, true, func(t *T, p string) error {
			top := p + "/top?ps_args="
			return steps(t.want("GET", top+"aux", nil, 200, `"Titles":["USER","PID","%CPU","%MEM","VSZ","RSS","TTY","STAT","START","TIME","COMMAND"]`), t.want("GET", top+"-o+pid,args", nil, 200, `"sleep 1000"]`),
				t.want("GET", top+"-o+pid=X,comm", nil, 500, "Couldn't find PID field in ps output"), t.want("GET", top+"-bogus", nil, 500, `"ps: error: unsupported SysV option"`),
				t.want("GET", top+"-o+user,pid,args", nil, 200, `"sleep 1000"]`))
		}),
		with("rename", []string{"ContainerRename"}, loop(), nil, false, func(t *T, p string) error {
			if _, err := t.create(loop(), nil); err != nil {
				return err
			}
			r, n := p+"/rename?name=", t.prefix
			return steps(t.want("POST", r+n+"1", nil, 409, "Error when allocating new name: Conflict. The container name"), t.want("POST", r+n+"0", nil, 400, "Renaming a container with the same name as its current name"), t.want("POST", r, nil, 400, "Neither old nor new names may be empty"),
				t.want("POST", r+"bad+name", nil, 400, "Invalid container name"), t.want("POST", r+"x", nil, 400, "Invalid container name"), t.want("POST", r+"/"+n+"new", nil, 204, ""), t.want("GET", "/containers/"+n+"new/json", nil, 200, `"Name":"/`+n+`new"`),
				t.want("GET", "/containers/"+n+"0/json", nil, 404, ""), t.want("POST", "/containers/nosuch/rename?name="+n+"q", nil, 404, "No such container: nosuch"))
		}),
		with("update: what is refused", []string{"ContainerUpdate"}, loop(), obj{"NanoCpus": 500000000}, true, func(t *T, p string) error {
			u := func(body obj, status int, part string) func() error {
				return t.want("POST", p+"/update", body, status, part)
			}
			return steps(u(obj{"CpuQuota": 20000}, 409, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"), u(obj{"CpusetCpus": "77"}, 400, "Requested CPUs are not available - requested 77"),
				u(obj{"RestartPolicy": obj{"Name": "bogus"}}, 400, "bogus"), u(obj{"RestartPolicy": obj{"Name": "on-failure", "MaximumRetryCount": 2}}, 200, ""), t.want("GET", p+"/json", nil, 200, `{"Name":"on-failure","MaximumRetryCount":2}`),
				u(obj{"PidsLimit": 50}, 200, ""), t.want("GET", p+"/json", nil, 200, `"PidsLimit":50`))
		}),
		with("update: a policy for a container that goes by itself", []string{"ContainerUpdate"}, loop(), obj{"AutoRemove": true}, true, func(t *T, p string) error {
			return t.want("POST", p+"/update", obj{"RestartPolicy": obj{"Name": "always"}}, 409, "Restart policy cannot be updated because AutoRemove is enabled for the container")()
		}),
		with("remove", []string{"ContainerDelete"}, loop(), nil, true, func(t *T, p string) error {
			return steps(t.want("DELETE", p, nil, 409, "emov"), t.want("DELETE", p+"?link=1", nil, 500, "Conflict, cannot remove the default link name of the container"), t.want("DELETE", p+"?force=1&v=1", nil, 204, ""), t.want("DELETE", p+"?force=1", nil, 404, "No such container"))
		}),
		story("operations on nothing", []string{"ContainerKill", "ContainerStop", "ContainerRestart", "ContainerPause", "ContainerUnpause", "ContainerResize", "ContainerUpdate", "ContainerTop", "ContainerWait"}, func(t *T) error {
			p, part := "/containers/nosuch/", "No such container: nosuch"
			fs := []func() error{t.want("POST", p+"update", obj{}, 404, part), t.want("GET", p+"top", nil, 404, part), t.want("POST", p+"kill", nil, 404, "cannot kill container: nosuch: "+part)}
			for _, op := range []string{"stop", "restart", "pause", "unpause", "resize?h=1&w=1", "wait"} {
				fs = append(fs, t.want("POST", p+op, nil, 404, part))
			}
			return steps(fs...)
		}),
		with("attach over a web socket", []string{"ContainerAttachWebsocket"}, obj{"Cmd": []string{"sh", "-c", "echo out; read x; echo got $x; exit 3"}, "OpenStdin": true, "StdinOnce": true}, nil, false, func(t *T, p string) error {
			conn, head, err := t.Socket(p + "/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
			if err != nil {
				return fmt.Errorf("%q %w", head, err)
			}
			defer conn.Close()
			if _, err := t.expect("POST", p+"/start", nil, 204, ""); err != nil {
				return err
			}
			if _, err := conn.Write(typed("hello\n")); err != nil {
				return err
			}
			text, err := readSocket(conn)
			if err != nil || text != "out\ngot hello\n" {
				return fmt.Errorf("%q %w", text, err)
			}
			again, _, err := t.Socket(p + "/attach/ws?logs=1&stdout=1&stderr=1")
			if err != nil {
				return err
			}
			defer again.Close()
			text, err = readSocket(again)
			if !strings.Contains(text, "out\n") || !strings.Contains(text, "got hello\n") {
				err = errors.Join(err, fmt.Errorf("the log: %q", text))
			}
			return errors.Join(err, t.want("POST", p+"/wait", nil, 200, `"StatusCode":3`)())
		}),
		simple("create with a platform that is none", "ContainerCreate", "POST", "/containers/create?platform=bogus/bogus/x/y", obj{"Image": "busybox"}, 400, "bogus/bogus/x/y"),
		simple("create with a name server that is no address", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"Dns": []string{"x"}}}, 400, `ParseAddr(\"x\"): unable to parse IP`).since("1.44"),
		simple("create to work in a file", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "WorkingDir": "/etc/passwd"}, 500, "Cannot mkdir: /etc/passwd is not a directory"),
		with("the directory to work in is made at once", []string{"ContainerChanges"}, obj{"Cmd": []string{"pwd"}, "WorkingDir": "/w/d"}, nil, false, func(t *T, p string) error {
			return t.changed(strings.TrimPrefix(p, "/containers/"), "A /w", "A /w/d")()
		}),
		with("start from a checkpoint", []string{"ContainerStart"}, loop(), nil, false, func(t *T, p string) error {
			return t.want("POST", p+"/start?checkpoint=x", nil, 400, "checkpoint is only supported in experimental mode")()
		}),
		simple("web socket of nothing", "ContainerAttachWebsocket", "GET", "/containers/nosuch/attach/ws?stream=1", nil, 400, "not websocket protocol").since("1.44"),
	}
}
