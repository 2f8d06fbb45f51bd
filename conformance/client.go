package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Client speaks raw HTTP to the endpoint.
type Client struct {
	sock   string
	hc     *http.Client
	prefix string // of names this run makes
}

// NewClient takes unix:///path.
func NewClient(host string) *Client {
	c := &Client{sock: strings.TrimPrefix(host, "unix://"), prefix: fmt.Sprintf("conf%d-", time.Now().UnixNano()%1e9)}
	c.hc = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.sock)
	}}}
	return c
}

// Answer is a whole response.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a *Answer) JSON() map[string]any {
	var m map[string]any
	_ = json.Unmarshal(a.Body, &m) // nil tells
	return m
}

// List decodes the body.
func (a *Answer) List() []map[string]any {
	var m []map[string]any
	_ = json.Unmarshal(a.Body, &m) // nil tells
	return m
}

// Message is the text of an error.
func (a *Answer) Message() string { s, _ := a.JSON()["message"].(string); return s }

// Do sends a request at v1.41; body is JSON unless it is an io.Reader.
func (c *Client) Do(method, path string, body any) (*Answer, error) {
	var r io.Reader
	ct := ""
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r, ct = b, "application/x-tar"
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		r, ct = bytes.NewReader(raw), "application/json"
	}
	if !strings.HasPrefix(path, "/v1.") && !strings.HasPrefix(path, "!") {
		path = "/v1.41" + path
	}
	req, err := http.NewRequest(method, "http://engine"+strings.TrimPrefix(path, "!"), r)
	if err != nil {
		return nil, err
	}
	if ct != "" {
		req.Header.Set("Content-Type", ct)
	}
	resp, err := c.hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, raw}, err
}

// Hijack opens a raw stream; head is the response head.
func (c *Client) Hijack(path string, body any, upgrade bool) (conn net.Conn, head string, err error) {
	raw := []byte{}
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return nil, "", err
		}
	}
	if conn, err = net.Dial("unix", c.sock); err != nil {
		return nil, "", err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a unix socket takes it
	up := ""
	if upgrade {
		up = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	if _, err = fmt.Fprintf(conn, "POST /v1.41%s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, up, len(raw), raw); err != nil {
		return nil, "", err
	}
	var one [1]byte
	for !strings.HasSuffix(head, "\r\n\r\n") {
		if _, err = conn.Read(one[:]); err != nil {
			return nil, head, err
		}
		head += string(one[:])
	}
	return conn, head, nil
}
