package conformance

import "fmt"

// pair starts a container that stays, then runs a second one that names the first, and looks at the second's output.
func pair(name string, ops []string, first, firstHost obj, second func(id string) (config, host obj), want string) Case {
	return story(name, append(ops, "ContainerCreate", "ContainerStart"), func(t *T) error {
		id, err := t.create(first, firstHost)
		if err != nil {
			return err
		}
		if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
			return err
		}
		config, host := second(id)
		code, text, err := t.output(config, host)
		if err == nil && (code != 0 || text != want) {
			err = fmt.Errorf("code %d, output %q; want %q", code, text, want)
		}
		return err
	})
}

// sharing holds what containers share: namespaces, devices, volumes; and what is managed about many of them.
func sharing() []Case {
	sleeper := func() obj { return cmd("sleep", "100") }
	found := sh("for i in 1 2 3 4 5 6 7 8 9; do [ -e /dev/shm/x ] && echo found && exit; sleep 0.2; done; exit 1")
	return []Case{
		pair("network of another container", nil, obj{"Cmd": []string{"sleep", "100"}, "Hostname": "donor"}, nil, func(id string) (obj, obj) {
			return sh("ip -o link | wc -l; hostname; tail -1 /etc/hosts | cut -f2"), obj{"NetworkMode": "container:" + id}
		}, "2\ndonor\ndonor\n"),
		pair("processes of another container", nil, sleeper(), nil, func(id string) (obj, obj) {
			return cmd("cat", "/proc/1/comm"), obj{"PidMode": "container:" + id}
		}, "sleep\n"),
		pair("shared memory of another container", nil, sh("touch /dev/shm/x; sleep 100"), obj{"IpcMode": "shareable"}, func(id string) (obj, obj) {
			return found, obj{"IpcMode": "container:" + id}
		}, "found\n"),
		pair("volumes of another container", nil, obj{"Cmd": []string{"sleep", "100"}, "Volumes": obj{"/www": obj{}}}, nil, func(id string) (obj, obj) {
			return cmd("cat", "/www/index.html"), obj{"VolumesFrom": []string{id + ":ro"}}
		}, "<h1>berth</h1>\n"),
		story("network of a container that does not run", []string{"ContainerStart"}, func(t *T) error {
			a, err := t.create(sleeper(), nil)
			if err != nil {
				return err
			}
			b, err := t.create(sleeper(), obj{"NetworkMode": "container:" + a})
			if err != nil {
				return err
			}
			_, err = t.expect("POST", "/containers/"+b+"/start", nil, 409, "of a non running container")
			return err
		}),
		story("private shared memory is not joined", []string{"ContainerStart"}, func(t *T) error {
			a, err := t.create(sleeper(), obj{"IpcMode": "private"})
			if err != nil {
				return err
			}
			if _, err := t.expect("POST", "/containers/"+a+"/start", nil, 204, ""); err != nil {
				return err
			}
			b, err := t.create(sleeper(), obj{"IpcMode": "container:" + a})
			if err != nil {
				return err
			}
			_, err = t.expect("POST", "/containers/"+b+"/start", nil, 400, "non-shareable IPC")
			return err
		}).since("1.44"),
		simple("ports in the network of another container", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "HostConfig": obj{"NetworkMode": "container:x", "PublishAllPorts": true}}, 400, "conflicting options: port publishing and the container type network mode"),
		prints("device", sh("ls -l /dev/mine | tr -s ' '; echo x > /dev/mine"), obj{"Devices": []obj{{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mine", "CgroupPermissions": "rwm"}}}, 0, "1, 3"),
		story("missing device", []string{"ContainerStart"}, func(t *T) error {
			id, err := t.create(cmd("true"), obj{"Devices": []obj{{"PathOnHost": "/dev/nosuch", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}}})
			if err != nil {
				return err
			}
			_, err = t.expect("POST", "/containers/"+id+"/start", nil, 500, `error gathering device information while adding custom device \"/dev/nosuch\": no such file or directory`)
			return err
		}),
		prints("a new volume gets what the image has", obj{"Cmd": []string{"cat", "/www/index.html"}, "Volumes": obj{"/www": obj{}}}, nil, 0, "<h1>berth</h1>"),
		story("processes", []string{"ContainerTop"}, func(t *T) error {
			id, err := t.create(sleeper(), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("GET", p+"/top", nil, 409, "is not running"), t.want("POST", p+"/start", nil, 204, ""),
				t.want("GET", p+"/top", nil, 200, `"Titles":["UID","PID"`), t.want("GET", p+"/top", nil, 200, "sleep 100"),
				t.want("GET", p+"/top?ps_args=-o+pid,comm", nil, 200, `"Titles":["PID","COMMAND"]`), t.want("GET", p+"/top?ps_args=-o+comm", nil, 500, "Couldn't find PID field in ps output"))
		}),
		story("statistics", []string{"ContainerStats"}, func(t *T) error {
			id, err := t.create(sleeper(), obj{"Memory": 64 << 20})
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("GET", p+"/stats?stream=0", nil, 200, `"preread":"0001-01-01T00:00:00Z"`), t.want("POST", p+"/start", nil, 204, ""),
				t.want("GET", p+"/stats?stream=0&one-shot=1", nil, 200, `"limit":67108864`), t.want("GET", p+"/stats?stream=0&one-shot=1", nil, 200, `"networks":{"eth0":{"rx_bytes":`),
				t.until(p+"/stats?stream=0&one-shot=1", `"pids_stats":{"current":1`), t.want("GET", "/containers/nosuch/stats?stream=0", nil, 404, "No such container"), func() error {
					a, err := t.expect("GET", p+"/stats?stream=0", nil, 200, `"system_cpu_usage"`)
					if err == nil && (a.JSON()["preread"] == "0001-01-01T00:00:00Z" || a.JSON()["precpu_stats"].(obj)["system_cpu_usage"] == nil) {
						err = fmt.Errorf("there is no sample before: %s", a.Body)
					}
					return err
				})
		}),
		story("disk usage", []string{"SystemDataUsage"}, func(t *T) error {
			id, err := t.create(obj{"Cmd": []string{"true"}, "Volumes": obj{"/www": obj{}}}, nil)
			if err != nil {
				return err
			}
			return steps(t.want("GET", "/system/df", nil, 200, id), t.want("GET", "/system/df", nil, 200, `"LayersSize":`), t.want("GET", "/system/df", nil, 200, `"RefCount":1`))
		}),
		story("prune by label", []string{"ContainerPrune"}, func(t *T) error {
			l := t.prefix + "prune"
			a, err := t.create(obj{"Cmd": []string{"true"}, "Labels": obj{l: "1"}}, nil)
			if err != nil {
				return err
			}
			b, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			return steps(t.want("POST", `/containers/prune?filters={"label":["`+l+`"]}`, nil, 200, a), t.want("GET", "/containers/"+a+"/json", nil, 404, ""), t.want("GET", "/containers/"+b+"/json", nil, 200, ""))
		}),
		simple("prune by an unknown filter", "ContainerPrune", "POST", `/containers/prune?filters={"nope":["x"]}`, nil, 400, "invalid filter 'nope'"),
		story("update", []string{"ContainerUpdate"}, func(t *T) error {
			id, err := t.create(sleeper(), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/update", obj{"Memory": 64 << 20, "MemorySwap": 128 << 20, "CpuShares": 512}, 200, "Warnings"),
				t.want("GET", p+"/json", nil, 200, `"Memory":67108864`), t.want("POST", p+"/update", obj{"Memory": 1000}, 400, "Minimum memory limit allowed is 6MB"),
				t.want("POST", p+"/update", obj{"RestartPolicy": obj{"Name": "always"}}, 200, ""), t.want("GET", p+"/json", nil, 200, `"RestartPolicy":{"Name":"always"`),
				t.want("POST", "/containers/nosuch/update", obj{}, 404, "No such container"))
		}),
		story("unused volumes are pruned by label", []string{"VolumeCreate", "VolumePrune"}, func(t *T) error {
			n := t.prefix + "vol"
			return steps(t.want("POST", "/volumes/create", obj{"Name": n, "Labels": obj{n: "1"}}, 201, n), t.want("POST", `/volumes/prune?filters={"label":["`+n+`"]}`, nil, 200, n), t.want("GET", "/volumes/"+n, nil, 404, "no such volume"))
		}),
	}
}
