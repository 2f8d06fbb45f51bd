package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	listed    = 300       // containers in the list row
	logBytes  = 64 << 20  // written by the log row's container
	pipeBytes = 256 << 20 // streamed by the attach row's container
	idlers    = 20        // running containers of the memory row
)

func rows() []row {
	return []row{
		{"idle memory (PSS)", "MiB", true, 1.0 / 3, 1, idleMemory},
		{"cycle", "ms", true, 0.25, 15, func(e *engine) (float64, error) {
			return timed(func() error { return e.cycle(nil) })
		}},
		{"cycle, published port", "ms", true, 0.25, 11, func(e *engine) (float64, error) {
			port := spec{"PortBindings": spec{"80/tcp": []spec{{"HostPort": "18080"}}}}
			return timed(func() error { return e.cycle(port) })
		}},
		{"100 cycles, 10 at a time (rate)", "/s", false, 4, 3, parallelCycles},
		{"exec", "ms", true, 1.0 / 3, 15, execRow()},
		{"list of 300", "ms", true, 0.25, 15, listRow},
		{"log write", "MB/s", false, 0, 3, logWrite},
		{"log read", "MB/s", false, 5, 3, logRead},
		{"attach throughput", "MB/s", false, 0, 3, attach},
		{"memory per running container", "MiB", true, 0, 1, perContainer},
	}
}

func parallelCycles(e *engine) (float64, error) {
	const total, width = 100, 10
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		fail error
	)
	work := make(chan struct{}, total)
	for range total {
		work <- struct{}{}
	}
	close(work)
	ms, _ := timed(func() error {
		for range width {
			wg.Go(func() {
				for range work {
					if err := e.cycle(nil); err != nil {
						mu.Lock()
						fail = errors.Join(fail, err)
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
	return total / (ms / 1000), fail
}

// execRow runs `true` in a container that is kept for all repetitions; the time goes to the exit code's being known.
func execRow() func(e *engine) (float64, error) {
	kept := map[*engine]string{}
	return func(e *engine) (float64, error) {
		if kept[e] == "" {
			id, err := e.create([]string{"sleep", "600"}, nil)
			if err != nil {
				return 0, err
			}
			if err := e.start(id); err != nil {
				return 0, err
			}
			kept[e] = id
			cleanups = append(cleanups, func() error { return e.remove(id) })
		}
		return timed(func() error {
			var made struct{ Id string }
			if err := e.call("POST", "/containers/"+kept[e]+"/exec", spec{"Cmd": []string{"true"}, "AttachStdout": true}, &made); err != nil {
				return err
			}
			h, err := e.hijack("/exec/"+made.Id+"/start", spec{"Detach": false})
			if err != nil {
				return err
			}
			if _, err := h.drain(); err != nil {
				return err
			}
			var st struct{ ExitCode *int }
			if err := e.call("GET", "/exec/"+made.Id+"/json", nil, &st); err != nil {
				return err
			}
			if st.ExitCode == nil || *st.ExitCode != 0 {
				return fmt.Errorf("exit code %v", st.ExitCode)
			}
			return nil
		})
	}
}

// cleanups run at the end of the program, newest first.
var cleanups []func() error

func listRow(e *engine) (float64, error) {
	for len(e.list) < listed {
		id, err := e.create([]string{"true"}, nil)
		if err != nil {
			return 0, err
		}
		e.list = append(e.list, id)
		cleanups = append(cleanups, func() error { return e.remove(id) })
	}
	// Until the last byte: what a client then makes of it is the same for both.
	var raw []byte
	took, err := timed(func() error {
		resp, err := e.hc.Get(api + "/containers/json?all=1")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err = io.ReadAll(resp.Body)
		return err
	})
	if err != nil {
		return 0, err
	}
	var out []struct{ Id string }
	if err := json.Unmarshal(raw, &out); err != nil {
		return 0, err
	}
	if len(out) < listed {
		return 0, fmt.Errorf("list of %d", len(out))
	}
	return took, nil
}

// logWrite lets a container print 64 MiB in lines of 64 bytes; the rate counts until its exit is known.
func logWrite(e *engine) (float64, error) {
	previous := e.logged
	line := "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ."
	id, err := e.create([]string{"sh", "-c", fmt.Sprintf("yes %s | head -c %d", line, logBytes)}, nil)
	if err != nil {
		return 0, err
	}
	if previous != "" {
		if err := e.remove(previous); err != nil {
			return 0, err
		}
	} else {
		cleanups = append(cleanups, func() error { return e.remove(e.logged) })
	}
	e.logged = id
	t := time.Now()
	if err := e.start(id); err != nil {
		return 0, err
	}
	if err := e.wait(id); err != nil {
		return 0, err
	}
	return logBytes / 1e6 / time.Since(t).Seconds(), nil
}

func logRead(e *engine) (float64, error) {
	if e.logged == "" {
		if _, err := logWrite(e); err != nil {
			return 0, err
		}
	}
	t := time.Now()
	resp, err := e.hc.Get(api + "/containers/" + e.logged + "/logs?stdout=1&stderr=1")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("logs: %s", resp.Status)
	}
	n, err := io.CopyBuffer(io.Discard, onlyReader{resp.Body}, make([]byte, 256<<10))
	if err != nil {
		return 0, err
	}
	if n < logBytes {
		return 0, fmt.Errorf("log has %d bytes", n)
	}
	return logBytes / 1e6 / time.Since(t).Seconds(), nil
}

func attach(e *engine) (float64, error) {
	id, err := e.createWith(spec{
		"Image": "busybox:latest", "AttachStdout": true,
		"Cmd": []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero", pipeBytes)},
	}, spec{"LogConfig": spec{"Type": "none"}})
	if err != nil {
		return 0, err
	}
	h, err := e.hijack("/containers/"+id+"/attach?stream=1&stdout=1", nil)
	if err != nil {
		return 0, err
	}
	t := time.Now()
	if err := e.start(id); err != nil {
		return 0, err
	}
	n, err := h.drain()
	d := time.Since(t)
	if err != nil {
		return 0, err
	}
	if n < pipeBytes {
		return 0, fmt.Errorf("attach delivered %d bytes of %d", n, pipeBytes)
	}
	return pipeBytes / 1e6 / d.Seconds(), e.remove(id)
}
