package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// engine is one endpoint under measurement.
type engine struct {
	name, socket, marker string
	hc                   *http.Client
	list                 []string // containers made for the list row
	logged               string   // container whose log is read
}

const api = "http://engine/v1.41"

func newEngine(name, host, marker string) *engine {
	sock := strings.TrimPrefix(host, "unix://")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", sock)
	}
	return &engine{name: name, socket: sock, marker: marker, hc: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 32}}}
}

// prepare loads the image archive, if one is given, and makes sure the image is there.
func (e *engine) prepare(archive string) error {
	if archive != "" {
		f, err := os.Open(archive)
		if err != nil {
			return err
		}
		defer f.Close()
		resp, err := e.hc.Post(api+"/images/load?quiet=1", "application/x-tar", f)
		if err != nil {
			return err
		}
		if err := drain(resp); err != nil {
			return err
		}
	}
	return e.call("GET", "/images/busybox:latest/json", nil, nil)
}

func drain(resp *http.Response) error {
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(b))
	}
	_, err := io.Copy(io.Discard, resp.Body)
	return err
}

// call sends one request and decodes the answer into out, if given.
func (e *engine) call(method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, api+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.hc.Do(req)
	if err != nil {
		return err
	}
	if out == nil {
		return drain(resp)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return drain(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

type spec map[string]any

// create makes a container of busybox with cmd; host holds HostConfig fields.
func (e *engine) create(cmd []string, host spec) (string, error) {
	return e.createWith(spec{"Image": "busybox:latest", "Cmd": cmd}, host)
}

func (e *engine) createWith(config, host spec) (string, error) {
	if host != nil {
		config["HostConfig"] = host
	}
	var made struct{ Id string }
	err := e.call("POST", "/containers/create", config, &made)
	return made.Id, err
}

func (e *engine) start(id string) error { return e.call("POST", "/containers/"+id+"/start", nil, nil) }
func (e *engine) remove(id string) error {
	return e.call("DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
}

func (e *engine) wait(id string) error {
	var st struct{ StatusCode int }
	if err := e.call("POST", "/containers/"+id+"/wait", nil, &st); err != nil {
		return err
	}
	if st.StatusCode != 0 {
		return fmt.Errorf("exit code %d", st.StatusCode)
	}
	return nil
}

// cycle is what a short `docker run` costs the engine: create, start, wait for the exit, remove.
func (e *engine) cycle(host spec) error {
	id, err := e.create([]string{"true"}, host)
	if err != nil {
		return err
	}
	if err := e.start(id); err != nil {
		return errors.Join(err, e.remove(id))
	}
	if err := e.wait(id); err != nil {
		return err
	}
	return e.remove(id)
}

// hijack posts body to path and returns the raw connection after the engine's 101 or 200.
func (e *engine) hijack(path string, body any) (*hijacked, error) {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	c, err := net.Dial("unix", e.socket)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("POST /v1.41%s HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(b))
	if _, err := c.Write(append([]byte(head), b...)); err != nil {
		_ = c.Close() // the error that matters is err
		return nil, err
	}
	h := &hijacked{Conn: c}
	if err := h.readHead(); err != nil {
		_ = c.Close() // the error that matters is err
		return nil, err
	}
	return h, nil
}

type hijacked struct {
	net.Conn
	rest []byte
}

func (h *hijacked) readHead() error {
	buf := make([]byte, 0, 4096)
	for {
		i := bytes.Index(buf, []byte("\r\n\r\n"))
		if i >= 0 {
			if !bytes.HasPrefix(buf, []byte("HTTP/1.1 101")) && !bytes.HasPrefix(buf, []byte("HTTP/1.1 200")) {
				return fmt.Errorf("not upgraded: %q", buf)
			}
			h.rest = buf[i+4:]
			return nil
		}
		n, err := h.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return err
		}
	}
}

// drain reads to the end and returns the number of bytes.
func (h *hijacked) drain() (int64, error) {
	defer h.Close()
	n, err := io.CopyBuffer(io.Discard, onlyReader{h.Conn}, make([]byte, 256<<10))
	return n + int64(len(h.rest)), err
}

type onlyReader struct{ io.Reader }

func timed(f func() error) (float64, error) {
	t := time.Now()
	err := f()
	return float64(time.Since(t).Microseconds()) / 1000, err
}
