package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxManifest is the largest manifest or index that is read, in bytes; maxTags the longest list of tags.
const (
	maxManifest = 4 << 20
	maxTagBytes = 16 << 20
)

// Media types of manifests, by preference.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

var accept = strings.Join([]string{ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerList, dockerManifest, "*/*;q=0.1"}, ", ")

// ErrSchema1 is the answer to manifests of the old kind. The words are dockerd's.
var ErrSchema1 = errors.New("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed") //nolint:staticcheck // as above

// Document is a manifest or index as the registry sent it; digest and media type have been checked.
type Document struct {
	Raw       []byte
	MediaType string
	Digest    digest.Digest
}

// Manifest fetches a tag or digest. Mirrors are asked first; what they do not have, the registry is asked for.
//
// Errors: StatusError, ConnectError, ErrSchema1, and those of a document that is not what it says it is.
func (r *Repository) Manifest(ctx context.Context, tagOrDigest string) (doc *Document, err error) {
	for i, e := range r.endpoints {
		doc, err = e.manifest(ctx, tagOrDigest)
		if err == nil || ctx.Err() != nil || errors.Is(err, ErrSchema1) || i == len(r.endpoints)-1 {
			return doc, err
		}
	}
	return nil, err
}

func (e *endpoint) manifest(ctx context.Context, tagOrDigest string) (*Document, error) {
	resp, err := e.do(ctx, http.MethodGet, "/manifests/"+tagOrDigest, func(r *http.Request) { r.Header.Set("Accept", accept) })
	if err != nil {
		return nil, err
	}
	if err := check(resp, http.StatusOK); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("manifest is larger than %d bytes", maxManifest)
	}
	d := &Document{Raw: raw, Digest: digest.FromBytes(raw)}
	if want, err := digest.Parse(tagOrDigest); err == nil {
		if got := want.Algorithm().FromBytes(raw); got != want {
			return nil, fmt.Errorf("manifest verification failed for digest %s", want)
		}
		d.Digest = want
	} else if h, err := digest.Parse(resp.Header.Get("Docker-Content-Digest")); err == nil && h.Algorithm() == digest.SHA256 && h != d.Digest {
		return nil, fmt.Errorf("manifest verification failed for digest %s", h)
	}
	d.MediaType, err = kind(resp.Header.Get("Content-Type"), raw)
	return d, err
}

// kind is the media type on which header and document agree. A document that could be read in two ways is refused.
func kind(header string, raw []byte) (string, error) {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	header, _, _ = mime.ParseMediaType(header)
	if doc.SchemaVersion == 1 || doc.FSLayers != nil || strings.HasPrefix(header, "application/vnd.docker.distribution.manifest.v1+") {
		return "", ErrSchema1
	}
	index := doc.Manifests != nil
	if index && (doc.Layers != nil || doc.Config != nil) {
		return "", errors.New("manifest: document is a manifest and an index at once")
	}
	known := map[string]bool{ocispec.MediaTypeImageIndex: true, dockerList: true, ocispec.MediaTypeImageManifest: false, dockerManifest: false}
	t := doc.MediaType
	if t == "" {
		t = header
	}
	isIndex, ok := known[t]
	if !ok && doc.MediaType == "" { // text/plain, application/json: some registries know no better
		t, ok, isIndex = ocispec.MediaTypeImageManifest, true, index
		if index {
			t = ocispec.MediaTypeImageIndex
		}
	}
	if !ok {
		return "", fmt.Errorf("unsupported media type %q", t)
	}
	if _, said := known[header]; said && doc.MediaType != "" && header != doc.MediaType {
		return "", fmt.Errorf("manifest: registry says %s, document says %s", header, doc.MediaType)
	}
	if isIndex != index {
		return "", fmt.Errorf("manifest: document is not of the type %s", t)
	}
	return t, nil
}

// ErrStalled ends a transfer in which nothing came for stallTime.
var ErrStalled = errors.New("the registry stopped sending")

const stallTime = time.Minute

// Blob opens a blob at an offset. resumed is false if it comes from its beginning all the same.
func (r *Repository) Blob(ctx context.Context, d digest.Digest, offset int64) (body io.ReadCloser, resumed bool, err error) {
	for i, e := range r.endpoints {
		body, resumed, err = e.blob(ctx, "/blobs/"+d.String(), offset)
		if err == nil || ctx.Err() != nil || i == len(r.endpoints)-1 {
			return body, resumed, err
		}
	}
	return nil, false, err
}

func (e *endpoint) blob(ctx context.Context, path string, offset int64) (io.ReadCloser, bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	resp, err := e.do(ctx, http.MethodGet, path, func(r *http.Request) {
		if offset > 0 {
			r.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
		}
	})
	if err == nil {
		err = check(resp, http.StatusOK, http.StatusPartialContent)
	}
	if err != nil {
		cancel(nil)
		return nil, false, err
	}
	resumed := resp.StatusCode == http.StatusPartialContent
	if resumed && !strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(offset, 10)+"-") {
		cancel(nil)
		_ = resp.Body.Close() // not what was asked for
		return nil, false, fmt.Errorf("registry sent the range %q, asked was from %d", resp.Header.Get("Content-Range"), offset)
	}
	s := &stalling{ReadCloser: resp.Body, ctx: ctx, cancel: cancel}
	s.timer = time.AfterFunc(stallTime, func() { cancel(ErrStalled) })
	return s, resumed, nil
}

// stalling is a body that ends when nothing comes any more.
type stalling struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (s *stalling) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.timer.Reset(stallTime)
	if err != nil && errors.Is(context.Cause(s.ctx), ErrStalled) {
		err = ErrStalled
	}
	return n, err
}

func (s *stalling) Close() error {
	s.timer.Stop()
	s.cancel(nil)
	return s.ReadCloser.Close()
}

// Foreign opens a blob that lies elsewhere: by https only, without any credentials.
func (r *Repository) Foreign(ctx context.Context, rawURL string) (io.ReadCloser, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("foreign layer %q: only https is fetched", rawURL)
	}
	t, err := r.c.transport(u.Host)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: t, CheckRedirect: redirects}).Do(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, check(resp, http.StatusOK)
}

var nextLink = regexp.MustCompile(`^<([^>]+)>\s*;\s*rel="?next"?`)

// Tags lists the tags of the repository, page by page.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	e := r.endpoints[len(r.endpoints)-1]
	var out []string
	path, left := "/tags/list", int64(maxTagBytes)
	for range 1000 {
		resp, err := e.do(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		if err := check(resp, http.StatusOK); err != nil {
			return nil, err
		}
		var page struct{ Tags []string }
		err = decode(resp.Body, left, &page)
		_ = resp.Body.Close() // read as far as it is wanted
		if err != nil {
			return nil, fmt.Errorf("list of tags: %w", err)
		}
		for _, t := range page.Tags {
			left -= int64(len(t))
		}
		out = append(out, page.Tags...)
		m := nextLink.FindStringSubmatch(resp.Header.Get("Link"))
		if m == nil {
			return out, nil
		}
		next, err := resp.Request.URL.Parse(m[1])
		if err != nil || next.Host != resp.Request.URL.Host {
			return nil, errors.New("list of tags: the next page is elsewhere")
		}
		path = next.String()
	}
	return nil, errors.New("list of tags does not end")
}

// decode reads one JSON document of at most limit bytes.
func decode(r io.Reader, limit int64, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > limit {
		return fmt.Errorf("larger than %d bytes", limit)
	}
	return json.Unmarshal(b, v)
}
