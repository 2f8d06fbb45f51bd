package conformance

import (
	"errors"
	"fmt"
	"strings"
)

// races are requests that meet what another one is still busy with.
func races() []Case {
	return []Case{
		story("attach right after an exit waits for the next start", []string{"ContainerAttach", "ContainerStart", "ContainerWait"}, func(t *T) error {
			id, err := t.create(sh("echo again; exit 6"), nil)
			if err != nil {
				return err
			}
			for round := range 25 {
				conn, head, err := t.Hijack("/containers/"+id+"/attach?stream=1&stdout=1", nil, true)
				if err != nil {
					return err
				}
				if !strings.HasPrefix(head, "HTTP/1.1 101") {
					_ = conn.Close() // the case fails anyway
					return fmt.Errorf("round %d: attach: %q", round, head)
				}
				_ = conn.Close() // only whether it may
				if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
					return err
				}
				if _, err := t.expect("POST", "/containers/"+id+"/wait", nil, 200, `"StatusCode":6`); err != nil {
					return err
				}
			}
			return nil
		}),
		story("a container that is being stopped is renamed and updated", []string{"ContainerStop", "ContainerRename", "ContainerUpdate"}, func(t *T) error {
			id, err := t.create(sh("trap '' TERM; while true; do sleep 0.1; done"), nil)
			if err != nil {
				return err
			}
			if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
				return err
			}
			stopped := make(chan error, 1)
			go func() { stopped <- t.want("POST", "/containers/"+id+"/stop?t=5", nil, 204, "")() }()
			err = steps(
				t.want("POST", "/containers/"+id+"/rename?name="+t.prefix+"renamed", nil, 204, ""),
				t.want("POST", "/containers/"+id+"/update", obj{"CpuShares": 512}, 200, ""),
				t.want("GET", "/containers/"+t.prefix+"renamed/json", nil, 200, `"Running":true`),
			)
			return errors.Join(err, <-stopped)
		}),
		simple("a plugin that is not there", "PluginInspect", "GET", "/plugins/nosuch/json", nil, 404, `plugin \"nosuch\" not found`),
	}
}
