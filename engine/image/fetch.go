package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"

	"github.com/berthd/berth/engine/image/registry"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
)

// maxTries bounds all tries for one blob, also of those that each brought some bytes.
const maxTries = 100

// progressEvery is how often a transfer says how far it is.
const progressEvery = 100 * time.Millisecond

// retry runs f until it succeeds, fails for good or failed Options.MaxAttempts times in a row without getting on. wait, if not nil, is told how long the next
// pause takes.
func (s *Service) retry(ctx context.Context, wait func(time.Duration), f func() (gotOn bool, err error)) error {
	failed := 0
	for n := 0; ; n++ {
		gotOn, err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		after, again := registry.Retryable(err)
		if failed++; gotOn {
			failed = 1
		}
		if !again || failed >= s.o.MaxAttempts || n >= maxTries {
			return err
		}
		if after == 0 {
			after = min(250*time.Millisecond<<(failed-1), 10*time.Second)
		}
		if wait != nil {
			wait(after)
		}
		t := time.NewTimer(after)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// fetch brings one blob in. What an earlier try left is not fetched again; digest and size are checked at the commit.
func (p *pull) fetch(ctx context.Context, d ocispec.Descriptor, quiet bool) error {
	id := ids.Short(d.Digest.Encoded())
	row := func(r Progress) {
		if !quiet {
			r.ID, r.Layer = id, true
			p.row(r)
		}
	}
	select {
	case p.s.downloads <- struct{}{}:
	default:
		row(Progress{Status: "Waiting"})
		select {
		case p.s.downloads <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-p.s.downloads }()
	t := &transfer{p: p, d: d, row: row}
	return p.s.retry(ctx, func(after time.Duration) {
		row(Progress{Status: fmt.Sprintf("Retrying in %d %s", int(after.Seconds()+0.999), plural(after))})
	}, func() (bool, error) { return t.try(ctx) })
}

func plural(d time.Duration) string {
	if d <= time.Second {
		return "second"
	}
	return "seconds"
}

// transfer is the way of one blob from a registry into the store.
type transfer struct {
	p   *pull
	d   ocispec.Descriptor
	row ProgressFunc
}

// try goes on where the last try ended, and tells whether it got on.
func (t *transfer) try(ctx context.Context) (gotOn bool, err error) {
	s := t.p.s
	ref := "pull-" + t.d.Digest.String()
	s.active(ref, 1)
	defer s.active(ref, -1)
	// Without the lease of this pull a blob half fetched survives it, for a day.
	w, err := content.OpenWriter(unleased{ctx, t.p.bare}, s.content, content.WithRef(ref), content.WithDescriptor(t.d))
	if errdefs.IsAlreadyExists(err) {
		return true, s.hold(ctx, leases.Resource{ID: t.d.Digest.String(), Type: "content"})
	}
	if err != nil {
		return false, err
	}
	defer w.Close()
	st, err := w.Status()
	if err != nil {
		return false, err
	}
	done := st.Offset
	if done > t.d.Size {
		if err := w.Truncate(0); err != nil {
			return false, err
		}
		done = 0
	}
	from := done
	if done < t.d.Size {
		if done, err = t.copy(ctx, w, done); err != nil {
			return done > from, err
		}
	}
	t.row(Progress{Status: "Verifying Checksum"})
	if err := w.Commit(ctx, t.d.Size, t.d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		// What is there is wrong from some byte on; nobody shall resume it.
		err = errkind.InvalidArgument("blob %s: %w", t.d.Digest, err)
		return false, errors.Join(err, w.Close(), s.content.Abort(context.WithoutCancel(ctx), ref))
	}
	t.row(Progress{Status: "Download complete", Hide: true})
	return true, nil
}

// unleased is a context with another one's values: what is made with it is not kept by the lease of the operation.
type unleased struct {
	context.Context
	values context.Context
}

// Value hides what the operation's context has.
func (u unleased) Value(k any) any { return u.values.Value(k) }

// hold makes the operation's lease keep what was there before, whatever becomes of its image meanwhile.
func (s *Service) hold(ctx context.Context, rs ...leases.Resource) error {
	id, ok := leases.FromContext(ctx)
	if !ok || len(rs) == 0 {
		return nil
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		ctx := boltutil.WithTransaction(ctx, tx)
		for _, r := range rs {
			if err := s.leases.AddResource(ctx, leases.Lease{ID: id}, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *transfer) open(ctx context.Context, offset int64) (io.ReadCloser, bool, error) {
	body, resumed, err := t.p.repo.Blob(ctx, t.d.Digest, offset)
	if err == nil || registry.Status(err) != 404 || !images.IsNonDistributable(t.d.MediaType) {
		return body, resumed, err
	}
	for _, u := range t.d.URLs {
		var ferr error
		if body, ferr = t.p.repo.Foreign(ctx, u); ferr == nil {
			return body, false, nil
		}
		err = errors.Join(err, ferr)
	}
	return nil, false, err
}

func (t *transfer) copy(ctx context.Context, w content.Writer, done int64) (int64, error) {
	body, resumed, err := t.open(ctx, done)
	if err != nil {
		return done, err
	}
	defer body.Close()
	if !resumed && done > 0 {
		if err := w.Truncate(0); err != nil {
			return done, err
		}
		done = 0
	}
	r := io.LimitReader(body, t.d.Size-done+1)
	buf := make([]byte, 256<<10)
	last := time.Now()
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			if done+int64(n) > t.d.Size {
				return done, errkind.InvalidArgument("blob %s is larger than its %d bytes", t.d.Digest, t.d.Size)
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return done, err
			}
			done += int64(n)
			if now := time.Now(); now.Sub(last) >= progressEvery {
				last = now
				t.row(Progress{Status: "Downloading", Current: done, Total: t.d.Size})
			}
		}
		switch {
		case errors.Is(rerr, io.EOF) && done < t.d.Size:
			return done, io.ErrUnexpectedEOF
		case errors.Is(rerr, io.EOF):
			return done, nil
		case rerr != nil && ctx.Err() != nil:
			return done, context.Cause(ctx)
		case rerr != nil:
			return done, rerr
		}
	}
}

// active counts the transfers of a blob, so that half fetched ones that nobody works on can be told.
func (s *Service) active(ref string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.active[ref] += n; s.mu.active[ref] == 0 {
		delete(s.mu.active, ref)
	}
}

// dropPartial forgets blobs half fetched, and tells how many bytes that frees.
func (s *Service) dropPartial(ctx context.Context) (freed int64, err error) {
	ctx = ns(ctx)
	all, err := s.content.ListStatuses(ctx)
	if err != nil {
		return 0, err
	}
	for _, st := range all {
		s.mu.Lock()
		busy := s.mu.active[st.Ref] > 0
		s.mu.Unlock()
		if busy || len(st.Ref) < 5 || st.Ref[:5] != "pull-" {
			continue
		}
		if aerr := s.content.Abort(ctx, st.Ref); aerr == nil {
			freed += st.Offset
		} else if !errdefs.IsNotFound(aerr) {
			err = errors.Join(err, aerr)
		}
	}
	return freed, err
}
