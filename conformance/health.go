package conformance

import (
	"fmt"
	"strings"
	"time"
)

// until asks until the answer contains part; ten seconds are enough for anything an engine does by itself.
func (t *T) until(path, part string) func() error {
	return func() error {
		var last *Answer
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			a, err := t.Do("GET", path, nil)
			if err != nil {
				return err
			}
			if last = a; strings.Contains(string(a.Body), part) {
				return nil
			}
		}
		return fmt.Errorf("GET %s: %s, want %q", path, last.Body, part)
	}
}

func healthy(test []string, retries int) obj {
	c := cmd("sleep", "100")
	c["Healthcheck"] = obj{"Test": test, "Interval": 100 * time.Millisecond, "Retries": retries, "Timeout": time.Second}
	return c
}

// health holds the probes of containers.
func health() []Case {
	probe := func(name string, test []string, parts ...string) Case {
		return story(name, []string{"ContainerInspect", "ContainerList"}, func(t *T) error {
			id, err := t.create(healthy(test, 2), nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			steps := []func() error{t.want("POST", p+"/start", nil, 204, ""), t.want("GET", p+"/json", nil, 200, `"Health":{"Status":"starting"`)}
			for _, part := range parts {
				steps = append(steps, t.until(p+"/json", part))
			}
			for _, s := range steps {
				if err := s(); err != nil {
					return err
				}
			}
			word := "healthy"
			if strings.Contains(parts[0], "unhealthy") {
				word = "unhealthy"
			}
			_, err = t.expect("GET", `/containers/json?filters={"health":["`+word+`"],"id":["`+id+`"]}`, nil, 200, "("+word+")")
			return err
		})
	}
	return []Case{
		probe("healthy", []string{"CMD-SHELL", "echo fine"}, `"Status":"healthy"`, `"ExitCode":0,"Output":"fine\n"`),
		probe("unhealthy", []string{"CMD", "false"}, `"Status":"unhealthy"`, `"ExitCode":1`),
		probe("probe that takes too long", []string{"CMD", "sleep", "30"}, `"Status":"unhealthy"`, "Health check exceeded timeout (1s)"),
		simple("health check too often", "ContainerCreate", "POST", "/containers/create", obj{"Image": "busybox", "Healthcheck": obj{"Test": []string{"CMD", "x"}, "Interval": 5}}, 400, "Interval in Healthcheck cannot be less than 1ms"),
		story("health check switched off", []string{"ContainerInspect"}, func(t *T) error {
			id, err := t.create(healthy([]string{"NONE"}, 0), nil)
			if err != nil {
				return err
			}
			a, err := t.expect("POST", "/containers/"+id+"/start", nil, 204, "")
			if err != nil {
				return err
			}
			if a, err = t.expect("GET", "/containers/"+id+"/json", nil, 200, ""); err == nil && strings.Contains(string(a.Body), `"Health":{`) {
				err = fmt.Errorf("there is a health: %s", a.Body)
			}
			return err
		}),
	}
}
