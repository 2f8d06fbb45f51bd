package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// maxLayers of an image.
const maxLayers = 1024

// PullOptions of Pull.
type PullOptions struct {
	Ref, Tag string // Tag may be a digest; without any tag: all of them if All, else latest
	All      bool
	Platform *ocispec.Platform
	Auth     *Auth
}

// pullRef puts repository and tag together.
func pullRef(o PullOptions) (reference.Named, error) {
	n, err := reference.ParseNormalizedNamed(o.Ref)
	if err == nil && o.Tag != "" {
		if d, derr := digest.Parse(o.Tag); derr == nil {
			n, err = reference.WithDigest(reference.TrimNamed(n), d)
		} else {
			n, err = reference.WithTag(reference.TrimNamed(n), o.Tag)
		}
	}
	if err != nil {
		return nil, errkind.InvalidArgument("%w", err)
	}
	if d, ok := n.(reference.Digested); ok { // of name:tag@digest the digest counts
		if n, err = reference.WithDigest(reference.TrimNamed(n), d.Digest()); err != nil {
			return nil, errkind.InvalidArgument("%w", err)
		}
	}
	return n, nil
}

func credentials(a *Auth) registry.Credentials {
	if a == nil {
		return registry.Credentials{}
	}
	return registry.Credentials{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
}

// Pull brings an image in. Pulls of the same reference, platform and credentials are one; it ends when the last of those who
// asked for it leaves. A blob cut short is kept and resumed by the next try, also after a crash.
//
// Errors before the first progress row mean that nothing was found or allowed: ErrNotFound, ErrInvalidArgument,
// ErrPermissionDenied for the reserved name.
func (s *Service) Pull(ctx context.Context, o PullOptions, progress ProgressFunc) error {
	named, err := pullRef(o)
	if err != nil {
		return err
	}
	if reference.FamiliarName(named) == "scratch" {
		return errkind.PermissionDenied("'scratch' is a reserved name")
	}
	cred := credentials(o.Auth)
	repo := s.registry.Open(named, cred)
	if !o.All || !reference.IsNameOnly(named) {
		return s.pullJoined(ctx, repo, reference.TagNameOnly(named), o.Platform, cred, progress)
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return pullError(named, cred, err)
	}
	for _, t := range tags {
		n, err := reference.WithTag(named, t)
		if err != nil {
			return errkind.InvalidArgument("%w", err)
		}
		if err := s.pullJoined(ctx, repo, n, o.Platform, cred, progress); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) pullJoined(ctx context.Context, repo *registry.Repository, named reference.Named, p *ocispec.Platform, cred registry.Credentials, progress ProgressFunc) error {
	key := named.String()
	if p != nil {
		key += " " + platforms.Format(*p)
	}
	// Whoever has other credentials has to show himself that the registry takes them.
	key += " " + digest.FromString(fmt.Sprintf("%q", cred)).Encoded()
	return s.jobs.do(ctx, key, progress, func(ctx context.Context, row ProgressFunc) error {
		return s.pullOne(ctx, repo, named, p, cred, row)
	})
}

// pullError says in dockerd's words why a reference could not be resolved.
func pullError(named reference.Named, cred registry.Credentials, err error) error {
	var ce *registry.ConnectError
	var se *registry.StatusError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, registry.ErrSchema1):
		return errkind.InvalidArgument("%w", err)
	case errors.Is(err, registry.ErrNoCredentials):
		return fmt.Errorf("failed to resolve reference %q: pull access denied, repository does not exist or may require authorization: authorization failed: %w", named.String(), err)
	case registry.Status(err) == http.StatusNotFound:
		return errkind.NotFound("failed to resolve reference %q: %s: not found", named.String(), named.String())
	case registry.Denied(err) && cred == (registry.Credentials{}):
		return errkind.NotFound("pull access denied for %s, repository does not exist or may require 'docker login'", reference.FamiliarName(named))
	case registry.Denied(err) && errors.As(err, &se):
		return fmt.Errorf("unknown: failed to resolve reference %q: unexpected status from %s request to %s: %d %s", named.String(), http.MethodHead, se.URL, se.Code, http.StatusText(se.Code))
	case errors.As(err, &ce):
		return fmt.Errorf("failed to resolve reference %q: failed to do request: Head %q: %w", named.String(), "https://"+ce.Host+"/v2/"+reference.Path(named)+"/manifests/"+version(named), ce.Err)
	}
	return fmt.Errorf("failed to resolve reference %q: %w", named.String(), err)
}

// version is the tag or digest of a reference.
func version(n reference.Named) string {
	switch r := n.(type) {
	case reference.Digested:
		return r.Digest().String()
	case reference.Tagged:
		return r.Tag()
	}
	return ""
}

func (s *Service) pullOne(ctx context.Context, repo *registry.Repository, named reference.Named, p *ocispec.Platform, cred registry.Credentials, row ProgressFunc) error {
	var doc *registry.Document
	err := s.retry(ctx, nil, func() (_ bool, err error) {
		doc, err = repo.Manifest(ctx, version(named))
		return false, err
	})
	if err != nil {
		return pullError(named, cred, err)
	}
	target := ocispec.Descriptor{MediaType: doc.MediaType, Digest: doc.Digest, Size: int64(len(doc.Raw))}
	before, err := s.images.Get(ns(ctx), named.String())
	same := err == nil && before.Target.Digest == target.Digest
	if same && s.complete(ctx, target, p) {
		row(Progress{ID: shown(named), Status: "Pulling from " + reference.Path(named)})
		return s.pulled(named, target, true, row)
	}
	bare := ns(ctx)
	err = s.leased(ctx, func(ctx context.Context) error {
		manifest, m, err := s.fetchManifests(ctx, repo, target, doc, p)
		if err != nil {
			return err
		}
		row(Progress{ID: shown(named), Status: "Pulling from " + reference.Path(named)})
		pl := &pull{s: s, repo: repo, m: m, row: row, bare: bare}
		if err := pl.run(ctx); err != nil {
			return err
		}
		if err := s.adopt(ctx, target, p); err != nil {
			return err
		}
		if err := s.notice(ctx, named, append([]ocispec.Descriptor{target, manifest, m.Config}, m.Layers...)); err != nil {
			return err
		}
		return s.put(ctx, named.String(), target)
	})
	if err != nil {
		return err
	}
	return s.pulled(named, target, same, row)
}

// shown is what stands before the first row of a pull.
func shown(named reference.Named) string {
	if _, ok := named.(reference.Digested); ok {
		return named.String()
	}
	return version(named)
}

// pulled ends the rows.
func (s *Service) pulled(named reference.Named, target ocispec.Descriptor, same bool, row ProgressFunc) error {
	row(Progress{Status: "Digest: " + target.Digest.String()})
	if same {
		row(Progress{Status: "Status: Image is up to date for " + reference.FamiliarString(named)})
	} else {
		row(Progress{Status: "Status: Downloaded newer image for " + reference.FamiliarString(named)})
	}
	s.publish("pull", reference.FamiliarString(named), reference.FamiliarName(named))
	return nil
}

// complete reports whether a platform of a target is here with all of its layers, unpacked too.
func (s *Service) complete(ctx context.Context, target ocispec.Descriptor, p *ocispec.Platform) bool {
	ctx = ns(ctx)
	if raw, err := s.document(ctx, target); err != nil {
		return false
	} else if images.IsIndexType(target.MediaType) {
		d, err := choose(raw, p)
		if err != nil {
			return false // the way round says why
		}
		target = d
	}
	img, err := s.read(ctx, target, p)
	if err != nil {
		return false
	}
	_, m, err := s.manifest(ctx, img.Manifest, platforms.All)
	if err != nil {
		return false
	}
	for _, l := range m.Layers {
		if _, err := s.content.Info(ctx, l.Digest); err != nil {
			return false
		}
	}
	n, err := s.unpacking(m.Layers, img.Layers).have(ctx)
	return err == nil && n == len(m.Layers)
}

// labelSource, followed by a host, lists the repositories there that have a blob. Source: containerd's name for it.
const labelSource = "containerd.io/distribution.source."

// notice remembers where blobs came from, so that a push to the same registry can mount them.
func (s *Service) notice(ctx context.Context, from reference.Named, ds []ocispec.Descriptor) error {
	key, path := labelSource+reference.Domain(from), reference.Path(from)
	return s.db.Update(func(tx *bbolt.Tx) error {
		ctx := boltutil.WithTransaction(ctx, tx)
		for _, d := range ds {
			info, err := s.content.Info(ctx, d.Digest)
			if errdefs.IsNotFound(err) {
				continue // a foreign layer of another platform
			}
			if err != nil {
				return err
			}
			known := strings.Split(info.Labels[key], ",")
			if slices.Contains(known, path) {
				continue
			}
			if info.Labels[key] != "" {
				path = strings.Join(append(known, path), ",")
			}
			if len(key)+len(path) > 4096 {
				continue // labels are bounded; one source less
			}
			if _, err := s.content.Update(ctx, content.Info{Digest: d.Digest, Labels: map[string]string{key: path}}, "labels."+key); err != nil {
				return err
			}
		}
		return nil
	})
}

// fetchManifests stores the target and, for an index, the manifest of the platform.
func (s *Service) fetchManifests(ctx context.Context, repo *registry.Repository, target ocispec.Descriptor, doc *registry.Document, p *ocispec.Platform) (ocispec.Descriptor, *ocispec.Manifest, error) {
	if err := s.store(ctx, target, doc.Raw); err != nil {
		return target, nil, err
	}
	if images.IsIndexType(target.MediaType) {
		child, err := choose(doc.Raw, p)
		if err != nil {
			return target, nil, err
		}
		err = s.retry(ctx, nil, func() (_ bool, err error) {
			doc, err = repo.Manifest(ctx, child.Digest.String())
			return false, err
		})
		if err != nil {
			return target, nil, err
		}
		if doc.MediaType != child.MediaType {
			return target, nil, errkind.InvalidArgument("manifest %s is of type %s, the index says %s", child.Digest, doc.MediaType, child.MediaType)
		}
		if err := s.store(ctx, child, doc.Raw); err != nil {
			return target, nil, err
		}
		target = child
	}
	desc, m, err := s.manifest(ctx, target, platforms.All)
	if err != nil {
		return desc, m, err
	}
	return desc, m, checkManifest(m)
}

// choose finds the manifest for a platform in an index.
func choose(raw []byte, p *ocispec.Platform) (ocispec.Descriptor, error) {
	var idx ocispec.Index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return ocispec.Descriptor{}, errkind.InvalidArgument("index: %w", err)
	}
	match, want := platforms.Default(), platforms.DefaultSpec()
	if p != nil {
		want = platforms.Normalize(*p)
		match = platforms.Only(want)
	}
	var best *ocispec.Descriptor
	for i, m := range idx.Manifests {
		if m.Platform == nil || !images.IsManifestType(m.MediaType) || m.Annotations["vnd.docker.reference.type"] != "" || !match.Match(platforms.Normalize(*m.Platform)) {
			continue
		}
		if best == nil || match.Less(*m.Platform, *best.Platform) {
			best = &idx.Manifests[i]
		}
	}
	if best == nil {
		return ocispec.Descriptor{}, errkind.NotFound("no matching manifest for %s in the manifest list entries: no match for platform in manifest: not found", platforms.Format(want))
	}
	return *best, nil
}

// checkManifest bounds what a manifest may ask for.
func checkManifest(m *ocispec.Manifest) error {
	if len(m.Layers) > maxLayers {
		return errkind.InvalidArgument("manifest has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return errkind.InvalidArgument("unsupported media type %s: not an image", m.Config.MediaType)
	}
	if m.Config.Size > maxDocument {
		return errkind.InvalidArgument("config has %d bytes, more than %d", m.Config.Size, maxDocument)
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return errkind.InvalidArgument("descriptor %q: %w", d.Digest, err)
		}
		if d.Size < 0 {
			return errkind.InvalidArgument("descriptor %s has a size of %d", d.Digest, d.Size)
		}
	}
	for _, l := range m.Layers {
		if !images.IsLayerType(l.MediaType) {
			return errkind.InvalidArgument("unsupported media type %s of layer %s", l.MediaType, l.Digest)
		}
	}
	return nil
}

func (s *Service) store(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	if int64(len(raw)) != d.Size || d.Digest.Algorithm().FromBytes(raw) != d.Digest {
		return errkind.InvalidArgument("document does not match its descriptor %s", d.Digest)
	}
	return content.WriteBlob(ctx, s.content, "pull-"+d.Digest.String(), bytes.NewReader(raw), d)
}

// pull is the work on one image's blobs.
type pull struct {
	s    *Service
	repo *registry.Repository
	m    *ocispec.Manifest
	row  ProgressFunc
	bare context.Context // without the lease of the pull
}

// run fetches the config, then the layers side by side, and unpacks each as soon as it is there.
func (p *pull) run(ctx context.Context) error {
	if err := p.fetch(ctx, p.m.Config, true); err != nil {
		return err
	}
	raw, err := p.s.document(ctx, p.m.Config)
	if err != nil {
		return err
	}
	var cfg struct {
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return errkind.InvalidArgument("config %s: %w", p.m.Config.Digest, err)
	}
	if len(cfg.RootFS.DiffIDs) != len(p.m.Layers) {
		return errkind.InvalidArgument("manifest has %d layers, its config %d", len(p.m.Layers), len(cfg.RootFS.DiffIDs))
	}
	for _, d := range cfg.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return errkind.InvalidArgument("config: layer %q: %w", d, err)
		}
	}
	u := p.s.unpacking(p.m.Layers, cfg.RootFS.DiffIDs)
	todo, err := p.announce(ctx, u)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return u.run(gctx, func(k ProgressKind, d ocispec.Descriptor, done int64) {
			r := Progress{ID: ids.Short(d.Digest.Encoded()), Status: "Extracting", Current: done, Total: d.Size, Layer: true}
			if k == Extracted {
				r = Progress{ID: r.ID, Status: "Pull complete", Layer: true, Hide: true}
			}
			p.row(r)
		})
	})
	for _, indexes := range todo {
		g.Go(func() error {
			if err := p.fetch(gctx, p.m.Layers[indexes[0]], false); err != nil {
				return err
			}
			for _, i := range indexes {
				u.ready(i)
			}
			return nil
		})
	}
	return g.Wait()
}

// announce shows all layers and tells which are to be fetched: the places of each in the manifest. What is there is ready.
func (p *pull) announce(ctx context.Context, u *unpacking) ([][]int, error) {
	var todo [][]int
	at, here := map[digest.Digest]int{}, map[digest.Digest]bool{}
	var held []leases.Resource
	for i, l := range p.m.Layers {
		if _, err := p.s.content.Info(ctx, l.Digest); err == nil {
			here[l.Digest] = true
			held = append(held, leases.Resource{ID: l.Digest.String(), Type: "content"})
			u.ready(i)
			continue
		}
		k, ok := at[l.Digest]
		if !ok {
			k = len(todo)
			at[l.Digest], todo = k, append(todo, nil)
		}
		todo[k] = append(todo[k], i)
	}
	if len(todo) == 0 {
		return nil, p.s.hold(ctx, held...)
	}
	shown := map[digest.Digest]bool{}
	for _, l := range p.m.Layers {
		status := "Pulling fs layer"
		if here[l.Digest] {
			status = "Already exists"
		}
		if !shown[l.Digest] {
			p.row(Progress{ID: ids.Short(l.Digest.Encoded()), Status: status, Layer: true})
		}
		shown[l.Digest] = true
	}
	return todo, p.s.hold(ctx, held...)
}
