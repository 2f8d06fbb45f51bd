package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"crypto/sha256"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/rootdir"
)

// parallelUnpacks is how many layers of an image are unpacked at once; each lies in a directory of its own until all are there.
const parallelUnpacks = 3

// bombFrom and bombRatio bound what a compressed layer may become: past bombFrom bytes, no more than bombRatio times its size.
// The best that gzip can do is about 1030.
const (
	bombFrom  = 1 << 30
	bombRatio = 1200
)

// unpack makes the snapshots of an image's layers. Their data reaches the disk before any name points at them.
func (s *Service) unpack(ctx context.Context, img *Image) error {
	return s.unpackNoting(ctx, img, nil, func(ProgressKind, ocispec.Descriptor, int64) {})
}

func (s *Service) unpackNoting(ctx context.Context, img *Image, early map[digest.Digest]string, note Note) error {
	_, m, err := s.manifest(ctx, img.Manifest, anyPlatform)
	if err != nil {
		return err
	}
	u := s.unpacking(m.Layers, img.Layers)
	u.early = early
	for i := range m.Layers {
		u.ready(i)
	}
	if err := u.run(ctx, note); err != nil {
		return err
	}
	s.forget(img.ID) // it is larger now
	return s.keepSnapshots(ctx, img)
}

// keepSnapshots makes the snapshots live as long as the image's config does.
func (s *Service) keepSnapshots(ctx context.Context, img *Image) error {
	_, m, err := s.manifest(ctx, img.Manifest, anyPlatform)
	if err != nil {
		return err
	}
	key := "containerd.io/gc.ref.snapshot." + s.snName
	labels, fields := map[string]string{key + "/init": initKey(img)}, []string{"labels." + key + "/init"}
	if len(img.Layers) > 0 {
		labels[key] = identity.ChainID(img.Layers).String()
		fields = append(fields, "labels."+key)
	}
	_, err = s.content.Update(ctx, content.Info{Digest: m.Config.Digest, Labels: labels}, fields...)
	return err
}

// ProgressKind is what became of a layer.
type ProgressKind int

// Steps of unpacking a layer.
const (
	Extracting ProgressKind = iota
	Extracted
)

// Note is told how far a layer is, in bytes of its blob. It may be called from several goroutines.
type Note func(k ProgressKind, d ocispec.Descriptor, done int64)

// unpacking is the work of making snapshots of layers while they arrive.
type unpacking struct {
	s      *Service
	blobs  []ocispec.Descriptor
	diffs  []digest.Digest
	chains []string
	here   []chan struct{} // closed when the blob is in the store
	// early are snapshots of layers that were unpacked while they came, by diff id; what is taken goes from it.
	early map[digest.Digest]string
}

func (s *Service) unpacking(blobs []ocispec.Descriptor, diffs []digest.Digest) *unpacking {
	u := &unpacking{s: s, blobs: blobs, diffs: diffs, here: make([]chan struct{}, len(blobs)), chains: make([]string, len(blobs))}
	for i := range blobs {
		u.here[i] = make(chan struct{})
		u.chains[i] = identity.ChainID(diffs[:i+1]).String()
	}
	return u
}

// ready says that a blob is in the store.
func (u *unpacking) ready(i int) { close(u.here[i]) }

// have counts the layers from the base up that are unpacked already.
func (u *unpacking) have(ctx context.Context) (int, error) {
	for i := len(u.chains) - 1; i >= 0; i-- {
		_, err := u.s.sn.Stat(ctx, u.chains[i])
		if err == nil {
			return i + 1, nil
		}
		if !errdefs.IsNotFound(err) {
			return 0, err
		}
	}
	return 0, nil
}

// run unpacks what is not there as it gets ready, and returns when all of it is on disk. After an error nothing of it is left.
func (u *unpacking) run(ctx context.Context, note Note) (err error) {
	first, err := u.have(ctx)
	if err == nil && first > 0 {
		err = u.s.hold(ctx, leases.Resource{ID: u.chains[first-1], Type: "snapshots/" + u.s.snName})
	}
	if err != nil || first == len(u.blobs) {
		return err
	}
	if u.s.snName != "overlayfs" {
		return u.oneByOne(ctx, first, note)
	}
	keys := make([]string, len(u.blobs))
	defer func() {
		for _, k := range keys {
			if k == "" {
				continue
			}
			if rerr := u.s.sn.Remove(context.WithoutCancel(ctx), k); rerr != nil && !errdefs.IsNotFound(rerr) {
				err = errors.Join(err, rerr)
			}
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, parallelUnpacks)
	for i := first; i < len(u.blobs); i++ {
		if k := u.early[u.diffs[i]]; k != "" {
			keys[i] = k
			delete(u.early, u.diffs[i])
			continue
		}
		keys[i] = "extract/" + ids.New()
		g.Go(func() error {
			select {
			case <-u.here[i]:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
			select {
			case slots <- struct{}{}:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
			defer func() { <-slots }()
			ms, err := u.s.sn.Prepare(gctx, keys[i], "")
			if err != nil {
				return err
			}
			dir, err := plainDir(ms)
			if err != nil {
				return err
			}
			return u.s.extract(gctx, u.blobs[i], u.diffs[i], dir, true, note)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := syncFS(u.s.o.Root); err != nil {
		return err
	}
	for i := first; i < len(u.blobs); i++ {
		var o []snapshots.Opt
		if i > 0 {
			o = append(o, snapshots.WithParent(u.chains[i-1]))
		}
		err := u.s.sn.Commit(ctx, u.chains[i], keys[i], o...)
		if err == nil {
			keys[i] = "" // otherwise another pull was faster, and ours goes
		} else if !errdefs.IsAlreadyExists(err) {
			return err
		}
		note(Extracted, u.blobs[i], u.blobs[i].Size)
	}
	return nil
}

// oneByOne is for snapshotters in which a layer needs the ones below to be unpacked.
func (u *unpacking) oneByOne(ctx context.Context, first int, note Note) error {
	for i := first; i < len(u.blobs); i++ {
		select {
		case <-u.here[i]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		parent := ""
		if i > 0 {
			parent = u.chains[i-1]
		}
		key := "extract/" + ids.New()
		ms, err := u.s.sn.Prepare(ctx, key, parent)
		if err != nil {
			return err
		}
		dir, err := plainDir(ms)
		if err == nil {
			err = u.s.extract(ctx, u.blobs[i], u.diffs[i], dir, false, note)
		}
		if err == nil {
			err = syncFS(u.s.o.Root)
		}
		if err == nil {
			err = u.s.sn.Commit(ctx, u.chains[i], key)
		}
		if err != nil {
			rerr := u.s.sn.Remove(context.WithoutCancel(ctx), key)
			if errdefs.IsAlreadyExists(err) && rerr == nil {
				continue
			}
			return errors.Join(err, rerr)
		}
		note(Extracted, u.blobs[i], u.blobs[i].Size)
	}
	return nil
}

// extract unpacks one blob into a directory and checks that it is what the config says.
//
// Errors: ErrInvalidArgument for a layer that is broken, hostile or not the one promised.
func (s *Service) extract(ctx context.Context, blob ocispec.Descriptor, diff digest.Digest, dir string, overlay bool, note Note) error {
	ra, err := s.content.ReaderAt(ctx, blob)
	if err != nil {
		return err
	}
	defer ra.Close()
	plain, err := decompress(&counted{r: io.NewSectionReader(ra, 0, ra.Size()), note: func(n int64) { note(Extracting, blob, n) }})
	if err != nil {
		return errkind.InvalidArgument("layer %s: %w", blob.Digest, err)
	}
	defer plain.Close()
	var sum hash.Hash
	src := io.Reader(plain)
	if blob.Digest != diff { // else it was checked when it was stored
		sum = sha256.New()
		src = io.TeeReader(plain, sum)
	}
	return s.applyTo(ctx, dir, overlay, &bounded{r: src, left: max(bombFrom, bombRatio*blob.Size)}, func() error {
		if sum == nil {
			return nil
		}
		if got := digest.NewDigest(digest.SHA256, sum); got != diff {
			return errkind.InvalidArgument("layer %s: unpacked digest is %s, not %s", blob.Digest, got, diff)
		}
		return nil
	})
}

// applyTo unpacks a stream into a directory; check runs when all of it was read.
func (s *Service) applyTo(ctx context.Context, dir string, overlay bool, src io.Reader, check func() error) error {
	root, err := rootdir.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	ahead := readAhead(src)
	defer ahead.Close()
	if err := root.ApplyLayer(ctx, ahead, rootdir.LayerOptions{Overlay: overlay, Xattr: s.markSpace}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, ahead); err != nil { // padding belongs to the digest
		return errkind.InvalidArgument("archive: %w", err)
	}
	return check()
}

// counted tells from time to time how much was read.
type counted struct {
	r    io.Reader
	note func(int64)
	n    int64
	last time.Time
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if now := time.Now(); now.Sub(c.last) >= progressEvery {
		c.last = now
		c.note(c.n)
	}
	return n, err
}

// bounded ends a stream that grows out of proportion.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errkind.InvalidArgument("unpacks to far more than its size")
	}
	return n, err
}

// readAhead reads in a goroutine of its own, a few buffers before its user: inflating and writing files go on side by side.
func readAhead(r io.Reader) io.ReadCloser {
	a := &ahead{full: make(chan chunk, 4), free: make(chan []byte, 4), stop: make(chan struct{}), done: make(chan struct{})}
	for range cap(a.free) {
		a.free <- make([]byte, 256<<10)
	}
	go a.fill(r)
	return a
}

type chunk struct {
	b   []byte
	err error
}

type ahead struct {
	full chan chunk
	free chan []byte
	stop chan struct{}
	done chan struct{}
	now  chunk
	at   int
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.done)
	for {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.stop:
			return
		}
		n, err := fillUp(r, b)
		select {
		case a.full <- chunk{b[:n], err}:
		case <-a.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// fillUp reads until the buffer is full. Unlike io.ReadFull it hands on the stream's own end, which may be a cut.
func fillUp(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

func (a *ahead) Read(p []byte) (int, error) {
	for a.at == len(a.now.b) {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.b != nil {
			a.free <- a.now.b[:cap(a.now.b)]
		}
		a.now, a.at = <-a.full, 0
	}
	n := copy(p, a.now.b[a.at:])
	a.at += n
	return n, nil
}

// Close ends the goroutine and waits for it.
func (a *ahead) Close() error {
	close(a.stop)
	<-a.done
	return nil
}

// peek returns the first bytes without taking them.
func peek(r io.Reader, n int) (*bufio.Reader, []byte, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	return br, bytes.Clone(head), nil
}
