package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Case is one story; Ops names the operations of the specification that it covers.
type Case struct {
	Name string
	Ops  []string
	Run  func(t *T) error
}

// T is a running case: it removes what the case made.
type T struct {
	*Client
	made []string
	n    int
}

// Load brings the image in.
func (c *Client) Load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := c.Do("POST", "/images/load?quiet=1", io.Reader(f))
	if err != nil || a.Status != 200 || !bytes.Contains(a.Body, []byte("Loaded image: busybox:latest")) {
		return errors.Join(err, fmt.Errorf("load: %+v", a))
	}
	return nil
}

// Run runs one case and cleans up after it.
func (c *Client) Run(k Case) error {
	t := &T{Client: c}
	err := k.Run(t)
	for _, id := range t.made {
		a, derr := c.Do("DELETE", "/containers/"+id+"?force=1&v=1", nil)
		if derr == nil && a.Status != 204 && a.Status != 404 && a.Status != 409 {
			derr = fmt.Errorf("clean-up: %d %s", a.Status, a.Body)
		}
		err = errors.Join(err, derr)
	}
	return err
}

type obj = map[string]any

// create makes a container and returns its id.
func (t *T) create(config, host obj) (string, error) {
	if config["Image"] == nil {
		config["Image"] = "busybox:latest"
	}
	if host != nil {
		config["HostConfig"] = host
	}
	t.n++
	a, err := t.Do("POST", fmt.Sprintf("/containers/create?name=%s%d", t.prefix, len(t.made)), config)
	if err != nil {
		return "", err
	}
	if a.Status != 201 {
		return "", fmt.Errorf("create: %d %s", a.Status, a.Body)
	}
	id, _ := a.JSON()["Id"].(string)
	t.made = append(t.made, id)
	return id, nil
}

// expect sends a request and checks status and a part of the message.
func (t *T) expect(method, path string, body any, status int, part string) (*Answer, error) {
	a, err := t.Do(method, path, body)
	if err != nil {
		return nil, err
	}
	if a.Status != status || !strings.Contains(strings.ToLower(string(a.Body)), strings.ToLower(part)) {
		return a, fmt.Errorf("%s %s: %d %s, want %d with %q", method, path, a.Status, a.Body, status, part)
	}
	return a, nil
}

// output runs a container to its end and returns code and log.
func (t *T) output(config, host obj) (int, string, error) {
	id, err := t.create(config, host)
	if err != nil {
		return 0, "", err
	}
	if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
		return 0, "", err
	}
	a, err := t.expect("POST", "/containers/"+id+"/wait", nil, 200, "StatusCode")
	if err != nil {
		return 0, "", err
	}
	code, _ := a.JSON()["StatusCode"].(float64)
	l, err := t.expect("GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil, 200, "")
	if err != nil {
		return 0, "", err
	}
	text := ""
	for b := l.Body; len(b) >= 8; {
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		text += string(b[8 : 8+n])
		b = b[8+n:]
	}
	return int(code), text, nil
}

func cmd(words ...string) obj { return obj{"Cmd": words} }

func sh(script string) obj { return cmd("sh", "-c", script) }

// simple is a case of one request.
func simple(name, op, method, path string, body any, status int, part string) Case {
	return Case{name, []string{op}, func(t *T) error { _, err := t.expect(method, path, body, status, part); return err }}
}

// prints is a case that runs a container and looks at its output.
func prints(name string, config, host obj, code int, want string) Case {
	return Case{name, []string{"ContainerCreate", "ContainerStart", "ContainerWait", "ContainerLogs"}, func(t *T) error {
		got, text, err := t.output(config, host)
		if err != nil {
			return err
		}
		if got != code || !strings.Contains(text, want) {
			return fmt.Errorf("code %d, output %q; want %d and %q", got, text, code, want)
		}
		return nil
	}}
}

// Cases is every case.
func Cases() []Case {
	return append([]Case{
		simple("ping", "SystemPing", "GET", "!/_ping", nil, 200, "OK"),
		simple("ping by HEAD", "SystemPingHead", "HEAD", "!/_ping", nil, 200, ""),
		simple("version", "SystemVersion", "GET", "/version", nil, 200, `"ApiVersion"`),
		simple("info", "SystemInfo", "GET", "/info", nil, 200, `"OSType":"linux"`),
		simple("unknown path", "SystemInfo", "GET", "/nothing", nil, 404, "page not found"),
		simple("wrong method is an unknown path", "SystemInfo", "PUT", "/info", nil, 404, "page not found"),
		simple("version too new", "SystemInfo", "GET", "/v1.99/info", nil, 400, "client version 1.99 is too new"),
		simple("empty event range", "SystemEvents", "GET", "/events?since=1&until=2", nil, 200, ""),
		simple("create without image", "ContainerCreate", "POST", "/containers/create", obj{"Image": "nosuch", "Cmd": []string{"x"}}, 404, "No such image: nosuch:latest"),
		simple("create with a bad name", "ContainerCreate", "POST", "/containers/create?name=a+b", obj{"Image": "busybox"}, 400, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
		simple("create with a name of one character", "ContainerCreate", "POST", "/containers/create?name=a", obj{"Image": "busybox"}, 400, "Invalid container name"),
		simple("create with little memory", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"Memory": 1000}}, 400, "Minimum memory limit allowed is 6MB"),
		simple("create with an unknown capability", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"CapAdd": []string{"FOO"}}}, 400, "unknown capability"),
		simple("create with AutoRemove and a policy", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"AutoRemove": true, "RestartPolicy": obj{"Name": "always"}}}, 400, "create 'AutoRemove' container with restart policy"),
		simple("create with a missing bind source", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"Mounts": []obj{{"Type": "bind", "Source": "/nonexistent-x", "Target": "/x"}}}}, 400, "bind source path does not exist: /nonexistent-x"),
		simple("create with a bad bind", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"Binds": []string{"./a:/b"}}}, 400, "includes invalid characters for a local volume name"),
		simple("inspect nothing", "ContainerInspect", "GET", "/containers/nosuch/json", nil, 404, "No such container: nosuch"),
		simple("start nothing", "ContainerStart", "POST", "/containers/nosuch/start", nil, 404, "No such container: nosuch"),
		simple("remove nothing", "ContainerDelete", "DELETE", "/containers/nosuch", nil, 404, "No such container: nosuch"),
		simple("list by an unknown filter", "ContainerList", "GET", `/containers/json?filters={"foo":["x"]}`, nil, 400, "invalid filter 'foo'"),
		simple("image inspect of nothing", "ImageInspect", "GET", "/images/nosuch/json", nil, 404, "no such image: nosuch"),
		simple("image inspect", "ImageInspect", "GET", "/images/busybox:latest/json", nil, 200, `"RepoTags":["busybox:latest"]`),
		simple("image history", "ImageHistory", "GET", "/images/busybox/history", nil, 200, "hack/image"),
		simple("image list", "ImageList", "GET", "/images/json", nil, 200, "busybox:latest"),
		simple("broken archive", "ImageLoad", "POST", "/images/load", io.Reader(strings.NewReader("no tar at all")), 200, `"errorDetail"`),
		simple("network list", "NetworkList", "GET", "/networks", nil, 200, `"Name":"bridge"`),
		simple("network inspect", "NetworkInspect", "GET", "/networks/host", nil, 200, `"Driver":"host"`),
		simple("network of no name", "NetworkInspect", "GET", "/networks/nosuch", nil, 404, "nosuch not found"),
		simple("exec of nothing", "ExecInspect", "GET", "/exec/nosuch/json", nil, 404, "No such exec instance: nosuch"),
		simple("no swarm", "SwarmInspect", "GET", "/swarm", nil, 503, "This node is not a swarm manager"),
		prints("echo", cmd("echo", "hi"), nil, 0, "hi\n"),
		prints("exit code", sh("exit 7"), nil, 7, ""),
		prints("environment", obj{"Cmd": []string{"env"}, "Env": []string{"A=b"}}, nil, 0, "A=b\n"),
		prints("working directory", obj{"Cmd": []string{"pwd"}, "WorkingDir": "/tmp"}, nil, 0, "/tmp\n"),
		prints("user", obj{"Cmd": []string{"id"}, "User": "1000:1001"}, nil, 0, "uid=1000 gid=1001"),
		prints("hostname", obj{"Cmd": []string{"hostname"}, "Hostname": "hh"}, nil, 0, "hh\n"),
		prints("entrypoint", obj{"Entrypoint": []string{"echo", "a"}, "Cmd": []string{"b"}}, nil, 0, "a b\n"),
		prints("capabilities", cmd("grep", "CapEff", "/proc/self/status"), nil, 0, "00000000a80425fb"),
		prints("no capability for another user", obj{"Cmd": []string{"grep", "CapEff", "/proc/self/status"}, "User": "1000"}, nil, 0, "0000000000000000"),
		prints("dropped capabilities", cmd("grep", "CapBnd", "/proc/self/status"), obj{"CapDrop": []string{"ALL"}}, 0, "0000000000000000"),
		prints("seccomp", cmd("grep", "Seccomp:", "/proc/self/status"), nil, 0, "Seccomp:\t2"),
		prints("seccomp unconfined", cmd("grep", "Seccomp:", "/proc/self/status"), obj{"SecurityOpt": []string{"seccomp=unconfined"}}, 0, "Seccomp:\t0"),
		prints("no new privileges", cmd("grep", "NoNewPrivs", "/proc/self/status"), obj{"SecurityOpt": []string{"no-new-privileges"}}, 0, "NoNewPrivs:\t1"),
		prints("read-only root", sh("touch /x 2>&1; true"), obj{"ReadonlyRootfs": true}, 0, "Read-only file system"),
		prints("tmpfs", sh("grep ' /t ' /proc/mounts"), obj{"Tmpfs": obj{"/t": "size=1m"}}, 0, "size=1024k"),
		prints("bind", sh("ls /mnt"), obj{"Binds": []string{"/etc:/mnt:ro"}}, 0, "passwd"),
		prints("proc is masked", sh("wc -c < /proc/keys"), nil, 0, "0\n"),
		prints("sys is read-only", sh("grep ' /sys ' /proc/mounts"), nil, 0, "sysfs ro,"),
		prints("shared memory", sh("df -k /dev/shm | tail -1"), obj{"ShmSize": 1 << 20}, 0, "1024"),
		prints("extra hosts", cmd("cat", "/etc/hosts"), obj{"ExtraHosts": []string{"a.b:1.2.3.4"}}, 0, "1.2.3.4\ta.b"),
		prints("no network", sh("ls /sys/class/net"), obj{"NetworkMode": "none"}, 0, "lo\n"),
	}, append(append(stories(), sharing()...), health()...)...)
}
