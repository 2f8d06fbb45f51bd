package conformance

import (
	"io"
	"slices"
	"strings"
)

// Cases is every case: the basics, then one line for each area.
func Cases() []Case {
	return slices.Concat(
		basics(),
		execs(),
		logDrivers(),
		crowd(),
		storage(),
		stories(),
		sharing(),
		health(),
		connection(),
		copies(),
		commits(),
		lists(),
		logCases(),
		lifecycle(),
		waits(),
		hostConfig(),
		builds(),
		races(),
		images(),
		events(),
		networks(),
		endpoints(),
		ports(),
	)
}

// basics are one request or one container each.
func basics() []Case {
	return []Case{
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
	}
}
