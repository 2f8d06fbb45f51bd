// Package registry talks to image registries: names, credentials, transport. One policy for every use; it is the only
// importer of the registry client library.
//
// Credentials belong to the host the user named. Plain http is spoken to loopback and to hosts listed as insecure only.
package registry

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Config is the policy.
type Config struct {
	Insecure []string // hosts or CIDRs
}

// Credentials for one registry; the zero value is anonymous.
type Credentials struct {
	Username, Password, IdentityToken, RegistryToken string
}

// Client fetches from registries.
type Client struct {
	c      Config
	secure http.RoundTripper
	loose  http.RoundTripper
}

// New makes a client.
func New(c Config) *Client {
	base := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 60 * time.Second, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
	}
	loose := base.Clone()
	loose.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // only for hosts the administrator listed
	return &Client{c: c, secure: base, loose: loose}
}

func (c *Client) insecure(host string) bool {
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = host
	}
	if slices.Contains(c.c.Insecure, host) || h == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(h)
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

// Repository is an authenticated way into one repository.
type Repository struct {
	repo name.Repository
	rt   http.RoundTripper
	opts []remote.Option
}

// Open authenticates for pulling from the repository of ref.
func (c *Client) Open(ctx context.Context, ref reference.Named, cred Credentials) (*Repository, error) {
	host := reference.Domain(ref)
	var nopts []name.Option
	rt := c.secure
	if c.insecure(host) {
		nopts, rt = append(nopts, name.Insecure), c.loose
	}
	repo, err := name.NewRepository(ref.Name(), nopts...)
	if err != nil {
		return nil, err
	}
	auth := authn.Anonymous
	if cred != (Credentials{}) {
		auth = authn.FromConfig(authn.AuthConfig{Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken, RegistryToken: cred.RegistryToken})
	}
	rt, err = transport.NewWithContext(ctx, repo.Registry, auth, rt, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &Repository{repo: repo, rt: rt, opts: []remote.Option{remote.WithContext(ctx), remote.WithTransport(rt)}}, nil
}

// Document is a manifest or index as the registry sent it; its digest has been checked.
type Document struct {
	Raw       []byte
	MediaType string
	Digest    string
}

// Manifest fetches a tag or digest.
func (r *Repository) Manifest(tagOrDigest string) (*Document, error) {
	var ref name.Reference = r.repo.Tag(tagOrDigest)
	if _, err := v1.NewHash(tagOrDigest); err == nil {
		ref = r.repo.Digest(tagOrDigest)
	}
	d, err := remote.Get(ref, r.opts...)
	if err != nil {
		return nil, err
	}
	return &Document{Raw: d.Manifest, MediaType: string(d.MediaType), Digest: d.Digest.String()}, nil
}

// Blob opens a blob at an offset. resumed is false if the registry sent it from its beginning all the same.
func (r *Repository) Blob(ctx context.Context, digest string, offset int64) (body io.ReadCloser, resumed bool, err error) {
	u := r.repo.Scheme() + "://" + r.repo.RegistryStr() + "/v2/" + r.repo.RepositoryStr() + "/blobs/" + digest
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, false, err
	}
	if offset > 0 {
		req.Header.Set("Range", "bytes="+itoa(offset)+"-")
	}
	resp, err := (&http.Client{Transport: r.rt}).Do(req)
	if err != nil {
		return nil, false, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		_ = resp.Body.Close() // the error that matters is err
		return nil, false, err
	}
	return resp.Body, resp.StatusCode == http.StatusPartialContent, nil
}

// Tags lists the tags of the repository.
func (r *Repository) Tags() ([]string, error) { return remote.List(r.repo, r.opts...) }

// Policy tells how a registry is talked to: its mirrors, and whether it may be reached without TLS.
func (c *Client) Policy(host string) (mirrors []string, insecure bool) { return nil, c.insecure(host) }
