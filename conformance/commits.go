package conformance

import (
	"encoding/json"
	"fmt"
	"net/url"
	"sort"
	"strings"
)

// changed compares the changes of a container, in any order.
func (t *T) changed(id string, want ...string) func() error {
	return func() error {
		a, err := t.expect("GET", "/containers/"+id+"/changes", nil, 200, "")
		if err != nil {
			return err
		}
		var list []struct {
			Path string
			Kind int
		}
		if err := json.Unmarshal(a.Body, &list); err != nil {
			return fmt.Errorf("%s: %w", a.Body, err)
		}
		got := []string{}
		for _, c := range list {
			got = append(got, fmt.Sprintf("%c %s", "CAD"[c.Kind], c.Path))
		}
		sort.Strings(got)
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("changes: %q, want %q", got, want)
		}
		return nil
	}
}

// committed makes an image of a container and looks at the image's configuration.
func (t *T) committed(id string, changes string, body any, want ...string) func() error {
	return func() error {
		query := "/commit?container=" + id
		if changes != "" {
			query += "&changes=" + url.QueryEscape(changes)
		}
		a, err := t.expect("POST", query, body, 201, `"Id":"sha256:`)
		if err != nil {
			return err
		}
		image, _ := a.JSON()["Id"].(string)
		defer func() { _, _ = t.Do("DELETE", "/images/"+image, nil) }() // the case's own verdict counts
		if a, err = t.expect("GET", "/images/"+image+"/json", nil, 200, ""); err != nil {
			return err
		}
		config, err := json.Marshal(a.JSON()["Config"])
		for _, w := range want {
			if !strings.Contains(string(config), w) {
				return fmt.Errorf("%q, %v: %s, want %s", changes, body, config, w)
			}
		}
		return err
	}
}

// commits holds what a container changed, and images made of it.
func commits() []Case {
	return []Case{
		story("changes", []string{"ContainerChanges"}, func(t *T) error {
			id, err := t.create(sh("echo a >/f; mkdir /d; echo b >/d/g; rm /etc/group; echo c >>/etc/passwd; rm -r /www; mkdir /root/x; touch /dev/y; echo q >/ready; exec sleep 1000"), obj{"Binds": []string{"/etc:/hosted/etc"}, "Mounts": []obj{{"Type": "volume", "Target": "/vol"}}})
			if err != nil {
				return err
			}
			f, p := &files{t, id}, "/containers/"+id
			want := []string{"A /d", "A /d/g", "A /f", "A /hosted", "A /hosted/etc", "A /ready", "A /root/x", "A /vol", "C /etc", "C /etc/passwd", "C /root", "D /etc/group", "D /www"}
			return steps(t.want("POST", p+"/start", nil, 204, ""), f.await("/ready"), t.changed(id, want...), t.want("POST", p+"/stop?t=0", nil, 204, ""), t.changed(id, want...))
		}),
		story("no changes are null", []string{"ContainerChanges"}, func(t *T) error {
			id, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			null := func() error {
				a, err := t.Do("GET", p+"/changes", nil)
				if err == nil && (a.Status != 200 || strings.TrimSpace(string(a.Body)) != "null") {
					err = fmt.Errorf("%d %s", a.Status, a.Body)
				}
				return err
			}
			return steps(null, t.want("POST", p+"/start", nil, 204, ""), t.want("POST", p+"/wait", nil, 200, ""), null)
		}),
		simple("changes of nothing", "ContainerChanges", "GET", "/containers/nosuch/changes", nil, 404, "No such container: nosuch"),
		story("commit: what the container wrote", []string{"ImageCommit"}, func(t *T) error {
			id, err := t.create(sh("echo kept >/new; rm /www/index.html; exec sleep 1000"), nil)
			if err != nil {
				return err
			}
			f, p, name := &files{t, id}, "/containers/"+id, strings.TrimSuffix(t.prefix, "-")+"commit"
			defer func() { _, _ = t.Do("DELETE", "/images/"+name+":1?force=1", nil) }() // the case's own verdict counts
			if err := steps(t.want("POST", p+"/start", nil, 204, ""), f.await("/new"),
				t.want("POST", "/commit?container="+id+"&repo="+name+"&tag=1&author=me+%3Cm%40x%3E&comment=why", nil, 201, `"Id":"sha256:`),
				t.want("GET", p+"/json", nil, 200, `"Status":"running"`),
				t.want("GET", "/images/"+name+":1/json", nil, 200, `"Author":"me <m@x>"`), t.want("GET", "/images/"+name+":1/json", nil, 200, `"Comment":"why"`),
				t.want("GET", "/images/"+name+":1/history", nil, 200, `"CreatedBy":"sh -c echo kept`)); err != nil {
				return err
			}
			code, text, err := t.output(obj{"Image": name + ":1", "Cmd": []string{"sh", "-c", "cat /new; ls /www | wc -l"}}, nil)
			if err == nil && (code != 0 || text != "kept\n0\n") {
				err = fmt.Errorf("%d %q", code, text)
			}
			return err
		}),
		story("commit: configuration", []string{"ImageCommit"}, func(t *T) error {
			c := cmd("sleep", "1")
			c["Env"], c["Labels"] = []string{"A=1"}, obj{"l": "v"}
			id, err := t.create(c, nil)
			if err != nil {
				return err
			}
			return steps(
				t.committed(id, "", nil, `"Cmd":["sleep","1"]`, `"Env":["A=1"]`, `"Labels":{"l":"v"}`, `"Volumes":null`),
				t.committed(id, "CMD a b", nil, `"Cmd":["/bin/sh","-c","a b"]`), t.committed(id, `ENTRYPOINT ["e"]`, nil, `"Entrypoint":["e"]`, `"Cmd":null`), t.committed(id, "CMD []", nil, `"Cmd":["sleep","1"]`),
				t.committed(id, "CMD [\"a\"]\nENTRYPOINT [\"e\"]", nil, `"Entrypoint":["e"]`, `"Cmd":["a"]`), t.committed(id, `ENV A=2 B="x y" C=$A`, nil, `"Env":["A=2","B=x y","C=1"]`),
				t.committed(id, "ENV K some value", nil, `"Env":["A=1","K=some value"]`), t.committed(id, `LABEL a=b "c d"="e f"`, nil, `"Labels":{"a":"b","c d":"e f","l":"v"}`),
				t.committed(id, "EXPOSE 80 81/udp 90-91", nil, `"ExposedPorts":{"80/tcp":{},"81/udp":{},"90/tcp":{},"91/tcp":{}}`), t.committed(id, "VOLUME /a /b", nil, `"Volumes":{"/a":{},"/b":{}}`),
				t.committed(id, "WORKDIR a\nWORKDIR b\nUSER 5:6", nil, `"WorkingDir":"/a/b"`, `"User":"5:6"`), t.committed(id, "HEALTHCHECK --interval=5s --retries=4 CMD curl x", nil, `"Test":["CMD-SHELL","curl x"]`, `"Retries":4`),
				t.committed(id, "ONBUILD RUN x", nil, `"OnBuild":["RUN x"]`), t.committed(id, "", obj{"Cmd": []string{"over"}, "Env": []string{"Z=1"}, "Labels": obj{"q": "r"}}, `"Cmd":["over"]`, `"Env":["Z=1","A=1"]`, `"Labels":{"l":"v","q":"r"}`),
				t.committed(id, "", obj{"Entrypoint": []string{"x"}}, `"Entrypoint":["x"]`, `"Cmd":null`), t.committed(id, "USER 8", obj{}, `"User":"8"`, `"Cmd":["sleep","1"]`),
			)
		}),
		story("commit: bad input", []string{"ImageCommit"}, func(t *T) error {
			id, err := t.create(cmd("true"), nil)
			if err != nil {
				return err
			}
			bad := func(changes, part string) func() error {
				return t.want("POST", "/commit?container="+id+"&changes="+url.QueryEscape(changes), nil, 400, part)
			}
			return steps(t.want("POST", "/commit", nil, 400, `invalid name or ID supplied: \"\"`), t.want("POST", "/commit?container=nope", nil, 404, "No such container: nope"),
				bad("", "file with no instructions"), bad("RUN x", "RUN is not a valid change command"), bad("BOGUS", "BOGUS is not a valid change command"), bad("ENV", "ENV requires at least one argument"), bad("ENV X", "ENV must have two arguments"),
				bad("ENV =b", "ENV names can not be blank"), bad("USER", "USER requires exactly one argument"), bad("EXPOSE foo", "Invalid containerPort: foo"), bad("HEALTHCHECK --bogus=1 CMD x", "unknown flag: bogus"),
				bad("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"), bad("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
				t.want("POST", "/commit?container="+id+"&repo=a@sha256:"+strings.Repeat("a", 64), nil, 400, "refusing to create a tag with a digest reference"))
		}),
	}
}
