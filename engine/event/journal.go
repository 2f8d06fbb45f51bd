package event

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// half is the size at which the journal's file is put aside; with the one before it the journal is twice as large at most.
const half = 32 << 20

// line is an event as the journal keeps it.
type line struct {
	Seq uint64 `json:"n"`
	Event
}

// journal is the events of the past on disk, one JSON object a line in the order of their numbers. One goroutine appends;
// readers open the files by themselves, so that nobody waits for anybody.
//
// A line is handed to the kernel soon after its event was published, and not synced: the journal survives the daemon, not a
// power cut.
type journal struct {
	dir  string
	half int64
	file *os.File
	size int64
}

func (j *journal) current() string { return filepath.Join(j.dir, "events.jsonl") }
func (j *journal) older() string   { return filepath.Join(j.dir, "events.1.jsonl") }

// openJournal gives the journal in dir and the number of the next event.
func openJournal(dir string) (*journal, uint64, error) {
	j := &journal{dir: dir, half: half}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	var err error
	if j.file, err = os.OpenFile(j.current(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, 0, err
	}
	if j.size, err = wholeLines(j.file); err != nil {
		return nil, 0, errors.Join(err, j.file.Close())
	}
	next := uint64(0)
	for _, name := range []string{j.older(), j.current()} {
		// The last line tells; a file that cannot be read counts nothing.
		if l, ok := lastLine(name); ok {
			next = max(next, l.Seq+1)
		}
	}
	return j, next, nil
}

// wholeLines cuts off a line that a crash left without its end, and returns the size.
func wholeLines(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := st.Size()
	for size > 0 {
		n := min(size, 64<<10)
		buf := make([]byte, n)
		if _, err := f.ReadAt(buf, size-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			size += int64(i) + 1 - n
			break
		}
		size -= n
	}
	return size, f.Truncate(size)
}

func lastLine(name string) (line, bool) {
	f, err := os.Open(name)
	if err != nil {
		return line{}, false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return line{}, false
	}
	n := min(st.Size(), 1<<20) // longer than any event
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, st.Size()-n); err != nil {
		return line{}, false
	}
	lines := bytes.Split(bytes.TrimSuffix(buf, []byte("\n")), []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		if l, ok := parse(lines[i]); ok {
			return l, true
		}
	}
	return line{}, false
}

// parse reads a line; one that a power cut spoilt is none.
func parse(b []byte) (line, bool) {
	var l line
	return l, json.Unmarshal(b, &l) == nil && l.Action != ""
}

// append writes events with the numbers from first on.
func (j *journal) append(first uint64, es []Event) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i, e := range es {
		if err := enc.Encode(line{first + uint64(i), e}); err != nil {
			return err
		}
	}
	if j.size > 0 && j.size+int64(b.Len()) > j.half {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	n, err := j.file.Write(b.Bytes())
	j.size += int64(n)
	return err
}

func (j *journal) rotate() error {
	if err := os.Rename(j.current(), j.older()); err != nil {
		return err
	}
	f, err := os.OpenFile(j.current(), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_ = j.file.Close() // every write was answered
	j.file, j.size = f, 0
	return nil
}

// read calls f with the lines for which from is true, in order, until it returns false. from is false for a first part of the
// journal and true for the rest.
func (j *journal) read(from func(line) bool, f func(line) bool) error {
	// The current file is opened first: should it be put aside meanwhile, its lines come twice and are told by their numbers.
	cur, err := os.Open(j.current())
	if err != nil {
		return err
	}
	defer cur.Close()
	files := []*os.File{cur}
	if old, err := os.Open(j.older()); err == nil {
		defer old.Close()
		files = []*os.File{old, cur}
	}
	next := uint64(0)
	for _, file := range files {
		at, err := seek(file, from)
		if err != nil {
			return err
		}
		if _, err := file.Seek(at, io.SeekStart); err != nil {
			return err
		}
		for r := bufio.NewReaderSize(file, 256<<10); ; {
			b, err := r.ReadBytes('\n')
			if err == io.EOF {
				break // what has no end yet is being written
			} else if err != nil {
				return err
			}
			l, ok := parse(b)
			if !ok || l.Seq < next || !from(l) {
				continue
			}
			next = l.Seq + 1
			if !f(l) {
				return nil
			}
		}
	}
	return nil
}

// seek halves the file until what is left is small; the offset it gives is that of a line before which from is false.
func seek(f *os.File, from func(line) bool) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	lo, hi := int64(0), st.Size()
	for hi-lo > 256<<10 {
		mid := lo + (hi-lo)/2
		r := bufio.NewReader(io.NewSectionReader(f, mid, hi-mid))
		skipped, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		b, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		if l, ok := parse(b); !ok || from(l) {
			hi = mid
		} else {
			lo = mid + int64(len(skipped))
		}
	}
	return lo, nil
}

func (j *journal) close() error { return j.file.Close() }

// since is the number of the first event of the journal that is not before t.
func (j *journal) since(t time.Time) (seq uint64, found bool, err error) {
	err = j.read(func(l line) bool { return !l.Time.Before(t) }, func(l line) bool {
		seq, found = l.Seq, true
		return false
	})
	return seq, found, err
}

// batch is up to n events from a number on.
func (j *journal) batch(seq uint64, n int) ([]line, error) {
	var out []line
	err := j.read(func(l line) bool { return l.Seq >= seq }, func(l line) bool {
		out = append(out, l)
		return len(out) < n
	})
	if err != nil {
		err = fmt.Errorf("event journal: %w", err)
	}
	return out, err
}
