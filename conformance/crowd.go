package conformance

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// crowd is many clients at a time.
func crowd() []Case {
	return []Case{
		story("crowd: one name, twenty clients", []string{"ContainerCreate", "ContainerDelete"}, func(t *T) error {
			name := t.prefix + "one"
			var mu sync.Mutex
			made := map[int]int{}
			var bad error
			together(20, func(int) {
				a, err := t.Do("POST", "/containers/create?name="+name, obj{"Image": "busybox:latest", "Cmd": []string{"sleep", "100"}})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					bad = err
					return
				}
				made[a.Status]++
			})
			if bad != nil || made[201] != 1 || made[409] != 19 {
				return fmt.Errorf("%v, %w", made, bad)
			}
			return nil
		}),
		story("crowd: one container started and stopped by many", []string{"ContainerStart", "ContainerStop", "ContainerDelete", "SystemEvents"}, func(t *T) error {
			since := time.Now().Unix()
			id, err := t.create(cmd("sleep", "100"), nil)
			if err != nil {
				return err
			}
			var mu sync.Mutex
			var errs []error
			starts, stops := 0, 0
			together(16, func(i int) {
				path, n := "/start", &starts
				if i%2 == 1 {
					path, n = "/stop?t=0", &stops
				}
				a, err := t.Do("POST", "/containers/"+id+path, nil)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					errs = append(errs, err)
				case a.Status == 204:
					*n++
				case a.Status != 304:
					errs = append(errs, fmt.Errorf("%s: %d %s", path, a.Status, a.Body))
				}
			})
			if len(errs) > 0 {
				return errors.Join(errs...)
			}
			if starts == 0 || starts > 1 && stops == 0 { // several stops may find the same life
				return fmt.Errorf("%d starts and %d stops were acknowledged", starts, stops)
			}
			if _, err := t.expect("DELETE", "/containers/"+id+"?force=1", nil, 204, ""); err != nil {
				return err
			}
			// What was acknowledged was told, in turn.
			var got []string
			return poll(func() (bool, error) {
				all, err := t.eventsOf(obj{"container": []string{id}, "type": []string{"container"}, "event": []string{"create", "start", "die", "destroy"}}, since)
				if err != nil {
					return false, err
				}
				got = got[:0]
				for _, e := range all {
					got = append(got, e.Action)
				}
				// dockerd answers a start that meets another one with 204 as well.
				lives := max(0, len(got)-2) / 2
				want := "create" + strings.Repeat(" start die", lives) + " destroy"
				return lives > 0 && lives <= starts && strings.Join(got, " ") == want, nil
			}, func() string { return fmt.Sprintf("%d starts: %v", starts, got) })
		}).within(2 * time.Minute).alone(), // dockerd remembers 256 events, those of all containers
		story("crowd: two hundred clients", []string{"ContainerCreate", "ContainerStart", "ContainerList", "ContainerInspect", "ContainerLogs", "ContainerExec", "ContainerDelete"}, func(t *T) error {
			id, err := t.running(sh("echo up; sleep 1000"), nil)
			if err != nil {
				return err
			}
			// A start returns before the first line is in the log.
			logged := func() (bool, error) {
				a, err := t.Do("GET", "/containers/"+id+"/logs?stdout=1", nil)
				return err == nil && strings.Contains(string(a.Body), "up\n"), err
			}
			if err := poll(logged, func() string { return "no line in the log" }); err != nil {
				return err
			}
			errs := make(chan error, 200)
			together(cap(errs), func(i int) {
				switch i % 5 {
				case 0: // a whole life, for a few
					if i%25 != 0 {
						errs <- t.want("GET", "/containers/json?all=1", nil, 200, id)()
						return
					}
					errs <- t.life(fmt.Sprintf("%slife%d", t.prefix, i))
				case 1:
					errs <- t.want("GET", "/containers/"+id+"/json", nil, 200, `"Running":true`)()
				case 2:
					errs <- t.want("GET", "/containers/"+id+"/logs?stdout=1", nil, 200, "up\n")()
				case 3:
					errs <- t.want("GET", "/containers/json?limit=3", nil, 200, "[")()
				case 4: // comes, looks and goes
					conn, _, err := t.Hijack("/containers/"+id+"/attach?stream=1&stdout=1&logs=1", nil, true)
					if err == nil {
						var b [11]byte
						_, err = io.ReadFull(conn, b[:])
						if err == nil && string(b[:]) != frame(1, "up\n") {
							err = fmt.Errorf("attached: %q", b)
						}
						conn.Close()
					}
					errs <- err
				}
			})
			close(errs)
			var all []error
			for err := range errs {
				all = append(all, err)
			}
			return errors.Join(all...)
		}).within(3 * time.Minute),
	}
}

// together runs f n times at once and waits for all.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// life is one container from beginning to end.
func (t *T) life(name string) error {
	p := "/containers/" + name
	return steps(t.want("POST", "/containers/create?name="+name, obj{"Image": "busybox:latest", "Cmd": []string{"echo", "x"}}, 201, "Id"), t.want("POST", p+"/start", nil, 204, ""),
		t.want("POST", p+"/wait", nil, 200, `"StatusCode":0`), t.want("GET", p+"/logs?stdout=1", nil, 200, "x\n"), t.want("DELETE", p, nil, 204, ""))
}
