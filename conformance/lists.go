package conformance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// listed compares the names of a list, newest first; filters is JSON, in which $ stands for the names' common part.
func (t *T) listed(query, filters string, want ...string) func() error {
	return func() error {
		q := "/containers/json?" + query
		if filters != "" {
			q += "&filters=" + url.QueryEscape(strings.ReplaceAll(filters, "$", t.prefix))
		}
		a, err := t.expect("GET", q, nil, 200, "")
		if err != nil {
			return err
		}
		got := []string{}
		for _, c := range a.List() {
			for _, n := range c["Names"].([]any) {
				if name, ok := strings.CutPrefix(n.(string), "/"+t.prefix); ok { // others may run beside
					got = append(got, name)
				}
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%s %s: %q, want %q", query, filters, got, want)
		}
		return nil
	}
}

// crowd makes four containers: 0 runs with volumes, labels and a port; 1 has exited with 2; 2 was only created, without a
// network; 3 is paused on the host's.
func (t *T) crowd() ([]string, error) {
	l := t.prefix
	var ids []string
	for i, k := range []struct{ config, host obj }{
		{obj{"Cmd": []string{"sleep", "1000"}, "Labels": obj{l: "1", l + "b": "x"}, "ExposedPorts": obj{"80/tcp": obj{}, "81/tcp": obj{}}}, obj{"Binds": []string{l + "lv:/v", "/usr:/u"}, "PortBindings": obj{"80/tcp": []obj{{"HostPort": "0"}}}}},
		{obj{"Cmd": []string{"sh", "-c", "echo x >/f; exit 2"}, "Labels": obj{l: "2"}}, nil},
		{obj{"Cmd": []string{"true"}}, obj{"NetworkMode": "none"}},
		{obj{"Cmd": []string{"sleep", "1000"}}, obj{"NetworkMode": "host"}},
	} {
		id, err := t.create(k.config, k.host)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
		if i == 2 {
			continue
		}
		if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
			return nil, err
		}
	}
	return ids, steps(t.want("POST", "/containers/"+ids[1]+"/wait", nil, 200, ""), t.want("POST", "/containers/"+ids[3]+"/pause", nil, 204, ""))
}

// lists holds the list of containers and its filters.
func lists() []Case {
	ops := []string{"ContainerList"}
	bad := func(filter string, status int, part string) Case {
		return simple("list by "+filter, "ContainerList", "GET", "/containers/json?all=1&filters="+url.QueryEscape(filter), nil, status, part)
	}
	return []Case{
		story("list by every filter", ops, func(t *T) error {
			ids, err := t.crowd()
			if err != nil {
				return err
			}
			public := ""
			port := func() error {
				a, err := t.expect("GET", "/containers/"+ids[0]+"/json", nil, 200, "")
				if err != nil {
					return err
				}
				ports, _ := a.JSON()["NetworkSettings"].(obj)["Ports"].(obj)["80/tcp"].([]any)
				if len(ports) == 0 {
					return fmt.Errorf("no port is published: %s", a.Body)
				}
				public, _ = ports[0].(obj)["HostPort"].(string)
				return t.listed("all=1", `{"publish":["`+public+`"]}`, "0")()
			}
			return steps(
				t.listed("all=1", "", "3", "2", "1", "0"), t.listed("all=0", "", "3", "0"), t.listed("", "", "3", "0"), t.listed("all=1&before="+ids[1], "", "3", "2", "1", "0"),
				t.listed("all=1", `{"id":["`+ids[1][:12]+`"]}`, "1"), t.listed("all=1", `{"id":["`+ids[1]+`","`+ids[2][:20]+`"]}`, "2", "1"), t.listed("all=1", `{"id":["zz"]}`),
				t.listed("all=1", `{"name":["$1"]}`, "1"), t.listed("all=1", `{"name":["/$1"]}`, "1"), t.listed("all=1", `{"name":["^/$[12]$"]}`), t.listed("all=1", `{"name":["^$1"]}`, "1"), t.listed("all=1", `{"name":["$0","$3"]}`, "3", "0"),
				t.listed("all=1", `{"label":["$"]}`, "1", "0"), t.listed("all=1", `{"label":["$=1"]}`, "0"), t.listed("all=1", `{"label":["$","$b"]}`, "0"), t.listed("all=1", `{"label":{"$=2":true}}`, "1"), t.listed("all=1", `{"label":["$=9"]}`),
				t.listed("all=1", `{"exited":["2"]}`, "1"), t.listed("all=1", `{"exited":["0"]}`), t.listed("", `{"exited":["2"]}`),
				t.listed("", `{"status":["exited"]}`, "1"), t.listed("", `{"status":["created","paused"]}`, "3", "2"), t.listed("all=1", `{"status":["running"]}`, "0"), t.listed("all=1", `{"status":["dead"]}`),
				t.listed("all=1", `{"ancestor":["busybox"]}`, "3", "2", "1", "0"), t.listed("all=1", `{"ancestor":["nosuch"]}`),
				t.listed("all=1", `{"before":["$2"]}`, "1", "0"), t.listed("all=1", `{"since":["`+ids[1]+`"]}`, "3", "2"), t.listed("all=1", `{"since":["$0"],"before":["$3"]}`, "2", "1"),
				t.listed("all=1", `{"volume":["$lv"]}`, "0"), t.listed("all=1", `{"volume":["/u"]}`, "0"), t.listed("all=1", `{"volume":["/usr"]}`, "0"), t.listed("all=1", `{"volume":["lv"]}`),
				t.listed("all=1", `{"network":["none"]}`, "2"), t.listed("all=1", `{"network":["host"]}`, "3"), t.listed("all=1", `{"network":["bridge"]}`, "1", "0"),
				port, t.listed("all=1", `{"publish":["80/udp"]}`), t.listed("all=1", `{"expose":["81"]}`, "0"), t.listed("all=1", `{"expose":["80-81/tcp"]}`, "0"), t.listed("all=1", `{"expose":["81/udp"]}`),
				t.listed("all=1", `{"health":["none"]}`, "3", "2", "1", "0"), t.listed("all=1", `{"health":["healthy"]}`), t.listed("all=1", `{"is-task":["true"]}`), t.listed("all=1", `{"is-task":["false"]}`, "3", "2", "1", "0"),
				t.listed("all=1", `{"isolation":["default"]}`, "3", "2", "1", "0"), t.listed("all=1", `{"name":["$1"],"status":["running"]}`),
			)
		}),
		story("list: limits", ops, func(t *T) error {
			if _, err := t.crowd(); err != nil {
				return err
			}
			return steps(t.listed("limit=1", "", "3"), t.listed("limit=2", "", "3", "2"), t.listed("limit=-1", "", "3", "0"), t.listed("limit=0", "", "3", "0"), t.listed("limit=1", `{"status":["exited"]}`, "1"))
		}).alone(),
		story("list: rows", ops, func(t *T) error {
			ids, err := t.crowd()
			if err != nil {
				return err
			}
			rows := map[string]obj{}
			a, err := t.expect("GET", "/containers/json?all=1&size=1", nil, 200, "")
			if err != nil {
				return err
			}
			for _, r := range a.List() {
				rows[r["Id"].(string)] = r
			}
			for i, want := range []obj{
				{"State": "running", "Command": "sleep 1000", "Image": "busybox:latest", "Labels": obj{t.prefix: "1", t.prefix + "b": "x"}},
				{"State": "exited", "Command": "sh -c 'echo x >/f; exit 2'", "Ports": []any{}, "Mounts": []any{}},
				{"State": "created", "Status": "Created", "Labels": obj{}, "HostConfig": obj{"NetworkMode": "none"}},
				{"State": "paused", "Ports": []any{}},
			} {
				row := rows[ids[i]]
				for k, w := range want {
					x, _ := json.Marshal(row[k])
					y, _ := json.Marshal(w)
					if string(x) != string(y) {
						return fmt.Errorf("%d: %s is %s, want %s", i, k, x, y)
					}
				}
				if n, _ := row["SizeRootFs"].(float64); n < 1<<20 {
					return fmt.Errorf("%d: the size of the root file system is %v", i, row["SizeRootFs"])
				}
			}
			status := func(i int, prefix, suffix string) error {
				if s, _ := rows[ids[i]]["Status"].(string); !strings.HasPrefix(s, prefix) || !strings.HasSuffix(s, suffix) {
					return fmt.Errorf("%d: status %q", i, s)
				}
				return nil
			}
			if n, _ := rows[ids[1]]["SizeRw"].(float64); n < 2 {
				return fmt.Errorf("what the container wrote takes %v", n)
			}
			return steps(func() error { return status(0, "Up ", "") }, func() error { return status(1, "Exited (2) ", " ago") }, func() error { return status(3, "Up ", " (Paused)") },
				t.want("GET", "/containers/"+ids[0]+"/json?size=1", nil, 200, `"SizeRootFs":`), t.want("GET", "/containers/"+ids[0]+"/json?size=1", nil, 200, `"SizeRw":`), func() error {
					a, err := t.expect("GET", "/containers/"+ids[0]+"/json", nil, 200, "")
					if err == nil && strings.Contains(string(a.Body), "SizeRw") {
						err = fmt.Errorf("the size was not asked for: %s", a.Body)
					}
					return err
				})
		}),
		story("list by ancestor: containers of images made from it", []string{"ContainerList", "ImageCommit"}, func(t *T) error {
			first, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			name := strings.ToLower(strings.TrimRight(t.prefix, "-")) + "derived"
			if _, err := t.expect("POST", "/commit?container="+first+"&repo="+name+"&comment="+name, nil, 201, ""); err != nil {
				return err
			}
			if _, err := t.create(obj{"Image": name, "Cmd": []string{"true"}}, nil); err != nil {
				return err
			}
			return steps(t.listed("all=1", `{"ancestor":["busybox"]}`, "1", "0"), t.listed("all=1", `{"ancestor":["`+name+`"]}`, "1"))
		}),
		bad(`{"status":["foo"]}`, 400, "invalid filter 'status=foo'"), bad(`{"health":["foo"]}`, 400, "filter value for health: foo"), bad(`{"publish":["80:90"]}`, 500, "filter for 'publish' should not contain ':': 80:90"),
		bad(`{"publish":["x"]}`, 500, "error while looking up for publish x"), bad(`{"expose":["90-80"]}`, 500, "invalid range specified for"), bad(`{"is-task":["x"]}`, 400, "invalid filter 'is-task=[x]'"), bad(`{"label!":["x"]}`, 400, "invalid filter 'label!'"),
		story("prune by label and time", []string{"ContainerPrune"}, func(t *T) error {
			l := t.prefix + "p"
			a, err := t.create(obj{"Cmd": []string{"true"}, "Labels": obj{l: "1", l + "keep": "x"}}, nil)
			if err != nil {
				return err
			}
			b, err := t.create(obj{"Cmd": []string{"true"}, "Labels": obj{l: "1"}}, nil)
			if err != nil {
				return err
			}
			p := "/containers/prune?filters="
			none := `{"ContainersDeleted":null,"SpaceReclaimed":0}`
			return steps(t.want("POST", p+url.QueryEscape(`{"label":["`+l+`"],"until":["24h"]}`), nil, 200, none), t.want("POST", p+url.QueryEscape(`{"label":["`+l+`=2"]}`), nil, 200, none),
				t.want("POST", p+url.QueryEscape(`{"label":["`+l+`"],"label!":["`+l+`keep"]}`), nil, 200, b), t.want("GET", "/containers/"+a+"/json", nil, 200, ""), t.want("GET", "/containers/"+b+"/json", nil, 404, ""),
				t.want("POST", p+url.QueryEscape(`{"label":["`+l+`"],"until":["-10s"]}`), nil, 200, a))
		}),
	}
}
