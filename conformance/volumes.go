package conformance

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// filtered is a query with filters.
func filtered(path, filters string) string { return path + "?filters=" + url.QueryEscape(filters) }

// storage holds volumes, and what containers see of them.
func storage() []Case {
	tmpfs := obj{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"}
	refused := func(name string, options obj, text string) Case {
		return story("volume: "+name, []string{"VolumeCreate"}, func(t *T) error {
			return t.want("POST", "/volumes/create", obj{"Name": t.prefix + "v", "DriverOpts": options}, 400, text)()
		})
	}
	// withVolume makes a volume and hands its name and a host configuration that mounts it at /v.
	withVolume := func(name string, options obj, f func(t *T, v string, host obj) error) Case {
		return story("volume: "+name, []string{"VolumeCreate", "VolumeInspect", "VolumeDelete"}, func(t *T) error {
			v := t.prefix + "v"
			if _, err := t.expect("POST", "/volumes/create", obj{"Name": v, "DriverOpts": options}, 201, v); err != nil {
				return err
			}
			return f(t, v, obj{"Binds": []string{v + ":/v"}})
		})
	}
	prints := func(t *T, c, host obj, want string) error {
		code, got, err := t.output(c, host)
		if err == nil && (code != 0 || got != want) {
			err = fmt.Errorf("code %d, output %q, want %q", code, got, want)
		}
		return err
	}
	return []Case{
		refused("unknown option", obj{"bogus": "1"}, `invalid option: \"bogus\"`),
		refused("type without device", obj{"type": "tmpfs"}, `missing required option: \"device\"`),
		refused("options without device", obj{"o": "bind"}, `missing required option: \"device\"`),
		refused("size without quota", obj{"size": "1m"}, "quota size requested but no quota support"),
		simple("volume: a name with a slash", "VolumeCreate", "POST", "/volumes/create", obj{"Name": "a/b"}, 400, `\"a/b\" includes invalid characters for a local volume name`),
		simple("volume: a short name", "VolumeCreate", "POST", "/volumes/create", obj{"Name": "a"}, 400, "volume name is too short, names should be at least two alphanumeric characters"),
		simple("volume: no such driver", "VolumeCreate", "POST", "/volumes/create", obj{"Name": "ab", "Driver": "nosuch"}, 404, `create ab: error looking up volume plugin nosuch: plugin \"nosuch\" not found`),
		simple("volume: removing nothing", "VolumeDelete", "DELETE", "/volumes/nosuch", nil, 404, "get nosuch: no such volume"),
		simple("volume: removing nothing by force", "VolumeDelete", "DELETE", "/volumes/nosuch?force=1", nil, 204, ""),
		simple("volume: unknown filter", "VolumeList", "GET", `/volumes?filters={"bogus":["x"]}`, nil, 400, "invalid filter 'bogus'"),
		simple("volume: dangling is a truth", "VolumeList", "GET", `/volumes?filters={"dangling":["x"]}`, nil, 400, "invalid filter 'dangling=[x]'"),
		simple("volume: updates are for clusters", "VolumeUpdate", "PUT", "/volumes/x?version=1", obj{}, 503, "volume update only valid for cluster volumes, but swarm is unavailable").since("1.42"),
		withVolume("made twice", nil, func(t *T, v string, _ obj) error {
			return steps(t.want("POST", "/volumes/create", obj{"Name": v, "Labels": obj{"new": "1"}}, 201, `"Labels":null`), t.want("GET", "/volumes/"+v, nil, 200, `"Labels":null`))
		}),
		story("volume: without a name", []string{"VolumeCreate", "VolumeDelete"}, func(t *T) error {
			a, err := t.expect("POST", "/volumes/create", obj{}, 201, `"Scope":"local"`)
			if err != nil {
				return err
			}
			n, _ := a.JSON()["Name"].(string)
			if len(n) != 64 {
				return fmt.Errorf("name %q", n)
			}
			return t.want("DELETE", "/volumes/"+n, nil, 204, "")()
		}),
		story("volume: filters", []string{"VolumeList"}, func(t *T) error {
			a, b := t.prefix+"fa", t.prefix+"fb"
			if err := steps(t.want("POST", "/volumes/create", obj{"Name": a, "Labels": obj{"k": "1"}}, 201, ""), t.want("POST", "/volumes/create", obj{"Name": b}, 201, "")); err != nil {
				return err
			}
			if _, err := t.create(cmd("true"), obj{"Binds": []string{b + ":/v"}}); err != nil {
				return err
			}
			for filter, want := range map[string]string{
				`{"name":["` + t.prefix + `f"]}`: "ab", `{"name":["^` + a + `$"]}`: "a", `{"label":["k"]}`: "a", `{"label":["k=2"]}`: "", `{"driver":["nosuch"]}`: "", `{"driver":["local"]}`: "ab",
				`{"dangling":["true"]}`: "a", `{"dangling":["0"]}`: "b",
			} {
				r, err := t.expect("GET", filtered("/volumes", filter), nil, 200, `"Volumes":[`)
				if err != nil {
					return err
				}
				got := ""
				for n, letter := range map[string]string{a: "a", b: "b"} {
					if strings.Contains(string(r.Body), `"Name":"`+n+`"`) {
						got = strings.TrimSpace(got + letter)
					}
				}
				if got == "ba" {
					got = "ab"
				}
				if got != want {
					return fmt.Errorf("%s: %q, want %q", filter, got, want)
				}
			}
			return nil
		}),
		withVolume("in use by a stopped container", nil, func(t *T, v string, host obj) error {
			id, err := t.create(cmd("true"), host)
			if err != nil {
				return err
			}
			inUse := "remove " + v + ": volume is in use - [" + id + "]"
			return steps(t.want("DELETE", "/volumes/"+v, nil, 409, inUse), t.want("DELETE", "/volumes/"+v+"?force=1", nil, 409, inUse),
				t.want("DELETE", "/containers/"+id+"?v=1", nil, 204, ""), t.want("GET", "/volumes/"+v, nil, 200, v), t.want("DELETE", "/volumes/"+v, nil, 204, ""))
		}),
		withVolume("data is kept", nil, func(t *T, _ string, host obj) error {
			if err := prints(t, sh("echo kept > /v/f"), host, ""); err != nil {
				return err
			}
			return prints(t, sh("cat /v/f"), host, "kept\n")
		}),
		withVolume("read-only", nil, func(t *T, v string, _ obj) error {
			return prints(t, sh("touch /v/f 2>&1; true"), obj{"Binds": []string{v + ":/v:ro"}}, "touch: /v/f: Read-only file system\n")
		}),
		withVolume("a tmpfs", tmpfs, func(t *T, v string, host obj) error {
			// Mounted at first use, with its options; gone with the last user.
			a, err := t.create(cmd("sleep", "1000"), host)
			if err != nil {
				return err
			}
			if err := steps(t.want("POST", "/containers/"+a+"/start", nil, 204, ""), func() error {
				return prints(t, sh("touch /v/f; stat -c %u /v; df -k /v | tail -1 | awk '{print $2}'"), host, "7\n1024\n")
			}); err != nil {
				return err
			}
			got, _, err := t.execOutput(a, obj{"Cmd": []string{"ls", "/v"}, "AttachStdout": true}, obj{}, "")
			if err != nil || got != frame(1, "f\n") {
				return fmt.Errorf("%q, %w", got, err)
			}
			if _, err := t.expect("DELETE", "/containers/"+a+"?force=1", nil, 204, ""); err != nil {
				return err
			}
			return prints(t, sh("ls /v"), host, "")
		}),
		withVolume("a directory of the host, read-only", obj{"type": "none", "device": "/etc", "o": "bind,ro"}, func(t *T, v string, host obj) error {
			if err := prints(t, sh("ls /v/passwd; touch /v/berth 2>&1; true"), host, "/v/passwd\ntouch: /v/berth: Read-only file system\n"); err != nil {
				return err
			}
			return steps(t.want("GET", "/volumes/"+v, nil, 200, `"device":"/etc"`), func() error {
				_, err := t.expect("POST", filtered("/volumes/prune", `{"label!":["nosuch"]}`), nil, 200, "VolumesDeleted")
				return err
			}, t.want("GET", "/volumes/"+v, nil, 200, v))
		}).alone(),
		withVolume("a missing device", obj{"type": "none", "device": "/nope", "o": "bind"}, func(t *T, v string, host obj) error {
			id, err := t.create(cmd("true"), host)
			if err != nil {
				return err
			}
			return steps(t.want("POST", "/containers/"+id+"/start", nil, 500, "/volumes/"+v+"/_data': failed to mount local volume: mount /nope:"), t.want("POST", "/containers/"+id+"/start", nil, 500, "flags: 0x1000: no such file or directory"),
				t.want("DELETE", "/containers/"+id, nil, 204, ""), t.want("DELETE", "/volumes/"+v, nil, 204, ""))
		}),
		withVolume("an export nobody has", obj{"type": "nfs", "device": ":/x", "o": "addr=127.0.0.1,soft,timeo=5,retrans=1,port=9,tcp,nolock,vers=3,mountproto=tcp,mountport=9"}, func(t *T, _ string, host obj) error {
			id, err := t.create(cmd("true"), host)
			if err != nil {
				return err
			}
			return t.want("POST", "/containers/"+id+"/start", nil, 500, "failed to mount local volume: mount :/x:")()
		}),
		story("volume: content of the image", []string{"ContainerCreate"}, func(t *T) error {
			return prints(t, obj{"Cmd": []string{"sh", "-c", "ls /etc/passwd; stat -c %a /etc"}, "Volumes": obj{"/etc": obj{}}}, nil, "/etc/passwd\n755\n")
		}),
		withVolume("no content of the image", nil, func(t *T, v string, _ obj) error {
			return prints(t, sh("ls /etc/passwd 2>&1; true"), obj{"Mounts": []obj{{"Type": "volume", "Source": v, "Target": "/etc", "VolumeOptions": obj{"NoCopy": true}}}}, "ls: /etc/passwd: No such file or directory\n")
		}),
		withVolume("of another container", nil, func(t *T, v string, _ obj) error {
			a, err := t.create(cmd("true"), obj{"Binds": []string{v + ":/v"}})
			if err != nil {
				return err
			}
			if err := prints(t, sh("echo x > /v/f; cat /v/f"), obj{"VolumesFrom": []string{a}}, "x\n"); err != nil {
				return err
			}
			return prints(t, sh("touch /v/g 2>&1; true"), obj{"VolumesFrom": []string{a + ":ro"}}, "touch: /v/g: Read-only file system\n")
		}),
		story("volume: anonymous ones go with their container", []string{"ContainerDelete", "VolumeInspect"}, func(t *T) error {
			ids := map[string]int{"?v=1": 404, "": 200}
			for query, status := range ids {
				id, err := t.create(obj{"Cmd": []string{"true"}, "Volumes": obj{"/w": obj{}}}, nil)
				if err != nil {
					return err
				}
				a, err := t.expect("GET", "/containers/"+id+"/json", nil, 200, `"Mounts":[{"Type":"volume","Name":"`)
				if err != nil {
					return err
				}
				name, _ := a.JSON()["Mounts"].([]any)[0].(map[string]any)["Name"].(string)
				if err := steps(t.want("DELETE", "/containers/"+id+query, nil, 204, ""), t.want("GET", "/volumes/"+name, nil, status, name)); err != nil {
					return err
				}
				if status == 200 {
					if _, err := t.expect("DELETE", "/volumes/"+name, nil, 204, ""); err != nil {
						return err
					}
				}
			}
			return nil
		}),
		withVolume("a part of one", nil, func(t *T, v string, host obj) error {
			if err := prints(t, sh("mkdir -p /v/a/b; echo x > /v/a/b/f; ln -s /etc /v/out"), host, ""); err != nil {
				return err
			}
			part := func(p string) obj {
				return obj{"Mounts": []obj{{"Type": "volume", "Source": v, "Target": "/p", "VolumeOptions": obj{"Subpath": p}}}}
			}
			if err := prints(t, sh("ls /p"), part("a/b"), "f\n"); err != nil {
				return err
			}
			if err := prints(t, sh("cat /p"), part("a/b/f"), "x\n"); err != nil {
				return err
			}
			for _, p := range []string{"nope", "out/passwd"} { // a link does not lead out
				id, err := t.create(cmd("true"), part(p))
				if err != nil {
					return err
				}
				if a, err := t.Do("POST", "/containers/"+id+"/start", nil); err != nil || a.Status < 400 || !strings.Contains(a.Message(), "cannot access path") {
					return fmt.Errorf("%s: %d %s, %w", p, a.Status, a.Body, err)
				}
			}
			return nil
		}).since("1.45"),
		withVolume("events", nil, func(t *T, v string, _ obj) error {
			since := time.Now().Unix()
			id, err := t.create(cmd("true"), obj{"Binds": []string{v + ":/v:ro"}})
			if err != nil {
				return err
			}
			if err := steps(t.want("POST", "/containers/"+id+"/start", nil, 204, ""), t.want("POST", "/containers/"+id+"/wait", nil, 200, ""), t.want("DELETE", "/containers/"+id, nil, 204, ""), t.want("DELETE", "/volumes/"+v, nil, 204, "")); err != nil {
				return err
			}
			want := "mount local " + id + " /v false|unmount local " + id + "|destroy local"
			var got []string
			return poll(func() (bool, error) {
				all, err := t.eventsOf(obj{"volume": []string{v}, "type": []string{"volume"}}, since)
				if err != nil {
					return false, err
				}
				got = got[:0]
				for _, e := range all {
					at := e.Actor.Attributes
					if e.Action != "create" {
						got = append(got, strings.Join(strings.Fields(e.Action+" "+at["driver"]+" "+at["container"]+" "+at["destination"]+" "+at["read/write"]), " "))
					}
				}
				return strings.Join(got, "|") == want, nil
			}, func() string { return strings.Join(got, "|") })
		}),
	}
}
