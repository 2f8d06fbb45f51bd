package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"strconv"
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
		r := &reader{ctx: ctx, o: o, path: path, ended: ended, yield: yield}
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
	path  string
	ended <-chan struct{}
	yield func(Record, error) bool
	files []*os.File // oldest first; the last one is the current
	buf   []byte
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
	if r.o.Tail >= 0 {
		if err := r.seekTail(r.o.Tail); err != nil {
			return err
		}
	}
	for len(r.files) > 1 {
		if err := r.drain(bufio.NewReaderSize(r.files[0], 256<<10)); err != nil {
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

// openAll opens the current file and the rotated ones, oldest first.
func (r *reader) openAll() error {
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.files = []*os.File{f}
	for i := 1; ; i++ {
		f, err := os.Open(r.path + "." + strconv.Itoa(i))
		if err != nil {
			return nil
		}
		r.files = append([]*os.File{f}, r.files...)
	}
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

// seekTail positions the files so that the last n records follow. Whole files before that are dropped.
func (r *reader) seekTail(n int) error {
	for i := len(r.files) - 1; i >= 0; i-- {
		found, err := seekLines(r.files[i], &n)
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

// seekLines reads f backwards block by block until n line ends were passed; n is lowered by the lines found.
func seekLines(f *os.File, n *int) (bool, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	if *n == 0 {
		return true, nil
	}
	block := make([]byte, 64<<10)
	end := size
	first := true
	for end > 0 {
		start := max(0, end-int64(len(block)))
		b := block[:end-start]
		if _, err := f.ReadAt(b, start); err != nil {
			return false, err
		}
		for i := len(b); ; {
			i = bytes.LastIndexByte(b[:i], '\n')
			if i < 0 {
				break
			}
			at := start + int64(i)
			if first && at == size-1 { // the end of the last line, not the beginning of one
				first = false
				continue
			}
			first = false
			if *n--; *n == 0 {
				_, err := f.Seek(at+1, io.SeekStart)
				return true, err
			}
		}
		end = start
	}
	if size > 0 {
		*n--
	}
	_, err = f.Seek(0, io.SeekStart)
	return *n == 0, err
}

// drain yields every whole line that is there. The reader is left behind the last whole line only at a clean end.
func (r *reader) drain(br *bufio.Reader) error {
	for {
		line, err := readLine(br)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.emit(line, false); err != nil {
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
		next, err := r.rotated(f)
		if err != nil {
			return err
		}
		if next != nil {
			// What was written to the old file before the rename is there by now.
			if _, err := r.from(f, offset); err != nil {
				_ = next.Close() // read-only, nothing to lose
				return err
			}
			_ = f.Close() // read-only, nothing to lose
			f, offset, r.files = next, 0, []*os.File{next}
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

// from yields the whole lines after offset and returns how many bytes they took.
func (r *reader) from(f *os.File, offset int64) (int64, error) {
	br := bufio.NewReaderSize(io.NewSectionReader(f, offset, 1<<62), 256<<10)
	var n int64
	for {
		line, err := readLine(br)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += int64(len(line))
		if err := r.emit(line, br.Buffered() == 0); err != nil {
			return n, err
		}
	}
}

// rotated returns the file that took f's place, or nil.
func (r *reader) rotated(f *os.File) (*os.File, error) {
	if !r.o.Follow {
		return nil, nil
	}
	old, err := f.Stat()
	if err != nil {
		return nil, err
	}
	now, err := os.Stat(r.path)
	if err != nil || os.SameFile(old, now) {
		return nil, nil //nolint:nilerr // removed with its container: nothing follows
	}
	next, err := os.Open(r.path)
	if err != nil {
		return nil, nil //nolint:nilerr // between rename and creation: look again
	}
	return next, nil
}

// readLine returns one line with its newline. A piece without newline at the end of the file is io.EOF: it is still being
// written, or was torn by a crash.
func readLine(br *bufio.Reader) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	if err == nil {
		return line, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = br.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

func (r *reader) emit(line []byte, last bool) error {
	if r.ctx.Err() != nil {
		return errStop
	}
	var rec Record
	var ok bool
	if r.buf, ok = parseLine(line, r.buf, &rec); !ok {
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
