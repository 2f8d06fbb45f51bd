package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// unframe renders a multiplexed stream: the number of each stream before what came on it.
func unframe(b []byte) (string, error) {
	var out []string
	for len(b) > 0 {
		if len(b) < 8 || b[0] > 2 || b[1]|b[2]|b[3] != 0 {
			return "", fmt.Errorf("no frame: %q", b)
		}
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		if len(b) < 8+n {
			return "", fmt.Errorf("a frame of %d bytes is cut off: %q", n, b)
		}
		out = append(out, fmt.Sprintf("%d%s", b[0], b[8:8+n]))
		b = b[8+n:]
	}
	return strings.Join(out, "|"), nil
}

var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z`)

// logged compares a log; times are shown as T.
func (t *T) logged(id, query, want string) func() error {
	return func() error {
		a, err := t.expect("GET", "/containers/"+id+"/logs?"+query, nil, 200, "")
		if err != nil {
			return err
		}
		got, err := unframe(a.Body)
		if got = stamp.ReplaceAllString(got, "T"); err == nil && got != want {
			err = fmt.Errorf("logs?%s: %q, want %q", query, got, want)
		}
		return err
	}
}

// ended runs a container to its end.
func (t *T) ended(config, host obj) (string, error) {
	id, err := t.create(config, host)
	if err != nil {
		return "", err
	}
	return id, steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), t.want("POST", "/containers/"+id+"/wait", nil, 200, "StatusCode"))
}

// logCases holds the logs of containers with every parameter.
func logCases() []Case {
	ops := []string{"ContainerLogs"}
	text := func(name string, host obj, checks func(t *T, id string) error) Case {
		return story(name, ops, func(t *T) error {
			c := sh("echo one; usleep 20000; echo two >&2; usleep 20000; echo three; usleep 20000; printf four")
			c["Env"], c["Labels"] = []string{"E=1", "F=a b"}, obj{"l": "v", "m": "w"}
			id, err := t.ended(c, host)
			if err != nil {
				return err
			}
			return checks(t, id)
		})
	}
	whole := "1one\n|2two\n|1three\n|1four"
	read := func(t *T, id string) error {
		p := "/containers/" + id + "/logs"
		return steps(t.logged(id, "stdout=1&stderr=1", whole), t.logged(id, "stdout=1", "1one\n|1three\n|1four"), t.logged(id, "stderr=true&stdout=no", "2two\n"),
			t.logged(id, "stdout=1&stderr=1&tail=0", ""), t.logged(id, "stdout=1&stderr=1&tail=1", "1four"), t.logged(id, "stdout=1&stderr=1&tail=2", "1three\n|1four"), t.logged(id, "stdout=1&stderr=1&tail=100", whole),
			t.logged(id, "stdout=1&stderr=1&tail=all", whole), t.logged(id, "stdout=1&stderr=1&tail=", whole), t.logged(id, "stdout=1&stderr=1&tail=x", whole), t.logged(id, "stdout=1&stderr=1&tail=-1", whole),
			t.logged(id, "stdout=1&timestamps=1&tail=2", "1T three\n|1T four"), t.logged(id, "stdout=1&since=0", "1one\n|1three\n|1four"), t.logged(id, "stdout=1&since=4102444800", ""), t.logged(id, "stdout=1&until=1000000000.5", ""),
			t.logged(id, "stdout=1&until=0", "1one\n|1three\n|1four"), t.logged(id, "stdout=1&until=4102444800.123456789", "1one\n|1three\n|1four"), t.logged(id, "stdout=1&follow=1", "1one\n|1three\n|1four"), t.logged(id, "stdout=1&follow=1&tail=0", ""),
			t.want("GET", p, nil, 400, "at least one"), t.want("GET", p+"?stdout=0&stderr=false", nil, 400, "at least one"), func() error {
				// From the time of the second line on, and up to it; both ends belong.
				a, err := t.expect("GET", p+"?stderr=1&timestamps=1", nil, 200, "")
				if err != nil {
					return err
				}
				at, err := unixTime(string(stamp.Find(a.Body)))
				if err != nil {
					return err
				}
				return steps(t.logged(id, "stdout=1&stderr=1&since="+at, "2two\n|1three\n|1four"), t.logged(id, "stdout=1&stderr=1&until="+at, "1one\n|2two\n"))
			})
	}
	return []Case{
		text("logs: streams, tail and times", nil, read),
		text("logs of the local driver", obj{"LogConfig": obj{"Type": "local"}}, read),
		text("logs: details of a log without attributes", nil, func(t *T, id string) error { return t.logged(id, "stdout=1&details=1&tail=1", "1 four")() }),
		simple("logs of nothing", "ContainerLogs", "GET", "/containers/nosuch/logs?stdout=1", nil, 404, "No such container: nosuch"),
		story("logs: a terminal has one stream", ops, func(t *T) error {
			c := sh("echo o; echo e >&2")
			c["Tty"] = true
			id, err := t.ended(c, nil)
			if err != nil {
				return err
			}
			raw := func(query, want string) func() error {
				return func() error {
					a, err := t.expect("GET", "/containers/"+id+"/logs?"+query, nil, 200, "")
					if err == nil && stamp.ReplaceAllString(string(a.Body), "T") != want {
						err = fmt.Errorf("%s: %q, want %q", query, a.Body, want)
					}
					return err
				}
			}
			return steps(raw("stdout=1", "o\r\ne\r\n"), raw("stderr=1", ""), raw("stdout=1&tail=1&timestamps=1", "T e\r\n"))
		}),
		story("logs: what is long comes in pieces", ops, func(t *T) error {
			id, err := t.ended(sh("head -c 20000 /dev/zero | tr '\\0' x; echo"), nil)
			if err != nil {
				return err
			}
			return t.logged(id, "stdout=1", "1"+strings.Repeat("x", 16384)+"|1"+strings.Repeat("x", 20000-16384)+"\n")()
		}),
		story("logs: the driver none", ops, func(t *T) error {
			id, err := t.ended(cmd("echo", "x"), obj{"LogConfig": obj{"Type": "none"}})
			if err != nil {
				return err
			}
			return t.want("GET", "/containers/"+id+"/logs?stdout=1", nil, 501, "configured logging driver does not support reading")()
		}),
		story("logs: lives after one another", ops, func(t *T) error {
			id, err := t.ended(cmd("echo", "run"), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, ""), t.logged(id, "stdout=1", "1run\n|1run\n"))
		}),
		story("logs: following a created container ends at once", ops, func(t *T) error {
			id, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			return steps(t.logged(id, "stdout=1", ""), t.logged(id, "stdout=1&follow=1", ""))
		}),
		story("logs: following over rotated files", ops, func(t *T) error {
			c := sh("read x; i=0; while [ $i -lt 90 ]; do echo $i yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; i=$((i+1)); usleep 20000; done")
			c["OpenStdin"], c["StdinOnce"] = true, true
			id, err := t.create(c, obj{"LogConfig": obj{"Type": "json-file", "Config": obj{"max-size": "4k", "max-file": "5"}}})
			if err != nil {
				return err
			}
			conn, _, err := t.Hijack("/containers/"+id+"/attach?stream=1&stdin=1", nil, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
				return err
			}
			type answer struct {
				a   *Answer
				err error
			}
			got := make(chan answer, 1)
			go func() {
				a, err := t.Do("GET", "/containers/"+id+"/logs?stdout=1&follow=1", nil)
				got <- answer{a, err}
			}()
			if _, err := conn.Write([]byte("go\n")); err != nil {
				return err
			}
			r := <-got
			if r.err != nil {
				return r.err
			}
			text, err := unframe(r.a.Body)
			lines := slices.Compact(strings.Split(text, "|")) // dockerd may repeat a line where the files change
			for i, l := range lines {
				if !strings.HasPrefix(l, fmt.Sprintf("1%d y", i)) {
					return fmt.Errorf("line %d is %q", i, l)
				}
			}
			if err == nil && len(lines) != 90 {
				err = fmt.Errorf("%d lines", len(lines))
			}
			return err
		}),
		simple("logs: a bad time", "ContainerLogs", "GET", "/containers/nosuch/logs?stdout=1&since=x", nil, 400, `invalid value for \"since\": invalid timestamp \"x\"`).since("1.44"),
	}
}

// unixTime is a log's time as the parameters since and until take it.
func unixTime(s string) (string, error) {
	at, err := time.Parse(time.RFC3339Nano, s)
	return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()), err
}
