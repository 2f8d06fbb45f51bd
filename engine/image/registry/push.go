package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

func (r *Repository) origin() *endpoint { return r.endpoints[len(r.endpoints)-1] }

// Has reports whether the repository has a blob.
func (r *Repository) Has(ctx context.Context, d digest.Digest) (bool, error) {
	resp, err := r.origin().do(ctx, http.MethodHead, "/blobs/"+d.String(), nil)
	if err != nil {
		return false, err
	}
	if err := check(resp, http.StatusOK, http.StatusNotFound); err != nil {
		return false, err
	}
	return resp.StatusCode == http.StatusOK, resp.Body.Close()
}

// HasManifest reports whether the repository has a manifest under a tag or digest, and which.
func (r *Repository) HasManifest(ctx context.Context, tagOrDigest string) (digest.Digest, error) {
	resp, err := r.origin().do(ctx, http.MethodHead, "/manifests/"+tagOrDigest, func(q *http.Request) { q.Header.Set("Accept", accept) })
	if err != nil {
		return "", err
	}
	if err := check(resp, http.StatusOK, http.StatusNotFound); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", resp.Body.Close()
	}
	return digest.Digest(resp.Header.Get("Docker-Content-Digest")), resp.Body.Close()
}

// ErrInterrupted says that a blob did not go over as a whole; the rest can follow.
var ErrInterrupted = errors.New("upload was interrupted")

// Upload is a blob on its way into the repository.
type Upload struct {
	e    *endpoint
	at   *url.URL // where the rest goes
	d    digest.Digest
	size int64
}

// Begin starts an upload. from, if not empty, is a repository of the same registry that has the blob: nil without an error
// says that it was mounted from there.
func (r *Repository) Begin(ctx context.Context, d digest.Digest, size int64, from string) (*Upload, error) {
	e := r.origin()
	path := "/blobs/uploads/"
	if from != "" {
		path += "?" + url.Values{"mount": {d.String()}, "from": {from}}.Encode()
	}
	resp, err := e.do(ctx, http.MethodPost, path, nil)
	if err != nil {
		return nil, err
	}
	if err := check(resp, http.StatusCreated, http.StatusAccepted); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return nil, nil //nolint:nilnil // mounted
	}
	u := &Upload{e: e, d: d, size: size}
	return u, u.moveTo(resp)
}

// moveTo takes the address for what follows.
func (u *Upload) moveTo(resp *http.Response) error {
	at, err := resp.Location()
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if resp.Request.URL.Scheme == "https" && at.Scheme != "https" {
		return fmt.Errorf("upload: going on from https to %s is refused", at.Scheme)
	}
	u.at = at
	return nil
}

// Offset asks how much of the blob has arrived.
func (u *Upload) Offset(ctx context.Context) (int64, error) {
	resp, err := u.e.do(ctx, http.MethodGet, u.at.String(), nil)
	if err != nil {
		return 0, err
	}
	if err := check(resp, http.StatusNoContent, http.StatusOK); err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.Header.Get("Location") != "" {
		if err := u.moveTo(resp); err != nil {
			return 0, err
		}
	}
	_, last, ok := strings.Cut(resp.Header.Get("Range"), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 || n >= u.size {
		return 0, nil
	}
	if n == 0 {
		return 0, nil // "0-0" also says that nothing is there; sending one byte again is refused by none, skipping it would be
	}
	return n + 1, nil
}

// Send sends the blob from offset on; body is read to its end.
func (u *Upload) Send(ctx context.Context, body io.Reader, offset int64) error {
	resp, err := u.e.do(ctx, http.MethodPatch, u.at.String(), func(q *http.Request) {
		q.Header.Set("Content-Type", "application/octet-stream")
		q.Header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, u.size-1))
		q.Body, q.ContentLength = io.NopCloser(body), u.size-offset
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	if err != nil {
		return err
	}
	if err := check(resp, http.StatusAccepted, http.StatusNoContent, http.StatusCreated); err != nil {
		return err
	}
	defer resp.Body.Close()
	return u.moveTo(resp)
}

// Finish makes the blob part of the repository; the registry checks its digest.
func (u *Upload) Finish(ctx context.Context) error {
	at := *u.at
	q := at.Query()
	q.Set("digest", u.d.String())
	at.RawQuery = q.Encode()
	resp, err := u.e.do(ctx, http.MethodPut, at.String(), func(q *http.Request) { q.ContentLength = 0 })
	if err != nil {
		return err
	}
	if err := check(resp, http.StatusCreated, http.StatusNoContent, http.StatusOK); err != nil {
		return err
	}
	return resp.Body.Close()
}

// PutManifest stores a manifest under a tag or its digest.
func (r *Repository) PutManifest(ctx context.Context, tagOrDigest, mediaType string, raw []byte) error {
	resp, err := r.origin().do(ctx, http.MethodPut, "/manifests/"+tagOrDigest, func(q *http.Request) {
		q.Header.Set("Content-Type", mediaType)
		q.Body, q.ContentLength = io.NopCloser(strings.NewReader(string(raw))), int64(len(raw))
		q.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(raw))), nil }
	})
	if err != nil {
		return err
	}
	if err := check(resp, http.StatusCreated, http.StatusOK, http.StatusAccepted); err != nil {
		return err
	}
	got := resp.Header.Get("Docker-Content-Digest")
	if want := digest.FromBytes(raw).String(); got != "" && strings.HasPrefix(got, "sha256:") && got != want {
		return errors.Join(fmt.Errorf("registry stored the manifest as %s, not %s", got, want), resp.Body.Close())
	}
	return resp.Body.Close()
}
