package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/net/publicsuffix"
)

// guard lies below the registry library and sees every request, also those to token servers and along redirects. It is what
// makes the policy true whatever the library does.
type guard struct {
	c     *Client
	inner http.RoundTripper
	host  string // the registry
	plain bool   // http is allowed to it
	http  atomic.Bool
}

// RoundTrip refuses http where it is not allowed, and credentials for hosts that have no business with them.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	own := req.URL.Host == g.host
	if req.URL.Scheme == "http" && !(own && g.plain) && !g.c.insecure(req.URL.Host) {
		return nil, fmt.Errorf("http to %s is refused: it is not listed as insecure", req.URL.Host)
	}
	secret := req.Header.Get("Authorization") != "" || strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded")
	if secret && !own && !sameSite(g.host, req.URL.Host) {
		return nil, fmt.Errorf("credentials for %s are not sent to %s", g.host, req.URL.Host)
	}
	inner := g.inner
	if !own {
		t, err := g.c.transport(req.URL.Host)
		if err != nil {
			return nil, err
		}
		inner = t
	}
	resp, err := inner.RoundTrip(req)
	if err == nil && own && req.URL.Scheme == "http" {
		g.http.Store(true)
	}
	return resp, err
}

// sameSite reports whether two hosts belong to one registrable domain. Addresses are their own.
func sameSite(a, b string) bool {
	a, b = hostname(a), hostname(b)
	if a == b {
		return true
	}
	if net.ParseIP(a) != nil || net.ParseIP(b) != nil {
		return false
	}
	x, err := publicsuffix.EffectiveTLDPlusOne(a)
	if err != nil {
		return false
	}
	y, err := publicsuffix.EffectiveTLDPlusOne(b)
	return err == nil && x == y
}

func hostname(s string) string {
	if h, _, err := net.SplitHostPort(s); err == nil {
		s = h
	}
	return strings.ToLower(strings.Trim(s, "[]"))
}

// redirects follows what a registry says within bounds. The standard client drops credentials when the host changes.
func redirects(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if last := via[len(via)-1]; last.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirect from https to %s is refused", req.URL.Scheme)
	}
	return nil
}

// ErrNoCredentials says that the registry wants some and none were given. The words are dockerd's.
var ErrNoCredentials = errors.New("no basic auth credentials")

// explain finds the cause of a connection that did not come about: the library tries https and http and reports both.
func (g *guard) explain(err error) error {
	var u *url.Error
	if errors.As(err, &u) && Status(err) == 0 {
		return &ConnectError{Host: g.host, Plain: g.plain, Err: u.Err}
	}
	return err
}

// ConnectError says that a registry was not reached.
type ConnectError struct {
	Host  string
	Plain bool // http was tried too
	Err   error
}

func (e *ConnectError) Error() string {
	scheme := "https"
	if e.Plain {
		scheme = "http"
	}
	return fmt.Sprintf("Get %q: %v", scheme+"://"+e.Host+"/v2/", e.Err)
}

// Unwrap is the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// tlsConfig reads the certificates that an administrator put down for a host. Source: the layout of dockerd's certs.d.
func tlsConfig(dir, host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tlsVersion}
	if strings.ContainsAny(host, "/\\") || host == ".." {
		return c, nil
	}
	dir = filepath.Join(dir, host)
	ents, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("certificates of %s: %w", host, err)
	}
	for _, e := range ents {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".crt":
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("certificates of %s: %w", host, err)
			}
			if c.RootCAs == nil {
				if c.RootCAs, err = x509.SystemCertPool(); err != nil {
					c.RootCAs = x509.NewCertPool()
				}
			}
			if !c.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("certificates of %s: no certificate in %s", host, e.Name())
			}
		case ".cert":
			key := strings.TrimSuffix(file, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(file, key)
			if errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("missing key %s for client certificate %s. CA certificates must use the extension .crt", filepath.Base(key), e.Name())
			}
			if err != nil {
				return nil, fmt.Errorf("certificates of %s: %w", host, err)
			}
			c.Certificates = append(c.Certificates, pair)
		}
	}
	return c, nil
}
