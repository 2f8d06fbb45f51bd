package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/continuity/fs"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/rootdir"
)

// CommitOptions of Commit.
type CommitOptions struct {
	Image     string // id of the image the container was made from: spec.Image.ID
	Manifest  string // digest of its platform's manifest: spec.Image.Manifest
	Repo, Tag string // the new image's name; an empty Repo gives it none
	Author    string
	Comment   string
	CreatedBy string // for the history: the container's command line
	Config    Config // whole: the new image's configuration
}

// Name of an image from a repository and a tag as the API has them apart; nil if repo is empty. No tag means latest.
//
// Errors: ErrInvalidArgument in the reference parser's words.
func Name(repo, tag string) (reference.Named, error) {
	if repo == "" {
		return nil, nil //nolint:nilnil // no name is an answer
	}
	n, err := reference.ParseNormalizedNamed(repo)
	if _, digested := n.(reference.Digested); err == nil && tag != "" && !digested {
		n, err = reference.WithTag(reference.TrimNamed(n), tag)
	}
	if err != nil {
		return nil, errkind.InvalidArgument("%w", err)
	}
	if _, ok := n.(reference.Digested); ok {
		return nil, errkind.InvalidArgument("refusing to create a tag with a digest reference")
	}
	if reference.FamiliarName(n) == string(digest.Canonical) {
		return nil, errkind.InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
	}
	return reference.TagNameOnly(n), nil
}

// emptyTar is the size of an archive without entries.
const emptyTar = 1024

// Commit makes an image from what a container wrote on top of its image, and returns the image's id. The container should be
// paused or not run meanwhile; if it does run, every file is taken as it is read. The layer's bytes are read once, out of the
// overlay's upper directory, and unpacked on the way.
//
// Publishes tag if the image gets a name. After an error nothing is left.
//
// Errors: ErrNotFound if there is no such container; ErrInvalidArgument for a bad name.
func (s *Service) Commit(ctx context.Context, containerID string, o CommitOptions) (id digest.Digest, err error) {
	name, err := Name(o.Repo, o.Tag)
	if err != nil {
		return "", err
	}
	err = s.leased(ctx, func(ctx context.Context) error {
		m, cfg, err := s.parentOf(ctx, o.Manifest)
		if err != nil {
			return err
		}
		wrote, err := s.Usage(ctx, containerID)
		if err != nil {
			return err
		}
		late := wrote > lateFrom && s.snName == "overlayfs"
		layer, err := s.commitLayer(ctx, containerID, cfg.diffs, late)
		if err != nil {
			return err
		}
		now := s.o.Now().UTC()
		h := ocispec.History{Created: &now, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Comment, EmptyLayer: layer == nil}
		if layer != nil {
			cfg.diffs = append(cfg.diffs, layer.Digest)
			m.Layers = append(m.Layers, *layer)
		}
		cfg.history = append(cfg.history, h)
		target, err := s.writeImage(ctx, imageParts{raw: cfg.raw, config: o.Config, created: now, author: o.Author, comment: o.Comment, history: cfg.history, diffs: cfg.diffs, layers: m.Layers, parent: o.Image, late: late})
		if err != nil {
			return err
		}
		id = target.Digest
		key := dangling(id)
		if name != nil {
			key = name.String()
		}
		return s.put(ctx, key, target)
	})
	if err == nil && name != nil {
		s.publish("tag", id.String(), reference.FamiliarString(name))
	}
	return id, err
}

// parentConfig is what a new image takes over.
type parentConfig struct {
	raw     map[string]json.RawMessage
	history []ocispec.History
	diffs   []digest.Digest
}

func (s *Service) parentOf(ctx context.Context, manifest string) (*ocispec.Manifest, *parentConfig, error) {
	d, err := digest.Parse(manifest)
	if err != nil {
		return nil, nil, errkind.InvalidArgument("manifest %q: %w", manifest, err)
	}
	info, err := s.content.Info(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.document(ctx, ocispec.Descriptor{Digest: d, Size: info.Size})
	if err != nil {
		return nil, nil, err
	}
	m := &ocispec.Manifest{}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, nil, err
	}
	if b, err = s.document(ctx, m.Config); err != nil {
		return nil, nil, err
	}
	c := &parentConfig{}
	var known struct {
		History []ocispec.History `json:"history"`
		RootFS  ocispec.RootFS    `json:"rootfs"`
	}
	if err := errors.Join(json.Unmarshal(b, &c.raw), json.Unmarshal(b, &known)); err != nil {
		return nil, nil, err
	}
	c.history, c.diffs = known.History, known.RootFS.DiffIDs
	return m, c, nil
}

// imageParts of an image that is written here.
type imageParts struct {
	raw             map[string]json.RawMessage // fields to keep; may be nil
	platform        *ocispec.Platform          // nil: as raw says
	config          Config
	created         time.Time
	author, comment string
	history         []ocispec.History
	diffs           []digest.Digest
	layers          []ocispec.Descriptor
	parent          string // image id, "" = none
	late            bool   // the snapshots are made after the answer
}

// lateFrom: what a container wrote is unpacked behind the answer if it is more than this, in bytes. Until then the image shows
// the size of its blobs; who makes a container of it waits.
const lateFrom = 16 << 20

// labelParent is where a manifest keeps the id of the image it was made from. Source: the name dockerd's store gives it.
const labelParent = "org.mobyproject.image.parent"

// ociTypes: the manifest written here is OCI's, so layers taken over from a Docker one are called by OCI's names.
var ociTypes = map[string]string{
	"application/vnd.docker.image.rootfs.diff.tar":      ocispec.MediaTypeImageLayer,
	"application/vnd.docker.image.rootfs.diff.tar.gzip": ocispec.MediaTypeImageLayerGzip,
	"application/vnd.docker.image.rootfs.diff.tar.zstd": ocispec.MediaTypeImageLayerZstd,
}

// writeImage stores config and manifest and makes the snapshots; the caller gives it a name.
func (s *Service) writeImage(ctx context.Context, p imageParts) (ocispec.Descriptor, error) {
	doc := map[string]any{}
	for k, v := range p.raw {
		doc[k] = v
	}
	// Of the image below, these would not be true of this one.
	for _, k := range []string{"container", "container_config", "id", "parent", "docker_version", "throwaway", "author", "comment"} {
		delete(doc, k)
	}
	if p.platform != nil {
		doc["architecture"], doc["os"] = p.platform.Architecture, p.platform.OS
		if p.platform.Variant != "" {
			doc["variant"] = p.platform.Variant
		}
	}
	if p.author != "" {
		doc["author"] = p.author
	}
	if p.comment != "" {
		doc["comment"] = p.comment
	}
	doc["created"], doc["config"], doc["history"] = p.created, p.config, p.history
	doc["rootfs"] = ocispec.RootFS{Type: "layers", DiffIDs: p.diffs}
	config, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, nil, doc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}}
	for _, l := range p.layers {
		if t := ociTypes[l.MediaType]; t != "" {
			l.MediaType = t
		}
		m.Layers = append(m.Layers, l)
	}
	labels := map[string]string{}
	if p.parent != "" {
		labels[labelParent] = p.parent
	}
	target, err := s.writeJSON(ctx, m.MediaType, labels, m)
	if err != nil {
		return target, err
	}
	if !p.late {
		return target, s.adopt(ctx, target, nil)
	}
	img, err := s.keepChildren(ctx, target, nil)
	if err == nil {
		err = s.keepSnapshots(ctx, img)
	}
	if err != nil {
		return target, err
	}
	s.behind("unpacking a committed image", func(ctx context.Context) error {
		return s.leased(ctx, func(ctx context.Context) error {
			if err := s.hold(ctx, leases.Resource{ID: target.Digest.String(), Type: "content"}); err != nil {
				return err
			}
			return s.unpack(ctx, img)
		})
	})
	return target, nil
}

// commitLayer stores what the container wrote and makes the snapshot of it; nil if it wrote nothing.
func (s *Service) commitLayer(ctx context.Context, containerID string, below []digest.Digest, late bool) (*ocispec.Descriptor, error) {
	ms, err := s.Mounts(ctx, containerID)
	if err != nil {
		return nil, err
	}
	write := func(ctx context.Context, w io.Writer) error { return s.writeWhole(ctx, containerID, w) }
	o := parseOverlay(ms)
	if o != nil {
		upper, err := rootdir.Open(o.upper)
		if err != nil {
			return nil, err
		}
		defer upper.Close()
		write = upper.WriteLayer
	}
	if late {
		return s.ingestStream(ctx, write)
	}
	return s.storeLayer(ctx, below, write)
}

// storeLayer stores the archive that write makes and the snapshot of it on top of the layers below; nil if it has no entries.
func (s *Service) storeLayer(ctx context.Context, below []digest.Digest, write func(context.Context, io.Writer) error) (*ocispec.Descriptor, error) {
	if s.snName != "overlayfs" { // the snapshot is made with the image
		return s.ingestStream(ctx, write)
	}
	key := "extract/" + ids.New()
	em, err := s.sn.Prepare(ctx, key, "")
	if err != nil {
		return nil, err
	}
	remove := func() error { return s.sn.Remove(context.WithoutCancel(ctx), key) }
	dir, err := plainDir(em)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	pr, pw := io.Pipe()
	var layer *ocispec.Descriptor
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		layer, err = s.ingestStream(gctx, func(ctx context.Context, w io.Writer) error { return write(ctx, io.MultiWriter(w, pw)) })
		pw.CloseWithError(err) //nolint:errcheck // returns nil
		return err
	})
	g.Go(func() error {
		err := s.applyTo(gctx, dir, true, pr, func() error { return nil })
		pr.CloseWithError(err) //nolint:errcheck // returns nil
		return err
	})
	if err := g.Wait(); err != nil || layer == nil {
		return nil, errors.Join(err, remove())
	}
	if err := syncFS(s.o.Root); err != nil {
		return nil, errors.Join(err, remove())
	}
	var so []snapshots.Opt
	if len(below) > 0 {
		so = append(so, snapshots.WithParent(identity.ChainID(below).String()))
	}
	chain := identity.ChainID(append(append([]digest.Digest{}, below...), layer.Digest))
	if err := s.sn.Commit(ctx, chain.String(), key, so...); err != nil {
		if rerr := remove(); !errdefs.IsAlreadyExists(err) || rerr != nil {
			return nil, errors.Join(err, rerr)
		}
	}
	return layer, nil
}

// ingestStream stores what write produces as a layer; nil if that is an archive without entries.
func (s *Service) ingestStream(ctx context.Context, write func(context.Context, io.Writer) error) (*ocispec.Descriptor, error) {
	ref := "commit-" + ids.New()
	w, err := content.OpenWriter(ctx, s.content, content.WithRef(ref))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	err = write(ctx, w)
	st, serr := w.Status()
	if err = errors.Join(err, serr); err != nil || st.Offset <= emptyTar {
		return nil, errors.Join(err, w.Close(), s.content.Abort(context.WithoutCancel(ctx), ref))
	}
	d := &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: st.Offset}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return nil, err
	}
	return d, nil
}

// writeWhole compares two whole trees: for snapshotters that keep copies.
func (s *Service) writeWhole(ctx context.Context, containerID string, w io.Writer) error {
	lower, upper, done, err := s.copies(ctx, containerID)
	if err != nil {
		return err
	}
	defer done()
	return archive.WriteDiff(ctx, w, lower, upper)
}

// copies are the directories of a container and of what it started from, where both are whole.
func (s *Service) copies(ctx context.Context, containerID string) (lower, upper string, done func(), err error) {
	ctx = ns(ctx)
	ms, err := s.Mounts(ctx, containerID)
	if err != nil {
		return "", "", nil, err
	}
	if upper, err = plainDir(ms); err != nil {
		return "", "", nil, err
	}
	info, err := s.sn.Stat(ctx, containerID)
	if err != nil {
		return "", "", nil, err
	}
	view := "extract/" + ids.New()
	if ms, err = s.sn.View(ctx, view, info.Parent); err != nil {
		return "", "", nil, err
	}
	done = func() { _ = s.sn.Remove(context.WithoutCancel(ctx), view) } // swept otherwise: no lease has it
	if lower, err = plainDir(ms); err != nil {
		done()
		return "", "", nil, err
	}
	return lower, upper, done, nil
}

// Change is one difference between a container and its image.
type Change = rootdir.Change

// Changes lists what a container changed in its root file system, sorted by path; nil if nothing. Directories above a change
// are listed as modified.
//
// Errors: ErrNotFound.
func (s *Service) Changes(ctx context.Context, containerID string) ([]Change, error) {
	upper, lower, err := s.layersOf(ctx, containerID)
	if err == nil {
		defer upper.Close()
		defer lower.Close()
		return upper.Changes(ctx, lower)
	}
	if !errors.Is(err, errNoUpper) {
		return nil, err
	}
	low, up, done, err := s.copies(ctx, containerID)
	if err != nil {
		return nil, err
	}
	defer done()
	var out []Change
	kinds := map[fs.ChangeKind]rootdir.Kind{fs.ChangeKindAdd: rootdir.Added, fs.ChangeKindModify: rootdir.Modified, fs.ChangeKindDelete: rootdir.Deleted}
	err = fs.Changes(ctx, low, up, func(k fs.ChangeKind, p string, _ os.FileInfo, err error) error {
		if kind, ok := kinds[k]; ok && err == nil && strings.Trim(p, "/") != "" {
			out = append(out, Change{Path: p, Kind: kind})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("changes: %w", err)
	}
	return out, nil
}
