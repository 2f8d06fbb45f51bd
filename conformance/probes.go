package conformance

import (
	"strings"
	"time"
)

// probes holds what health checks record, and what becomes of them when a container is frozen or ends.
func probes() []Case {
	probed := func(name string, check obj, f func(t *T, p string) error) Case {
		return story(name, []string{"ContainerInspect"}, func(t *T) error {
			c := cmd("sleep", "100")
			c["Healthcheck"] = check
			id, err := t.create(c, nil)
			if err != nil {
				return err
			}
			p := "/containers/" + id
			if _, err := t.expect("POST", p+"/start", nil, 204, ""); err != nil {
				return err
			}
			return f(t, p)
		})
	}
	soon := func(script string) obj {
		return obj{"Test": []string{"CMD-SHELL", script}, "Interval": 100 * time.Millisecond, "Retries": 1, "Timeout": 300 * time.Millisecond}
	}
	return []Case{
		probed("a frozen or ended container is unhealthy", soon("true"), func(t *T, p string) error {
			return steps(
				t.until(p+"/json", `"Status":"healthy"`), t.want("POST", p+"/pause", nil, 204, ""), t.until(p+"/json", `"Health":{"Status":"unhealthy"`),
				t.want("POST", p+"/unpause", nil, 204, ""), t.until(p+"/json", `"Health":{"Status":"healthy"`),
				t.want("POST", p+"/stop?t=0", nil, 204, ""), t.until(p+"/json", `"Health":{"Status":"unhealthy"`),
			)
		}),
		probed("the output of a probe is cut", soon("head -c 5000 /dev/zero | tr '\\0' x; false"), func(t *T, p string) error {
			return t.until(p+"/json", `"Output":"`+strings.Repeat("x", 4096)+`..."`)()
		}),
		probed("a probe that takes too long", soon("sleep 10"), func(t *T, p string) error {
			return steps(t.until(p+"/json", `"ExitCode":-1,"Output":"Health check exceeded timeout (300ms)"`), t.until(p+"/json", `"Status":"unhealthy"`))
		}),
		probed("a probe that cannot be run", obj{"Test": []string{"CMD", "nosuch"}, "Interval": 100 * time.Millisecond, "Retries": 1}, func(t *T, p string) error {
			return steps(t.until(p+"/json", "executable file not found in $PATH"), t.until(p+"/json", `"Status":"unhealthy"`))
		}),
		probed("no probe", obj{"Test": []string{"NONE"}}, func(t *T, p string) error {
			a, err := t.expect("GET", p+"/json", nil, 200, "")
			if err == nil && strings.Contains(string(a.Body), `"Health":`) {
				_, err = t.expect("GET", p+"/json", nil, 200, "no health at all")
			}
			return err
		}),
		probed("failures in the start period do not count", obj{"Test": []string{"CMD", "false"}, "Interval": 100 * time.Millisecond, "Retries": 1, "StartPeriod": time.Hour}, func(t *T, p string) error {
			return steps(t.until(p+"/json", `"ExitCode":1`), t.want("GET", p+"/json", nil, 200, `"Health":{"Status":"starting","FailingStreak":0`))
		}),
		story("retries of on-failure are counted, and reset by a start", []string{"ContainerInspect", "ContainerStart"}, func(t *T) error {
			id, err := t.create(sh("exit 3"), obj{"RestartPolicy": obj{"Name": "on-failure", "MaximumRetryCount": 2}})
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.until(p+"/json", `"RestartCount":2`), t.until(p+"/json", `"Status":"exited"`),
				t.want("POST", p+"/update", obj{"RestartPolicy": obj{"Name": "no"}}, 200, ""), t.want("POST", p+"/start", nil, 204, ""), t.until(p+"/json", `"Status":"exited"`), t.want("GET", p+"/json", nil, 200, `"RestartCount":0`))
		}),
		story("a stop ends restarting", []string{"ContainerStop"}, func(t *T) error {
			id, err := t.create(sh("exit 3"), obj{"RestartPolicy": obj{"Name": "always"}})
			if err != nil {
				return err
			}
			p := "/containers/" + id
			return steps(t.want("POST", p+"/start", nil, 204, ""), t.until(p+"/json", `"Status":"restarting"`), t.want("POST", p+"/stop", nil, 204, ""), t.until(p+"/json", `"Status":"exited"`))
		}),
	}
}
