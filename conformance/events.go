package conformance

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// told is a case about the events of one container: it listens, makes a container, lets do act on it, and gives what was told
// about it, up to the event that last names, to check.
func told(name string, ops []string, config, host obj, do func(t *T, path string) error, last string, check func(t *T, hs []happening) error) Case {
	return story(name, append([]string{"SystemEvents"}, ops...), func(t *T) error {
		l, err := t.listen(nil)
		if err != nil {
			return err
		}
		defer l.body.Close()
		id, err := t.create(config, host)
		if err != nil {
			return err
		}
		if err := do(t, "/containers/"+id); err != nil {
			return err
		}
		hs, err := l.until(last, id, t.prefix+"v")
		if err != nil {
			return err
		}
		for _, h := range hs {
			if h.Scope != "local" || h.Time != h.TimeNano/1e9 || h.Type == "container" && (h.Status != h.Action || h.ID != id || h.From != "busybox:latest") {
				return fmt.Errorf("event %+v", h)
			}
		}
		return check(t, hs)
	})
}

// does sends requests to a container one after the other: method, path below the container's, status.
func does(requests ...string) func(t *T, path string) error {
	return func(t *T, path string) error {
		for _, r := range requests {
			var method, rest string
			var status int
			if _, err := fmt.Sscan(r, &method, &rest, &status); err != nil {
				return err
			}
			if _, err := t.expect(method, path+strings.TrimPrefix(rest, "."), nil, status, ""); err != nil {
				return err
			}
		}
		return nil
	}
}

func sequence(want ...string) func(*T, []happening) error {
	return func(_ *T, hs []happening) error { return inOrder(hs, want...) }
}

// events holds what clients are told.
func events() []Case {
	stays := func() obj { return obj{"Cmd": []string{"sleep", "100"}, "StopSignal": "KILL"} }
	none := obj{"NetworkMode": "none"}
	return []Case{
		told("events of a life", []string{"ContainerCreate", "ContainerStart", "ContainerDelete"}, obj{"Cmd": []string{"sh", "-c", "exit 3"}, "Labels": obj{"a": "b"}}, nil, func(t *T, p string) error {
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, ""), t.want("DELETE", p, nil, 204, ""))
		}, "container destroy", func(t *T, hs []happening) error {
			// dockerd 20.10 tells of the end of the container before that of its connection, later ones after it.
			if err := inOrder(hs, "container create", "network connect", "container start", "network disconnect|container die", "container destroy"); err != nil {
				return err
			}
			id := hs[0].Actor.ID
			own := map[string]string{"a": "b", "image": "busybox:latest", "name": t.prefix + "0"}
			return steps(
				func() error { return attributes(hs, "container create", own) },
				func() error { return attributes(hs, "container start", own) },
				func() error {
					return attributes(hs, "container die", map[string]string{"a": "b", "image": "busybox:latest", "name": t.prefix + "0", "exitCode": "3"})
				},
				func() error { return attributes(hs, "container destroy", own) },
				func() error {
					return attributes(hs, "network connect", map[string]string{"container": id, "name": "bridge", "type": "bridge"})
				},
				func() error {
					return attributes(hs, "network disconnect", map[string]string{"container": id, "name": "bridge", "type": "bridge"})
				})
		}),
		told("events of a stop", []string{"ContainerStop"}, stays(), none, does("POST ./start 204", "POST ./stop 204"), "container stop", func(t *T, hs []happening) error {
			return attributes(hs, "container kill", map[string]string{"image": "busybox:latest", "name": t.prefix + "0", "signal": "9"})
		}),
		told("events of a kill", []string{"ContainerKill"}, stays(), none, does("POST ./start 204", "POST ./kill?signal=USR1 204", "POST ./kill 204", "POST ./wait 200", "DELETE . 204"), "container destroy", func(t *T, hs []happening) error {
			return attributes(hs, "container kill", map[string]string{"image": "busybox:latest", "name": t.prefix + "0", "signal": "10"})
		}),
		told("events of a restart", []string{"ContainerRestart"}, stays(), none, does("POST ./start 204", "POST ./restart 204"), "container restart", sequence(
			"container create", "network connect", "container start", "container kill", "network disconnect|container die|container stop", "network connect", "container start", "container restart")),
		told("events of a removal by force", []string{"ContainerDelete"}, stays(), none, does("POST ./start 204", "DELETE .?force=1 204"), "container destroy", func(t *T, hs []happening) error {
			if err := attributes(hs, "container kill", map[string]string{"image": "busybox:latest", "name": t.prefix + "0", "signal": "9"}); err != nil {
				return err
			}
			return inOrder(hs, "container create", "network connect", "container start", "container kill", "network disconnect|container die", "container destroy")
		}),
		told("events of small things", []string{"ContainerPause", "ContainerUnpause", "ContainerRename", "ContainerResize", "ContainerTop", "ContainerUpdate"}, stays(), none, func(t *T, p string) error {
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/pause", nil, 204, ""), t.want("POST", p+"/unpause", nil, 204, ""), t.want("GET", p+"/top", nil, 200, ""),
				t.want("POST", p+"/update", obj{"CpuShares": 512}, 200, ""), t.want("POST", p+"/resize?h=10&w=20", nil, 200, ""), t.want("POST", p+"/rename?name="+t.prefix+"r", nil, 204, ""))
		}, "container rename", func(t *T, hs []happening) error {
			own := func(name string, more ...string) map[string]string {
				m := map[string]string{"image": "busybox:latest", "name": t.prefix + name}
				for i := 0; i < len(more); i += 2 {
					m[more[i]] = more[i+1]
				}
				return m
			}
			return steps(func() error {
				return among(hs, "container create", "network connect", "container start", "container pause", "container unpause", "container top", "container update", "container resize", "container rename")
			},
				func() error { return attributes(hs, "container pause", own("0")) },
				func() error { return attributes(hs, "container resize", own("0", "height", "10", "width", "20")) },
				func() error { return attributes(hs, "container rename", own("r", "oldName", "/"+t.prefix+"0")) })
		}),
		told("events of an exec", []string{"ContainerExec", "ExecStart"}, stays(), none, func(t *T, p string) error {
			if _, err := t.expect("POST", p+"/start", nil, 204, ""); err != nil {
				return err
			}
			a, err := t.expect("POST", p+"/exec", obj{"Cmd": []string{"sh", "-c", "exit 4"}}, 201, "Id")
			if err != nil {
				return err
			}
			x, _ := a.JSON()["Id"].(string)
			_, err = t.expect("POST", "/exec/"+x+"/start", obj{"Detach": true}, 200, "")
			return err
		}, "container exec_die", func(t *T, hs []happening) error {
			own := map[string]string{"image": "busybox:latest", "name": t.prefix + "0", "execID": "*"}
			ended := map[string]string{"image": "busybox:latest", "name": t.prefix + "0", "execID": "*", "exitCode": "4"}
			return steps(func() error {
				return inOrder(hs, "container create", "network connect", "container start", "container exec_create: sh -c exit 4", "container exec_start: sh -c exit 4", "container exec_die")
			},
				func() error { return attributes(hs, "container exec_create: sh -c exit 4", own) },
				func() error { return attributes(hs, "container exec_start: sh -c exit 4", own) },
				func() error { return attributes(hs, "container exec_die", ended) })
		}),
		told("no die for a start that failed", []string{"ContainerStart"}, cmd("nosuch"), none, does("POST ./start 400", "DELETE . 204"), "container destroy", func(_ *T, hs []happening) error {
			if w := words(hs); slices.Contains(w, "container die") || slices.Contains(w, "container start") || !slices.Contains(w, "network disconnect") {
				return fmt.Errorf("events %q", w)
			}
			return nil
		}),
		story("events of a volume", []string{"SystemEvents", "VolumeCreate", "VolumeDelete"}, func(t *T) error {
			l, err := t.listen(obj{"type": []string{"volume"}})
			if err != nil {
				return err
			}
			defer l.body.Close()
			v := t.prefix + "v"
			if _, err := t.expect("POST", "/volumes/create", obj{"Name": v}, 201, ""); err != nil {
				return err
			}
			config := cmd("true")
			id, err := t.create(config, obj{"NetworkMode": "none", "Binds": []string{v + ":/v:ro"}})
			if err != nil {
				return err
			}
			p := "/containers/" + id
			if err := steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, ""), t.want("DELETE", p, nil, 204, ""), t.want("DELETE", "/volumes/"+v, nil, 204, "")); err != nil {
				return err
			}
			hs, err := l.until("volume destroy", v)
			if err != nil {
				return err
			}
			return steps(func() error { return among(hs, "volume create", "volume mount", "volume unmount", "volume destroy") },
				func() error { return attributes(hs, "volume create", map[string]string{"driver": "local"}) },
				func() error {
					return attributes(hs, "volume mount", map[string]string{"driver": "local", "container": id, "destination": "/v", "propagation": "", "read/write": "false"})
				},
				func() error {
					return attributes(hs, "volume unmount", map[string]string{"driver": "local", "container": id})
				},
				func() error { return attributes(hs, "volume destroy", map[string]string{"driver": "local"}) })
		}),
		story("events of a tag", []string{"SystemEvents", "ImageTag", "ImageDelete"}, func(t *T) error {
			l, err := t.listen(obj{"type": []string{"image"}})
			if err != nil {
				return err
			}
			defer l.body.Close()
			a, err := t.expect("GET", "/images/busybox/json", nil, 200, "")
			if err != nil {
				return err
			}
			id, _ := a.JSON()["Id"].(string)
			name := strings.TrimSuffix(t.prefix, "-") + ":ev"
			repo, tag, _ := strings.Cut(name, ":")
			if err := steps(t.want("POST", "/images/busybox/tag?repo="+repo+"&tag="+tag, nil, 201, ""), t.want("DELETE", "/images/"+name, nil, 200, "")); err != nil {
				return err
			}
			hs, err := l.until("image tag", name)
			if err != nil {
				return err
			}
			if h := hs[len(hs)-1]; h.Actor.ID != id || h.ID != id || h.Status != "tag" {
				return fmt.Errorf("event %+v", h)
			}
			_, err = l.until("image untag", id)
			return err
		}),
		story("events of a prune", []string{"SystemEvents", "ContainerPrune", "VolumePrune"}, func(t *T) error {
			l, err := t.listen(obj{"event": []string{"prune"}})
			if err != nil {
				return err
			}
			defer l.body.Close()
			none := `?filters={"label":["` + t.prefix + `none"]}`
			if err := steps(t.want("POST", "/containers/prune"+none, nil, 200, ""), t.want("POST", "/volumes/prune"+none, nil, 200, "")); err != nil {
				return err
			}
			hs, err := l.until("volume prune", "")
			if err != nil {
				return err
			}
			reclaimed := map[string]string{"reclaimed": "0"}
			return steps(func() error { return inOrder(hs, "container prune", "volume prune") }, func() error { return attributes(hs, "container prune", reclaimed) }, func() error { return attributes(hs, "volume prune", reclaimed) })
		}),
		story("events of the past", []string{"SystemEvents"}, func(t *T) error {
			l, err := t.listen(obj{"event": []string{"create", "destroy"}})
			if err != nil {
				return err
			}
			defer l.body.Close()
			id, err := t.create(cmd("true"), none)
			if err != nil {
				return err
			}
			if _, err := t.expect("DELETE", "/containers/"+id, nil, 204, ""); err != nil {
				return err
			}
			live, err := l.until("container destroy", id)
			if err != nil {
				return err
			}
			created, gone := live[0], live[1]
			span := fmt.Sprintf("since=%d.%09d&until=%d.%09d", created.TimeNano/1e9, created.TimeNano%1e9, gone.TimeNano/1e9, gone.TimeNano%1e9)
			past := func(query string, want ...string) func() error {
				return func() error {
					a, err := t.expect("GET", "/events?"+query, nil, 200, "")
					if err != nil {
						return err
					}
					var got []string
					for line := range strings.Lines(string(a.Body)) {
						if strings.Contains(line, id) {
							action, _, _ := strings.Cut(line[strings.Index(line, `"Action":"`)+10:], `"`)
							got = append(got, action)
						}
					}
					if !slices.Equal(got, want) {
						return fmt.Errorf("%s: %q, want %q", query, got, want)
					}
					return nil
				}
			}
			with := func(filters string) string { return span + "&filters=" + url.QueryEscape(filters) }
			name := t.prefix + "0"
			return steps(past(span, "create", "destroy"), past(with(`{"event":["create"]}`), "create"), past(with(`{"type":["volume"]}`)), past(with(`{"container":["`+id[:12]+`"]}`), "create", "destroy"),
				past(with(`{"container":["`+name+`"]}`), "create", "destroy"), past(with(`{"container":["x`+name+`"]}`)), past(with(`{"image":["busybox"]}`), "create", "destroy"), past(with(`{"image":["nosuch"]}`)),
				past(with(`{"label":["nosuch"]}`)), past(with(`{"scope":["swarm"]}`)), past(with(`{"bogus":["x"]}`), "create", "destroy"), past(with(`{"daemon":["x"]}`)),
				past(fmt.Sprintf("since=%d&until=%d", gone.Time+1, gone.Time+1)), past(fmt.Sprintf("until=%d", gone.Time-1)))
		}),
		simple("events: since after until", "SystemEvents", "GET", "/events?since=5&until=1", nil, 400, "`since` time (5) cannot be after `until` time (1)"),
		simple("events: since is no number", "SystemEvents", "GET", "/events?since=10m&until=0", nil, 400, `invalid value for 'since': invalid timestamp \"10m\": invalid seconds \"10m\": invalid syntax`).since("1.44"),
	}
}
