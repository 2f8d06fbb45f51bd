package conformance

import (
	"fmt"
	"strings"
	"time"
)

// waits holds what a client hears of a container's end.
func waits() []Case {
	ops := []string{"ContainerWait"}
	// during registers a waiter, acts, and looks at the waiter's answer.
	during := func(name string, config, host obj, condition string, act func(t *T, p string) error, want string) Case {
		return story(name, ops, func(t *T) error {
			id, err := t.create(config, host)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			conn, head, err := t.Hijack(p+"/wait?condition="+condition, nil, false) // its head comes when the waiter is registered
			if err != nil {
				return fmt.Errorf("%q %w", head, err)
			}
			defer conn.Close()
			if err := act(t, p); err != nil {
				return err
			}
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // sockets of both kinds take it
			b := make([]byte, 512)
			text := ""
			for !strings.Contains(text, want) {
				n, err := conn.Read(b)
				text += string(b[:n])
				if err != nil {
					return fmt.Errorf("%q, want %q: %w", text, want, err)
				}
			}
			return nil
		})
	}
	start := func(t *T, p string) error { return t.want("POST", p+"/start", nil, 204, "")() }
	return []Case{
		during("wait for the next exit", sh("exit 4"), nil, "next-exit", start, `"StatusCode":4`),
		during("wait for a removal", sh("exit 4"), nil, "removed", func(t *T, p string) error {
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, `"StatusCode":4`), t.want("DELETE", p, nil, 204, ""))
		}, `"StatusCode":4`),
		during("wait for a removal: a container that goes by itself", sh("exit 4"), obj{"AutoRemove": true}, "removed", start, `"StatusCode":4`),
		during("wait for a removal: a start that fails", cmd("nosuch"), obj{"AutoRemove": true}, "removed", func(t *T, p string) error {
			return steps(t.want("POST", p+"/start", nil, 400, "executable file not found in $PATH"), t.want("GET", p+"/json", nil, 404, ""))
		}, `"StatusCode":127`),
		during("wait: the next exit under a policy", sh("sleep 0.5; exit 4"), obj{"RestartPolicy": obj{"Name": "always"}}, "next-exit", start, `"StatusCode":4`),
		during("wait: a removal ends every wait", cmd("sleep", "1000"), nil, "next-exit", func(t *T, p string) error { return t.want("DELETE", p, nil, 204, "")() }, `"StatusCode":0`),
		story("wait: a container that never ran has ended", ops, func(t *T) error {
			id, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/containers/"+id+"/wait", nil, 200, `"StatusCode":0`), t.want("POST", "/containers/"+id+"/wait?condition=not-running", nil, 200, `"StatusCode":0`))
		}),
		simple("wait for what there is not", "ContainerWait", "POST", "/containers/nosuch/wait?condition=foo", nil, 400, `invalid condition: \"foo\"`).since("1.44"),
	}
}
