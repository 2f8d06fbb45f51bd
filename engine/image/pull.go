package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
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

// maxDownloads is how many layers of an image come at once, maxAttempts how often one is tried.
const (
	maxDownloads = 3
	maxAttempts  = 5
)

// PullOptions of Pull.
type PullOptions struct {
	Ref, Tag string // Tag may be a digest; both empty in tag terms: latest unless All
	All      bool
	Platform *ocispec.Platform
	Auth     *Auth
}

// Pull brings an image in. Errors before the first progress row mean that nothing was found or allowed.
func (s *Service) Pull(ctx context.Context, o PullOptions, progress ProgressFunc) error {
	ref := o.Ref
	if o.Tag != "" {
		sep := ":"
		if _, err := digest.Parse(o.Tag); err == nil {
			sep = "@"
		}
		ref += sep + o.Tag
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return errkind.InvalidArgument("%w", err)
	}
	if reference.FamiliarName(named) == "scratch" {
		return errkind.PermissionDenied("'scratch' is a reserved name")
	}
	var cred registry.Credentials
	if o.Auth != nil {
		cred = registry.Credentials{Username: o.Auth.Username, Password: o.Auth.Password, IdentityToken: o.Auth.IdentityToken, RegistryToken: o.Auth.RegistryToken}
	}
	repo, err := s.registry.Open(ctx, named, cred)
	if err != nil {
		return pullError(named, err)
	}
	if o.All && reference.IsNameOnly(named) {
		tags, err := repo.Tags()
		if err != nil {
			return pullError(named, err)
		}
		for _, t := range tags {
			n, err := reference.WithTag(named, t)
			if err != nil {
				return errkind.InvalidArgument("%w", err)
			}
			if err := s.pullOne(ctx, repo, n, o.Platform, progress); err != nil {
				return err
			}
		}
		return nil
	}
	return s.pullOne(ctx, repo, reference.TagNameOnly(named), o.Platform, progress)
}

func pullError(named reference.Named, err error) error {
	switch registry.Status(err) {
	case http.StatusNotFound:
		return errkind.NotFound("failed to resolve reference %q: %s: not found", named.String(), named.String())
	case http.StatusUnauthorized, http.StatusForbidden:
		return errkind.NotFound("pull access denied for %s, repository does not exist or may require 'docker login'", reference.FamiliarName(named))
	}
	return fmt.Errorf("failed to resolve reference %q: %w", named.String(), err)
}

func (s *Service) pullOne(ctx context.Context, repo *registry.Repository, named reference.Named, p *ocispec.Platform, progress ProgressFunc) error {
	tag := ""
	switch r := named.(type) {
	case reference.Digested:
		tag = r.Digest().String()
	case reference.Tagged:
		tag = r.Tag()
	}
	doc, err := repo.Manifest(tag)
	if err != nil {
		return pullError(named, err)
	}
	var mu sync.Mutex
	row := func(p Progress) { mu.Lock(); defer mu.Unlock(); progress(p) }
	target := ocispec.Descriptor{MediaType: doc.MediaType, Digest: digest.Digest(doc.Digest), Size: int64(len(doc.Raw))}
	before, err := s.images.Get(ns(ctx), named.String())
	same := err == nil && before.Target.Digest == target.Digest
	err = s.leased(ctx, func(ctx context.Context) error {
		desc, m, err := s.fetchManifests(ctx, repo, target, doc, p)
		if err != nil {
			return err
		}
		row(Progress{ID: tag, Status: "Pulling from " + reference.Path(trimLibrary(named))})
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(maxDownloads)
		for _, l := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			if l.Digest != m.Config.Digest {
				if _, err := s.content.Info(ctx, l.Digest); err == nil {
					row(Progress{ID: ids.Short(l.Digest.Encoded()), Status: "Already exists", Layer: true})
					continue
				}
				row(Progress{ID: ids.Short(l.Digest.Encoded()), Status: "Pulling fs layer", Layer: true})
			}
			g.Go(func() error { return s.fetch(gctx, repo, l, l.Digest == m.Config.Digest, row) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		_ = desc
		if err := s.adopt(ctx, target, p); err != nil {
			return err
		}
		if !same {
			for _, l := range m.Layers {
				row(Progress{ID: ids.Short(l.Digest.Encoded()), Status: "Pull complete", Layer: true, Hide: true})
			}
		}
		return s.put(ctx, named.String(), target)
	})
	if err != nil {
		return err
	}
	row(Progress{Status: "Digest: " + target.Digest.String()})
	if same {
		row(Progress{Status: "Status: Image is up to date for " + reference.FamiliarString(named)})
	} else {
		row(Progress{Status: "Status: Downloaded newer image for " + reference.FamiliarString(named)})
	}
	s.publish("pull", reference.FamiliarString(named), reference.FamiliarName(named))
	return nil
}

// trimLibrary keeps "library/x" as dockerd shows it.
func trimLibrary(n reference.Named) reference.Named { return n }

// fetchManifests stores the target and, for an index, the manifest of the platform.
func (s *Service) fetchManifests(ctx context.Context, repo *registry.Repository, target ocispec.Descriptor, doc *registry.Document, p *ocispec.Platform) (ocispec.Descriptor, *ocispec.Manifest, error) {
	if err := s.store(ctx, target, doc.Raw); err != nil {
		return target, nil, err
	}
	if images.IsIndexType(target.MediaType) {
		var idx ocispec.Index
		if err := json.Unmarshal(doc.Raw, &idx); err != nil {
			return target, nil, errkind.InvalidArgument("index %s: %w", target.Digest, err)
		}
		match := platforms.Default()
		if p != nil {
			match = platforms.OnlyStrict(platforms.Normalize(*p))
		}
		for _, m := range idx.Manifests {
			if m.Platform == nil || !match.Match(platforms.Normalize(*m.Platform)) {
				continue
			}
			d, err := repo.Manifest(m.Digest.String())
			if err != nil {
				return target, nil, err
			}
			if err := s.store(ctx, m, d.Raw); err != nil {
				return target, nil, err
			}
			return s.manifest(ctx, m, platforms.All)
		}
		return target, nil, errkind.NotFound("no matching manifest for the platform in the manifest list entries")
	}
	return s.manifest(ctx, target, platforms.All)
}

func (s *Service) store(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	if int64(len(raw)) != d.Size || digest.FromBytes(raw) != d.Digest {
		return errkind.InvalidArgument("document does not match its descriptor %s", d.Digest)
	}
	return content.WriteBlob(ctx, s.content, "pull-"+d.Digest.String(), bytes.NewReader(raw), d)
}

// fetch brings one blob in. What an earlier try left is not fetched again; digest and size are checked at the commit.
func (s *Service) fetch(ctx context.Context, repo *registry.Repository, d ocispec.Descriptor, quiet bool, row ProgressFunc) error {
	var err error
	for range maxAttempts {
		if err = s.fetchOnce(ctx, repo, d, quiet, row); err == nil || ctx.Err() != nil || !registry.Retryable(err) || errdefs.IsInvalidArgument(err) {
			return err
		}
	}
	return err
}

func (s *Service) fetchOnce(ctx context.Context, repo *registry.Repository, d ocispec.Descriptor, quiet bool, row ProgressFunc) error {
	w, err := content.OpenWriter(ctx, s.content, content.WithRef("pull-"+d.Digest.String()), content.WithDescriptor(d))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	st, err := w.Status()
	if err != nil {
		return err
	}
	body, resumed, err := repo.Blob(ctx, d.Digest.String(), st.Offset)
	if err != nil {
		return err
	}
	defer body.Close()
	done := st.Offset
	if !resumed && done > 0 {
		if err := w.Truncate(0); err != nil {
			return err
		}
		done = 0
	}
	id := ids.Short(d.Digest.Encoded())
	shown := done
	r := io.LimitReader(body, d.Size-done+1)
	buf := make([]byte, 128<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if done += int64(n); !quiet && done-shown >= 512<<10 {
				shown = done
				row(Progress{ID: id, Status: "Downloading", Current: done, Total: d.Size, Layer: true})
			}
		}
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return rerr
		}
	}
	if done < d.Size {
		return io.ErrUnexpectedEOF
	}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return errkind.InvalidArgument("blob %s: %w", d.Digest, err)
	}
	if !quiet {
		row(Progress{ID: id, Status: "Download complete", Layer: true, Hide: true})
	}
	return nil
}
