// Package registry talks to image registries: names, credentials, mirrors, transport, retries. One policy for every use; it
// is the only importer of the registry client library.
//
// Credentials belong to the host the user named: they go to it and to token servers of the same registrable domain, never
// from https to http, never along a redirect to another host. Plain http is spoken to loopback, to hosts listed as insecure
// and to mirrors that were configured with it. Everything a registry sends is bounded and checked against its digest.
package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Config is the policy.
type Config struct {
	Insecure []string // hosts or CIDRs
	Mirrors  []string // of Docker Hub: URLs, tried in this order before it
	CertsDir string   // directory of <host>/*.crt, *.cert and *.key; "" = /etc/docker/certs.d
}

// Credentials for one registry; the zero value is anonymous.
type Credentials struct {
	Username, Password, IdentityToken, RegistryToken string
}

func (c Credentials) authenticator() authn.Authenticator {
	if c == (Credentials{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken})
}

// hub is where the images of docker.io lie.
const hub = "registry-1.docker.io"

// Client talks to registries. Safe for concurrent use.
type Client struct {
	c  Config
	mu sync.Mutex
	rt map[string]*http.Transport // by host
}

// New makes a client.
//
// Errors: a mirror that is no URL of a host.
func New(c Config) (*Client, error) {
	if c.CertsDir == "" {
		c.CertsDir = "/etc/docker/certs.d"
	}
	for _, m := range c.Mirrors {
		if _, err := ParseMirror(m); err != nil {
			return nil, err
		}
	}
	return &Client{c: c, rt: map[string]*http.Transport{}}, nil
}

// ParseMirror checks the URL of a mirror. Its words are dockerd's.
func ParseMirror(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" && u.Scheme == "":
		return nil, fmt.Errorf("invalid mirror: %q is not a valid URI", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("invalid mirror: unsupported scheme %q in %q", u.Scheme, s)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("invalid mirror: query or fragment at end of the URI %q", s)
	case u.User != nil:
		return nil, fmt.Errorf("invalid mirror: username/password not allowed in URI %q", u.Redacted())
	case strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("invalid mirror: path, query, or fragment at end of the URI %q", s)
	}
	return u, nil
}

// Policy tells how a registry is talked to: its mirrors, and whether it may be reached without TLS.
func (c *Client) Policy(host string) (mirrors []string, insecure bool) {
	if host == "docker.io" {
		mirrors = slices.Clone(c.c.Mirrors)
	}
	return mirrors, c.insecure(host)
}

func (c *Client) insecure(host string) bool {
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = host
	}
	if slices.Contains(c.c.Insecure, host) || h == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(h, "[]"))
	if err != nil {
		return false
	}
	if a.IsLoopback() {
		return true
	}
	return slices.ContainsFunc(c.c.Insecure, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Contains(a)
	})
}

// transport is the connection pool for a host.
func (c *Client) transport(host string) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.rt[host]; t != nil {
		return t, nil
	}
	conf, err := tlsConfig(c.c.CertsDir, host)
	if err != nil {
		return nil, err
	}
	conf.InsecureSkipVerify = c.insecure(host) //nolint:gosec // hosts that the administrator listed, and loopback
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext, TLSClientConfig: conf,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 2 * time.Minute, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2: true, DisableCompression: true,
	}
	c.rt[host] = t
	return t, nil
}

// Repository is an authenticated way into one repository, by mirrors first. Safe for concurrent use.
type Repository struct {
	c         *Client
	endpoints []*endpoint
}

// endpoint is one place that has the repository.
type endpoint struct {
	c    *Client
	host string
	http bool // a mirror that was configured so
	path string
	cred Credentials
	push bool

	mu   sync.Mutex
	rt   http.RoundTripper // nil until it was talked to
	base string            // scheme://host
}

// Open names the repository of ref; nothing is sent yet. Credentials go to the registry, not to mirrors.
func (c *Client) Open(ref reference.Named, cred Credentials) *Repository {
	r := &Repository{c: c}
	host, path := reference.Domain(ref), reference.Path(ref)
	if host == "docker.io" {
		for _, m := range c.c.Mirrors {
			u, err := ParseMirror(m)
			if err != nil {
				continue // refused by New
			}
			r.endpoints = append(r.endpoints, &endpoint{c: c, host: u.Host, http: u.Scheme == "http", path: path})
		}
		host = hub
	}
	r.endpoints = append(r.endpoints, &endpoint{c: c, host: host, path: path, cred: cred})
	return r
}

// OpenPush names a repository for pushing: there are no mirrors for that.
func (c *Client) OpenPush(ref reference.Named, cred Credentials) *Repository {
	host := reference.Domain(ref)
	if host == "docker.io" {
		host = hub
	}
	return &Repository{c: c, endpoints: []*endpoint{{c: c, host: host, path: reference.Path(ref), cred: cred, push: true}}}
}

// connect finds the scheme and how to authenticate, once.
func (e *endpoint) connect(ctx context.Context) (http.RoundTripper, string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rt != nil {
		return e.rt, e.base, nil
	}
	plain := e.http || e.c.insecure(e.host)
	var o []name.Option
	if plain {
		o = append(o, name.Insecure)
	}
	reg, err := name.NewRegistry(e.host, o...)
	if err != nil {
		return nil, "", err
	}
	t, err := e.c.transport(e.host)
	if err != nil {
		return nil, "", err
	}
	g := &guard{c: e.c, inner: t, host: e.host, plain: plain}
	scope := transport.PullScope
	if e.push {
		scope = transport.PushScope
	}
	rt, err := transport.NewWithContext(ctx, reg, e.cred.authenticator(), g, []string{reg.Repo(e.path).Scope(scope)})
	if err != nil {
		return nil, "", g.explain(err)
	}
	e.base = "https://" + e.host
	if g.http.Load() {
		e.base = "http://" + e.host
	}
	e.rt = rt
	return rt, e.base, nil
}

// do sends one request below the repository's path.
func (e *endpoint) do(ctx context.Context, method, path string, change func(*http.Request)) (*http.Response, error) {
	rt, base, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	u := base + "/v2/" + e.path + path
	if strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		u = path
	}
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "berth")
	if change != nil {
		change(req)
	}
	resp, err := (&http.Client{Transport: rt, CheckRedirect: redirects}).Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized && e.cred == (Credentials{}) && strings.HasPrefix(strings.ToLower(resp.Header.Get("WWW-Authenticate")), "basic") {
		_ = resp.Body.Close() // an error page
		return nil, ErrNoCredentials
	}
	return resp, nil
}

// tlsVersion is the least that is spoken.
const tlsVersion = tls.VersionTLS12
