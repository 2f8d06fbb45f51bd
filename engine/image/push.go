package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// PushOptions of Push.
type PushOptions struct {
	Ref, Tag string // no tag at all: all that are here
	Platform *ocispec.Platform
	Auth     *Auth
}

// Push sends an image, or all tags of a repository. What the registry has is not sent again; what another repository of the
// same registry is known to have is mounted from there. Every byte goes as it is stored, so digests stay.
//
// Errors before the first progress row: ErrInvalidArgument. Others come after it.
func (s *Service) Push(ctx context.Context, o PushOptions, progress ProgressFunc) error {
	named, err := pullRef(PullOptions{Ref: o.Ref, Tag: o.Tag})
	if err != nil {
		return err
	}
	progress(Progress{Status: "The push refers to repository [" + reference.TrimNamed(named).Name() + "]"})
	refs, err := s.pushRefs(ctx, named)
	if err != nil {
		return err
	}
	cred := credentials(o.Auth)
	repo := s.registry.OpenPush(named, cred)
	for _, r := range refs {
		if err := s.pushOne(ctx, repo, r, o.Platform, cred, progress); err != nil {
			return pushError(cred, err)
		}
	}
	return nil
}

// pushRefs are the names to push. The words are dockerd's.
func (s *Service) pushRefs(ctx context.Context, named reference.Named) ([]reference.Named, error) {
	if !reference.IsNameOnly(named) {
		if _, err := s.images.Get(ns(ctx), named.String()); errdefs.IsNotFound(err) {
			return nil, errkind.NotFound("tag does not exist: %s", reference.FamiliarString(named))
		} else if err != nil {
			return nil, err
		}
		return []reference.Named{named}, nil
	}
	all, err := s.images.List(ns(ctx))
	if err != nil {
		return nil, err
	}
	var out []reference.Named
	for _, i := range all {
		n, err := reference.ParseNormalizedNamed(i.Name)
		if _, tagged := n.(reference.NamedTagged); err == nil && tagged && n.Name() == named.Name() {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, errkind.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	slices.SortFunc(out, func(a, b reference.Named) int { return cmp.Compare(a.String(), b.String()) })
	return out, nil
}

func pushError(cred registry.Credentials, err error) error {
	var ce *registry.ConnectError
	var se *registry.StatusError
	switch {
	case errors.Is(err, registry.ErrNoCredentials):
		return fmt.Errorf("push access denied, repository does not exist or may require authorization: authorization failed: %w", err)
	case registry.Denied(err) && cred == (registry.Credentials{}):
		return errors.New("push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed")
	case registry.Denied(err) && errors.As(err, &se):
		return fmt.Errorf("unknown: unexpected status from %s request to %s: %d %s", se.Method, se.URL, se.Code, http.StatusText(se.Code))
	case errors.As(err, &ce):
		return fmt.Errorf("failed to do request: %w", err)
	}
	return err
}

// parcel is what goes over for one target: blobs first, then documents, each after what it refers to.
type parcel struct {
	target    ocispec.Descriptor
	layers    []ocispec.Descriptor
	configs   []ocispec.Descriptor
	documents []ocispec.Descriptor
	aux       any
}

func (s *Service) pushOne(ctx context.Context, repo *registry.Repository, named reference.Named, p *ocispec.Platform, cred registry.Credentials, row ProgressFunc) error {
	img, err := s.images.Get(ns(ctx), named.String())
	if err != nil {
		return err
	}
	return s.leased(ctx, func(ctx context.Context) error {
		if err := s.hold(ctx, leases.Resource{ID: img.Target.Digest.String(), Type: "content"}); err != nil {
			return err
		}
		k, err := s.pack(ctx, img.Target, p)
		if err != nil {
			return err
		}
		if k.aux != nil {
			row(Progress{Aux: k.aux})
		}
		for _, l := range k.layers {
			row(Progress{ID: ids.Short(l.Digest.Encoded()), Status: "Waiting", Layer: true})
		}
		rows := make(chan Progress)
		done := make(chan struct{})
		go func() { // rows come from several blobs at once
			defer close(done)
			for r := range rows {
				row(r)
			}
		}()
		g, gctx := errgroup.WithContext(ctx)
		for i, d := range append(slices.Clone(k.layers), k.configs...) {
			g.Go(func() error {
				q := &shipment{s: s, repo: repo, host: reference.Domain(named), d: d, rows: rows, quiet: i >= len(k.layers)}
				if err := q.run(gctx); err != nil {
					var ce *registry.ConnectError
					if errors.As(err, &ce) {
						return fmt.Errorf("failed to do request: Head %q: %w", "https://"+ce.Host+"/v2/"+reference.Path(named)+"/blobs/"+d.Digest.String(), ce.Err)
					}
					return err
				}
				return nil
			})
		}
		err = g.Wait()
		close(rows)
		<-done
		if err != nil {
			return err
		}
		if err := s.sendDocuments(ctx, repo, named, k); err != nil {
			return err
		}
		if err := s.notice(ctx, named, slices.Concat(k.layers, k.configs, k.documents)); err != nil {
			return err
		}
		tag := version(named)
		row(Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, k.target.Digest, k.target.Size)})
		row(Progress{Aux: map[string]any{"Tag": tag, "Digest": k.target.Digest.String(), "Size": k.target.Size}, Layer: true})
		s.publish("push", reference.FamiliarString(named), reference.FamiliarName(named))
		return nil
	})
}

// sendDocuments sends manifests by their digests, the target by its tag.
func (s *Service) sendDocuments(ctx context.Context, repo *registry.Repository, named reference.Named, k *parcel) error {
	for _, d := range k.documents {
		raw, err := s.document(ctx, d)
		if err != nil {
			return err
		}
		as := d.Digest.String()
		if d.Digest == k.target.Digest {
			as = version(named)
		}
		err = s.retry(ctx, nil, func() (bool, error) {
			if as != d.Digest.String() { // a tag may point elsewhere
				return false, repo.PutManifest(ctx, as, d.MediaType, raw)
			}
			if have, err := repo.HasManifest(ctx, as); err != nil || have == d.Digest {
				return false, err
			}
			return false, repo.PutManifest(ctx, as, d.MediaType, raw)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pack collects what belongs to a target. Of an index of which only some platforms are here, the host's manifest goes alone,
// and a message says so.
func (s *Service) pack(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) (*parcel, error) {
	if !images.IsIndexType(target.MediaType) || p != nil {
		match := platforms.All
		if p != nil {
			match = platforms.OnlyStrict(platforms.Normalize(*p))
		}
		d, _, err := s.manifest(ctx, target, match)
		if err != nil {
			return nil, err
		}
		k := &parcel{target: d}
		k.target.Platform, k.target.Annotations = nil, nil
		return k, s.collectParts(ctx, d, k)
	}
	k := &parcel{target: target}
	err := s.collectParts(ctx, target, k)
	if !errdefs.IsNotFound(err) {
		return k, err
	}
	img, rerr := s.read(ctx, target, nil)
	if rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	k = &parcel{target: img.Manifest, aux: map[string]any{"manifestPushedInsteadOfIndex": true, "originalIndex": target, "selectedManifest": img.Manifest}}
	k.target.Platform, k.target.Annotations = nil, nil
	return k, s.collectParts(ctx, img.Manifest, k)
}

// collectParts puts a document and all it refers to into the parcel.
//
// Errors: ErrNotFound if some of it is not here.
func (s *Service) collectParts(ctx context.Context, d ocispec.Descriptor, k *parcel) error {
	raw, err := s.document(ctx, d)
	if err != nil {
		return err
	}
	var doc struct {
		Config    ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return errkind.InvalidArgument("document %s: %w", d.Digest, err)
	}
	for _, m := range doc.Manifests {
		if err := s.collectParts(ctx, m, k); err != nil {
			return err
		}
	}
	add := func(list *[]ocispec.Descriptor, b ocispec.Descriptor) error {
		if slices.ContainsFunc(*list, func(o ocispec.Descriptor) bool { return o.Digest == b.Digest }) {
			return nil
		}
		if _, err := s.content.Info(ctx, b.Digest); err != nil {
			if errdefs.IsNotFound(err) && images.IsNonDistributable(b.MediaType) {
				return nil // registries do not keep these
			}
			return err
		}
		*list = append(*list, b)
		return nil
	}
	for _, l := range doc.Layers {
		if images.IsNonDistributable(l.MediaType) {
			continue
		}
		if err := add(&k.layers, l); err != nil {
			return err
		}
	}
	if doc.Config.Digest != "" {
		if err := add(&k.configs, doc.Config); err != nil {
			return err
		}
	}
	return add(&k.documents, d)
}

// shipment is the way of one blob to a registry.
type shipment struct {
	s     *Service
	repo  *registry.Repository
	host  string
	d     ocispec.Descriptor
	rows  chan<- Progress
	quiet bool
	up    *registry.Upload
}

func (q *shipment) row(r Progress) {
	if !q.quiet {
		r.ID, r.Layer = ids.Short(q.d.Digest.Encoded()), true
		q.rows <- r
	}
}

func (q *shipment) run(ctx context.Context) error {
	select {
	case q.s.uploads <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-q.s.uploads }()
	sent := int64(-1)
	return q.s.retry(ctx, func(after time.Duration) {
		q.row(Progress{Status: fmt.Sprintf("Retrying in %d %s", int(after.Seconds()+0.999), plural(after))})
	}, func() (bool, error) {
		before := sent
		at, err := q.try(ctx)
		sent = max(sent, at)
		return before >= 0 && sent > before, err
	})
}

// try goes on where the last try ended and tells how far it came.
func (q *shipment) try(ctx context.Context) (int64, error) {
	offset := int64(0)
	if q.up != nil {
		var err error
		if offset, err = q.up.Offset(ctx); err != nil {
			q.up = nil // the registry forgot it
		}
	}
	if q.up == nil {
		offset = 0
		over, err := q.begin(ctx)
		if err != nil || over {
			return 0, err
		}
	}
	ra, err := q.s.content.ReaderAt(ctx, q.d)
	if err != nil {
		return offset, err
	}
	defer ra.Close()
	body := &counted{r: io.NewSectionReader(ra, offset, q.d.Size-offset), n: offset, last: time.Now(), note: func(n int64) {
		q.row(Progress{Status: "Pushing", Current: n, Total: q.d.Size})
	}}
	if err := q.up.Send(ctx, body, offset); err != nil {
		return offset, err
	}
	if err := q.up.Finish(ctx); err != nil {
		q.up = nil
		return offset, err
	}
	q.row(Progress{Status: "Pushed"})
	return q.d.Size, nil
}

// begin finds out whether anything is to be sent, and starts that.
func (q *shipment) begin(ctx context.Context) (over bool, err error) {
	have, err := q.repo.Has(ctx, q.d.Digest)
	if err != nil {
		return false, err
	}
	if have {
		q.row(Progress{Status: "Layer already exists"})
		return true, nil
	}
	from := q.source(ctx)
	up, err := q.repo.Begin(ctx, q.d.Digest, q.d.Size, from)
	if err != nil {
		return false, err
	}
	if up == nil {
		q.row(Progress{Status: "Mounted from " + from})
		return true, nil
	}
	q.up = up
	return false, nil
}

// source is a repository of the same registry that is known to have the blob.
func (q *shipment) source(ctx context.Context) string {
	info, err := q.s.content.Info(ctx, q.d.Digest)
	if err != nil {
		return ""
	}
	list, _, _ := strings.Cut(info.Labels[labelSource+q.host], ",")
	return list
}

// Remote is what a registry says about a reference.
type Remote struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform // nil for a manifest that does not tell
}

// Distribution asks a registry about a reference without pulling it.
//
// Errors: ErrInvalidArgument; ErrNotFound in dockerd's words.
func (s *Service) Distribution(ctx context.Context, ref string, a *Auth) (*Remote, error) {
	named, err := pullRef(PullOptions{Ref: ref})
	if err != nil {
		return nil, err
	}
	named = reference.TagNameOnly(named)
	repo := s.registry.Open(named, credentials(a))
	doc, err := repo.Manifest(ctx, version(named))
	switch {
	case registry.Status(err) == http.StatusNotFound:
		return nil, errkind.NotFound("manifest unknown: manifest unknown")
	case errors.Is(err, registry.ErrNoCredentials):
		return nil, fmt.Errorf("Head %q: %w", "http://"+reference.Domain(named)+"/v2/"+reference.Path(named)+"/manifests/"+version(named), err)
	case registry.Denied(err):
		return nil, errkind.Unauthenticated("errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required\n")
	case err != nil:
		return nil, err
	}
	r := &Remote{Descriptor: ocispec.Descriptor{MediaType: doc.MediaType, Digest: doc.Digest, Size: int64(len(doc.Raw))}}
	var parts struct {
		Config    ocispec.Descriptor   `json:"config"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(doc.Raw, &parts); err != nil {
		return nil, errkind.InvalidArgument("manifest: %w", err)
	}
	for _, m := range parts.Manifests {
		if m.Platform != nil {
			r.Platforms = append(r.Platforms, *m.Platform)
		}
	}
	if doc.MediaType != images.MediaTypeDockerSchema2Manifest || parts.Config.Size > maxDocument {
		return r, nil
	}
	body, _, err := repo.Blob(ctx, parts.Config.Digest, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, parts.Config.Size+1))
	if err != nil {
		return nil, err
	}
	var p ocispec.Platform
	if digest.FromBytes(raw) != parts.Config.Digest || json.Unmarshal(raw, &p) != nil {
		return nil, errkind.InvalidArgument("config %s is not what it says it is", parts.Config.Digest)
	}
	r.Platforms = []ocispec.Platform{p}
	return r, nil
}

// Login checks credentials with a registry.
func (s *Service) Login(ctx context.Context, a Auth) error {
	return s.registry.Login(ctx, a.ServerAddress, credentials(&a))
}

// Found is one line of a search's answer.
type Found = registry.Found

// Search asks an index for repositories.
func (s *Service) Search(ctx context.Context, term string, limit int, a *Auth) ([]Found, error) {
	return s.registry.Search(ctx, term, limit, credentials(a))
}
