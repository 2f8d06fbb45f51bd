package logs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/berthd/berth/engine/internal/errkind"
)

// pollEvery is how often a follower looks for more when nothing wakes it.
const pollEvery = 25 * time.Millisecond

// Read yields the records of a container's log, oldest first. A record's Line is valid until the next one.
//
// ended is closed when the log is complete (the container has exited and its shim closed the file); a follower then reads
// what is left and stops. Rotation under a follower is survived: the old file is read to its end first.
// Errors: ErrNotImplemented for the driver None.
func Read(ctx context.Context, cfg Config, path string, o ReadOptions, ended <-chan struct{}) (iter.Seq2[Record, error], error) {
	if cfg.Driver == None {
		return nil, errkind.NotImplemented("configured logging driver does not support reading")
	}
	return func(yield func(Record, error) bool) {
		r := &reader{ctx: ctx, o: o, form: formatOf(cfg.Driver), path: path, ended: ended, yield: yield}
		defer r.close()
		if err := r.run(); err != nil && !errors.Is(err, errStop) {
			yield(Record{}, err)
		}
	}, nil
}

var errStop = errors.New("consumer stopped")

type reader struct {
	ctx   context.Context
	o     ReadOptions
	form  format
	path  string
	ended <-chan struct{}
	yield func(Record, error) bool
	files []*os.File // oldest first; the last one is the current
	buf   []byte
	// unpacked identifies what is followed when that is the copy of a compressed file.
	unpacked identity
}

func (r *reader) close() {
	for _, f := range r.files {
		_ = f.Close() // read-only, nothing to lose
	}
}

func (r *reader) run() error {
	if err := r.openAll(); err != nil {
		return err
	}
	for len(r.files) > 1 {
		f, err := plain(r.files[0])
		if err != nil {
			return err
		}
		r.files[0] = f
		if _, err := r.from(f, -1); err != nil {
			return err
		}
		_ = r.files[0].Close() // read-only, nothing to lose
		r.files = r.files[1:]
	}
	if len(r.files) == 0 {
		if !r.o.Follow {
			return nil
		}
		if err := r.waitForFile(); err != nil {
			return err
		}
		if len(r.files) == 0 {
			return nil
		}
	}
	return r.follow()
}

// openAll opens the files that hold what is asked for, all at one moment between two rotations. Compressed ones are
// uncompressed when their turn comes.
func (r *reader) openAll() error {
	if err := r.openRaw(); err != nil || r.o.Tail < 0 {
		return err
	}
	left := r.o.Tail
	for i := len(r.files) - 1; i >= 0; i-- {
		f, err := plain(r.files[i])
		if err != nil {
			return err
		}
		r.files[i] = f
		found, err := r.form.seekTail(f, &left)
		if err != nil {
			return err
		}
		if found {
			for _, f := range r.files[:i] {
				_ = f.Close() // read-only, nothing to lose
			}
			r.files = r.files[i:]
			return nil
		}
	}
	return nil
}

func (r *reader) openRaw() error {
	unlock, err := lock(r.path, false)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	for i := 0; i == 0 || !r.older(i); i++ {
		f, err := openOld(r.path, i)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		r.files = append([]*os.File{f}, r.files...)
	}
	return nil
}

// older tells whether the i-th older file ends before what is asked for.
func (r *reader) older(i int) bool {
	if r.o.Since.IsZero() || r.o.Tail >= 0 {
		return false
	}
	st, err := os.Stat(rotated(r.path, i))
	if err != nil {
		st, err = os.Stat(rotated(r.path, i) + packed)
	}
	return err == nil && st.ModTime().Before(r.o.Since)
}

func (r *reader) waitForFile() error {
	for {
		done := false
		select {
		case <-r.ctx.Done():
			return nil
		case <-r.ended:
			done = true
		case <-time.After(pollEvery):
		}
		if err := r.openAll(); err != nil || len(r.files) > 0 || done {
			return err
		}
	}
}

// follow reads the current file, and goes on with it and its successors as long as asked.
func (r *reader) follow() error {
	f := r.files[0]
	offset, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	for {
		complete := !r.o.Follow
		select {
		case <-r.ctx.Done():
			return nil
		case <-r.ended:
			complete = true
		default:
		}
		n, err := r.from(f, offset)
		offset += n
		if err != nil {
			return err
		}
		next, err := r.successor(f)
		if err != nil {
			return err
		}
		if next != nil {
			r.files = []*os.File{f, next}
			// What was written to the old file before the rename is there by now.
			if _, err := r.from(f, offset); err != nil {
				return err
			}
			_ = f.Close() // read-only, nothing to lose
			f, offset, r.files = next, 0, r.files[1:]
			continue
		}
		if complete {
			return nil
		}
		if n > 0 {
			continue
		}
		select {
		case <-r.ctx.Done():
			return nil
		case <-r.ended:
		case <-time.After(pollEvery):
		}
	}
}

// from yields the whole records after offset, or after f's own position if that is negative, and returns how many bytes they
// took.
func (r *reader) from(f *os.File, offset int64) (n int64, err error) {
	if offset < 0 {
		if offset, err = f.Seek(0, io.SeekCurrent); err != nil {
			return 0, err
		}
	}
	br := bufio.NewReaderSize(io.NewSectionReader(f, offset, 1<<62), 256<<10)
	for {
		var rec Record
		took, buf, ok, err := r.form.next(br, r.buf, &rec)
		r.buf = buf
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += int64(took)
		if !ok {
			continue
		}
		if err := r.emit(rec, br.Buffered() == 0); err != nil {
			return n, err
		}
	}
}

// successor returns the file that was begun after f, or nil if f is still the current one. Several rotations may have
// happened since f was looked at.
func (r *reader) successor(f *os.File) (*os.File, error) {
	if !r.o.Follow {
		return nil, nil
	}
	old, err := f.Stat()
	if err != nil {
		return nil, err
	}
	now, err := os.Stat(r.path)
	if err != nil || os.SameFile(old, now) {
		return nil, nil //nolint:nilerr // removed with its container, or between rename and creation: look again
	}
	id := identify(old)
	if r.unpacked != (identity{}) {
		id = r.unpacked
	}
	next, err := r.openNext(id)
	if next == nil || err != nil {
		return nil, err
	}
	r.unpacked = identity{}
	if filepath.Ext(next.Name()) == packed {
		r.unpacked = identityOf(next)
	}
	return plain(next)
}

func (r *reader) openNext(id identity) (*os.File, error) {
	unlock, err := lock(r.path, false)
	if err != nil {
		return nil, nil //nolint:nilerr // removed with its container
	}
	defer unlock()
	last := highest(r.path)
	next := last // if the file itself is gone: the oldest there is
	for i := 1; i <= last; i++ {
		if identityAt(rotated(r.path, i)) == id {
			next = i - 1
			break
		}
	}
	f, err := openOld(r.path, next)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

func (r *reader) emit(rec Record, last bool) error {
	if r.ctx.Err() != nil {
		return errStop
	}
	if rec.Seq != 0 && rec.Seq <= r.o.After {
		return nil
	}
	if rec.Stream == Stdout && !r.o.Stdout || rec.Stream == Stderr && !r.o.Stderr {
		return nil
	}
	if !r.o.Since.IsZero() && rec.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && rec.Time.After(r.o.Until) {
		return errStop
	}
	rec.Last = last
	if !r.yield(rec, nil) {
		return errStop
	}
	return nil
}
