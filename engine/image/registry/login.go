package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// ErrUnauthorized says that the registry does not know these credentials.
var ErrUnauthorized = errors.New("unauthorized: incorrect username or password")

// Host is the registry that a login address means: the Hub for "", else the host of a URL or the name as it stands.
func Host(address string) string {
	s := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	s, _, _ = strings.Cut(s, "/")
	switch s {
	case "", "docker.io", "index.docker.io":
		return hub
	}
	return s
}

// Login checks credentials with a registry.
//
// Errors: ErrUnauthorized; ConnectError.
func (c *Client) Login(ctx context.Context, address string, cred Credentials) error {
	host := Host(address)
	t, err := c.transport(host)
	if err != nil {
		return err
	}
	var o []name.Option
	plain := c.insecure(host)
	if plain {
		o = append(o, name.Insecure)
	}
	reg, err := name.NewRegistry(host, o...)
	if err != nil {
		return err
	}
	g := &guard{c: c, inner: t, host: host, plain: plain}
	rt, err := transport.NewWithContext(ctx, reg, cred.authenticator(), g, nil)
	if err != nil {
		if Denied(err) {
			return fmt.Errorf("Get %q: %w", "https://"+host+"/v2/", ErrUnauthorized)
		}
		return g.explain(err)
	}
	base := "https://" + host
	if g.http.Load() {
		base = "http://" + host
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: rt, CheckRedirect: redirects}).Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusUnauthorized && cred == (Credentials{}) {
		return errors.Join(fmt.Errorf("Get %q: %w", base+"/v2/", ErrNoCredentials), resp.Body.Close())
	}
	if err := check(resp, http.StatusOK); err != nil {
		return fmt.Errorf("login attempt to %s/v2/ failed with status: %d %s", base, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return resp.Body.Close()
}

// Found is one line of a search's answer. Source: the search of version 1 of the registry protocol.
type Found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// maxFound is the longest answer to a search, in bytes.
const maxFound = 4 << 20

// Search asks an index for repositories. A term may begin with the index's host.
func (c *Client) Search(ctx context.Context, term string, limit int, cred Credentials) ([]Found, error) {
	host := "index.docker.io"
	if h, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(h, ".:") || h == "localhost") {
		if h != "docker.io" && h != host {
			host = h
		}
		term = rest
	}
	if host == "index.docker.io" {
		term = strings.TrimPrefix(term, "library/")
	}
	schemes := []string{"https"}
	if c.insecure(host) {
		schemes = append(schemes, "http")
	}
	var err error
	for _, s := range schemes {
		var out []Found
		out, err = c.search(ctx, s+"://"+host+"/v1/search?q="+url.QueryEscape(term)+"&n="+strconv.Itoa(limit), host, cred)
		var ue *url.Error
		if err == nil || !errors.As(err, &ue) {
			return out, err
		}
	}
	return nil, err
}

func (c *Client) search(ctx context.Context, u, host string, cred Credentials) ([]Found, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Docker-Token", "true")
	if cred.Username != "" {
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(cred.Username+":"+cred.Password)))
	}
	t, err := c.transport(host)
	if err != nil {
		return nil, err
	}
	g := &guard{c: c, inner: t, host: host, plain: c.insecure(host)}
	resp, err := (&http.Client{Transport: g, CheckRedirect: redirects}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unexpected status code %d", resp.StatusCode)
	}
	var page struct {
		Results []Found `json:"results"`
	}
	if err := decode(resp.Body, maxFound, &page); err != nil {
		return nil, fmt.Errorf("error decoding registry search results: %w", err)
	}
	return page.Results, nil
}
