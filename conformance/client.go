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
	network, address string // as net.Dial takes them
	version          string // of requests that name none, as "1.41"
	hc               *http.Client
	prefix           string // of names this client makes
	ctx              context.Context
	made             *made  // may be nil
	watch            *watch // may be nil
}

// NewClient takes unix:///path or tcp://host:port.
func NewClient(host string) (*Client, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok || scheme != "unix" && scheme != "tcp" || rest == "" {
		return nil, fmt.Errorf("host %q is neither unix:///path nor tcp://host:port", host)
	}
	c := &Client{network: scheme, address: rest, version: "1.41", prefix: fmt.Sprintf("conf%d-", time.Now().UnixNano()%1e9), ctx: context.Background()}
	c.hc = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 16, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, c.network, c.address)
	}}}
	return c, nil
}

// forCase is a client for the case of the given number.
func (c *Client) forCase(n int, version string) *Client {
	k := *c
	k.made, k.version = &made{}, version
	k.prefix = fmt.Sprintf("%s%d-", strings.TrimSuffix(c.prefix, "-")+"x", n)
	return &k
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

// full puts the version before a path; a path that begins with ! is sent as it is, one with a version keeps it.
func (c *Client) full(path string) string {
	if strings.HasPrefix(path, "/v1.") || strings.HasPrefix(path, "!") {
		return strings.TrimPrefix(path, "!")
	}
	return "/v" + c.version + path
}

// Do sends a request at the case's API version; body is JSON unless it is an io.Reader.
func (c *Client) Do(method, path string, body any) (*Answer, error) {
	return c.DoWith(method, path, body, nil)
}

// DoWith is Do with headers.
func (c *Client) DoWith(method, path string, body any, headers map[string]string) (*Answer, error) {
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
	req, err := http.NewRequestWithContext(c.ctx, method, "http://engine"+c.full(path), r)
	if err != nil {
		return nil, err
	}
	if ct != "" {
		req.Header.Set("Content-Type", ct)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := c.hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	a := &Answer{resp.StatusCode, resp.Header, raw}
	c.saw(method, path, a, err)
	return a, err
}

// saw notes what an exchange made and where it was not as specified.
func (c *Client) saw(method, path string, a *Answer, err error) {
	if c.made != nil {
		c.made.note(method, path, a)
	}
	if c.watch == nil || err != nil {
		return
	}
	if fs := c.watch.see(method, c.full(path), a); c.made != nil && len(fs) > 0 {
		c.made.mu.Lock()
		c.made.findings = append(c.made.findings, fs...)
		c.made.mu.Unlock()
	}
}

// Hijack opens a raw stream; head is the response head.
func (c *Client) Hijack(path string, body any, upgrade bool) (conn net.Conn, head string, err error) {
	raw := []byte{}
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return nil, "", err
		}
	}
	if conn, err = (&net.Dialer{}).DialContext(c.ctx, c.network, c.address); err != nil {
		return nil, "", err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // sockets of both kinds take it
	up := ""
	if upgrade {
		up = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	if _, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", c.full(path), up, len(raw), raw); err != nil {
		conn.Close()
		return nil, "", err
	}
	var one [1]byte
	for !strings.HasSuffix(head, "\r\n\r\n") {
		if _, err = conn.Read(one[:]); err != nil {
			conn.Close()
			return nil, head, err
		}
		head += string(one[:])
	}
	return conn, head, nil
}

// halfClose ends what we send and leaves what we read.
func halfClose(conn net.Conn) error { return conn.(interface{ CloseWrite() error }).CloseWrite() }
