package conformance

import (
	"fmt"
	"strings"
)

type obj = map[string]any

// create makes a container and returns its id.
func (t *T) create(config, host obj) (string, error) {
	if config["Image"] == nil {
		config["Image"] = "busybox:latest"
	}
	if host != nil {
		config["HostConfig"] = host
	}
	name := fmt.Sprintf("%s%d", t.prefix, t.n)
	t.n++
	a, err := t.Do("POST", "/containers/create?name="+name, config)
	if err != nil {
		return "", err
	}
	if a.Status != 201 {
		return "", fmt.Errorf("create: %d %s", a.Status, a.Body)
	}
	id, _ := a.JSON()["Id"].(string)
	return id, nil
}

// expect sends a request and checks status and a part of the message.
func (t *T) expect(method, path string, body any, status int, part string) (*Answer, error) {
	a, err := t.Do(method, path, body)
	if err != nil {
		return nil, err
	}
	if a.Status != status || !strings.Contains(strings.ToLower(string(a.Body)), strings.ToLower(part)) {
		return a, fmt.Errorf("%s %s: %d %s, want %d with %q", method, path, a.Status, a.Body, status, part)
	}
	return a, nil
}

// output runs a container to its end and returns code and log.
func (t *T) output(config, host obj) (int, string, error) {
	id, err := t.create(config, host)
	if err != nil {
		return 0, "", err
	}
	if _, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, ""); err != nil {
		return 0, "", err
	}
	a, err := t.expect("POST", "/containers/"+id+"/wait", nil, 200, "StatusCode")
	if err != nil {
		return 0, "", err
	}
	code, _ := a.JSON()["StatusCode"].(float64)
	l, err := t.expect("GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil, 200, "")
	if err != nil {
		return 0, "", err
	}
	text := ""
	for b := l.Body; len(b) >= 8; {
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		text += string(b[8 : 8+n])
		b = b[8+n:]
	}
	return int(code), text, nil
}

func cmd(words ...string) obj { return obj{"Cmd": words} }

func sh(script string) obj { return cmd("sh", "-c", script) }

// simple is a case of one request.
func simple(name, op, method, path string, body any, status int, part string) Case {
	return story(name, []string{op}, func(t *T) error { return t.want(method, path, body, status, part)() })
}

// prints is a case that runs a container and looks at its output.
func prints(name string, config, host obj, code int, want string) Case {
	return story(name, []string{"ContainerCreate", "ContainerStart", "ContainerWait", "ContainerLogs"}, func(t *T) error {
		got, text, err := t.output(config, host)
		if err != nil {
			return err
		}
		if got != code || !strings.Contains(text, want) {
			return fmt.Errorf("code %d, output %q; want %d and %q", got, text, code, want)
		}
		return nil
	})
}
