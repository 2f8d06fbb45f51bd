package conformance

import (
	"fmt"
	"strings"
)

// logDrivers holds what clients see of logging drivers and their options.
func logDrivers() []Case {
	logged := func(driver string, options obj) obj { return obj{"LogConfig": obj{"Type": driver, "Config": options}} }
	reads := func(name string, config obj, host obj, query, want string) Case {
		return story(name, []string{"ContainerLogs"}, func(t *T) error {
			id, err := t.create(config, host)
			if err != nil {
				return err
			}
			if err := steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), t.want("POST", "/containers/"+id+"/wait", nil, 200, "")); err != nil {
				return err
			}
			a, err := t.expect("GET", "/containers/"+id+"/logs?stdout=1&stderr=1&"+query, nil, 200, "")
			if err == nil && string(a.Body) != want {
				err = fmt.Errorf("got %q, want %q", a.Body, want)
			}
			return err
		})
	}
	refused := func(name, driver string, options obj, text string) Case {
		return simple(name, "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": logged(driver, options)}, 400, text)
	}
	many := sh("i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done")
	attrs := obj{"Cmd": []string{"echo", "hi"}, "Env": []string{"E=x y", "F=1"}, "Labels": obj{"l": "2", "m": "3"}}
	long := sh("head -c 20000 /dev/zero | tr '\\0' x; echo")
	return []Case{
		reads("logs: driver local", many, logged("local", nil), "tail=2", frame(1, "498\n")+frame(1, "499\n")),
		reads("logs: tail over rotated files", many, logged("json-file", obj{"max-size": "1k", "max-file": "5"}), "tail=20", frames(480, 500)),
		reads("logs: tail over compressed files", many, logged("json-file", obj{"max-size": "1k", "max-file": "5", "compress": "true"}), "tail=20", frames(480, 500)),
		reads("logs: local, tail over compressed files", many, logged("local", obj{"max-size": "1k", "max-file": "5"}), "tail=30", frames(470, 500)),
		reads("logs: non-blocking", sh("echo 1; echo 2"), logged("json-file", obj{"mode": "non-blocking", "max-buffer-size": "1m"}), "", frames(1, 3)),
		reads("logs: attributes", attrs, logged("json-file", obj{"labels": "l,nope", "env-regex": "^[EF]$"}), "details=1", frame(1, "E=x+y,F=1,l=2 hi\n")),
		reads("logs: a tag is an attribute", attrs, logged("json-file", obj{"tag": "{{.ImageName}}"}), "details=1", frame(1, "tag=busybox%3Alatest hi\n")),
		reads("logs: a line of more than 16 KiB", long, nil, "", frame(1, strings.Repeat("x", 16384))+frame(1, strings.Repeat("x", 20000-16384)+"\n")),
		story("logs: driver none", []string{"ContainerLogs"}, func(t *T) error {
			id, err := t.running(sh("echo hi"), logged("none", nil))
			if err != nil {
				return err
			}
			return steps(t.want("GET", "/containers/"+id+"/json", nil, 200, `"LogPath":""`), t.want("GET", "/containers/"+id+"/logs?stdout=1", nil, 501, "configured logging driver does not support reading"))
		}),
		story("logs: a size that is none", []string{"ContainerStart"}, func(t *T) error {
			id, err := t.create(sh("echo hi"), logged("json-file", obj{"max-size": "x"}))
			if err != nil {
				return err
			}
			return t.want("POST", "/containers/"+id+"/start", nil, 500, "failed to initialize logging driver: invalid size: 'x'")()
		}),
		story("logs: no file at all", []string{"ContainerStart"}, func(t *T) error {
			id, err := t.create(sh("echo hi"), logged("json-file", obj{"max-file": "0"}))
			if err != nil {
				return err
			}
			return t.want("POST", "/containers/"+id+"/start", nil, 500, "failed to initialize logging driver: max-file cannot be less than 1")()
		}),
		story("logs: nothing to compress", []string{"ContainerStart"}, func(t *T) error {
			id, err := t.create(sh("echo hi"), logged("json-file", obj{"compress": "true"}))
			if err != nil {
				return err
			}
			return t.want("POST", "/containers/"+id+"/start", nil, 500, "compress cannot be true when max-file is less than 2 or max-size is not set")()
		}),
		refused("logs: syslog, an unknown option", "syslog", obj{"foo": "1"}, "unknown log opt 'foo' for syslog log driver"),
		refused("logs: syslog, an unknown scheme", "syslog", obj{"syslog-address": "http://x"}, "syslog"),
		refused("logs: syslog, an unknown facility", "syslog", obj{"syslog-address": "udp://127.0.0.1", "syslog-facility": "nope"}, "invalid syslog facility"),
		refused("logs: syslog, an unknown format", "syslog", obj{"syslog-address": "udp://127.0.0.1", "syslog-format": "x"}, "Invalid syslog format"),
		refused("logs: gelf without an address", "gelf", nil, "gelf-address is a required parameter"),
		refused("logs: gelf, an unknown scheme", "gelf", obj{"gelf-address": "http://x:1"}, "gelf"),
		refused("logs: gelf, an unknown level", "gelf", obj{"gelf-address": "udp://x:1", "gelf-compression-level": "12"}, `unknown value \"12\" for log opt \"gelf-compression-level\" for gelf log driver`),
		refused("logs: fluentd, an unknown scheme", "fluentd", obj{"fluentd-address": "ftp://x"}, "invalid fluentd-address"),
		refused("logs: awslogs without a group", "awslogs", nil, "must specify a value for log opt 'awslogs-group'"),
		story("logs: a remote driver can be read", []string{"ContainerLogs"}, func(t *T) error {
			id, err := t.running(sh("echo hi; echo ho >&2"), logged("syslog", obj{"syslog-address": "udp://127.0.0.1:9", "labels": "l"}))
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/containers/"+id+"/wait", nil, 200, ""), t.want("GET", "/containers/"+id+"/logs?stdout=1", nil, 200, frame(1, "hi\n")), t.want("GET", "/containers/"+id+"/json", nil, 200, `"LogPath":""`))
		}),
	}
}

// frames are numbered lines of stdout, a frame each.
func frames(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(frame(1, fmt.Sprintf("%d\n", i)))
	}
	return b.String()
}
