package logs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// BatchWriter is implemented by writers that can take many records with one system call.
type BatchWriter interface {
	WriteBatch(rs []Record) error
}

// format is how records lie in a file.
type format interface {
	append(b []byte, r *Record) []byte
	// next reads one record; n is what it took of the file. ok is false for bytes that are no record and were passed over. The
	// record's Line is in buf, which is returned for reuse. io.EOF: no whole record is there (yet).
	next(br *bufio.Reader, buf []byte, r *Record) (n int, _ []byte, ok bool, err error)
	// seekTail positions f so that the last n records follow; n is lowered by those found. It reports whether all were.
	seekTail(f *os.File, n *int) (bool, error)
	// lastSeq is the number of the last record, and how long the file is up to its end; -1 if all of it counts.
	lastSeq(f *os.File) (uint64, int64, error)
}

func formatOf(driver string) format {
	if driver == Local {
		return localFormat{}
	}
	return jsonFormat{}
}

// rotation says when a file is rotated and what becomes of old ones.
type rotation struct {
	size     int64 // bytes; 0: never
	files    int   // kept, with the current one
	compress bool
}

// limits reads the options; what is wrong with them is said in dockerd's words.
func limits(cfg Config) (rotation, error) {
	r := rotation{files: 1}
	if cfg.Driver == Local {
		r = rotation{20 << 20, 5, true}
	}
	var err error
	if v := cfg.Options["max-size"]; v != "" {
		r.size, err = units.FromHumanSize(v)
		if err == nil && r.size <= 0 {
			err = errors.New("max-size must be a positive number")
		}
		if err != nil && cfg.Driver == Local {
			err = fmt.Errorf("invalid value for max-size: %s: %w", v, err)
		}
		if err != nil {
			return r, err
		}
	}
	if v := cfg.Options["max-file"]; v != "" {
		if r.files, err = strconv.Atoi(v); err != nil || r.files < 1 {
			return r, errors.New("max-file cannot be less than 1")
		}
	}
	if v := cfg.Options["compress"]; v != "" {
		if r.compress, err = strconv.ParseBool(v); err != nil {
			return r, fmt.Errorf("error while parsing compress option: %w", err)
		}
	}
	if cfg.Driver != Local && r.compress && (r.files == 1 || r.size == 0) {
		return r, errors.New("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	r.compress = r.compress && r.files > 1
	return r, nil
}

// OpenWriter opens the log of one container for appending. The driver None discards everything.
func OpenWriter(cfg Config, path string) (Writer, error) {
	if cfg.Driver == None {
		return discard{}, nil
	}
	r, err := limits(cfg)
	if err != nil {
		return nil, err
	}
	w := &fileWriter{path: path, rotation: r, form: formatOf(cfg.Driver), retain: cfg.Retain}
	if err := w.open(); err != nil {
		return nil, err
	}
	if cfg.Options["mode"] != "non-blocking" {
		return w, nil
	}
	room := int64(1 << 20) // dockerd's
	if v := cfg.Options["max-buffer-size"]; v != "" {
		if room, err = units.RAMInBytes(v); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return newRing(w, room), nil
}

type discard struct{}

func (discard) Write(Record) error        { return nil }
func (discard) WriteBatch([]Record) error { return nil }
func (discard) Close() error              { return nil }

// fileWriter appends records to a file and rotates it.
type fileWriter struct {
	path string
	rotation
	form   format
	retain bool
	f      *os.File
	n      int64
	seq    uint64
	buf    []byte
	busy   chan struct{} // closed when the last rotated file is compressed; nil before the first
}

func (w *fileWriter) open() error {
	f, err := os.OpenFile(w.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	seq, end, err := w.form.lastSeq(f)
	if err == nil && end >= 0 {
		err = f.Truncate(end) // a record torn by a crash would hide what follows it
	}
	st, serr := f.Stat()
	if err = errors.Join(err, serr); err != nil {
		return errors.Join(err, f.Close())
	}
	w.seq = max(w.seq, seq)
	if w.seq == 0 { // rotated just before the end
		w.seq, _ = w.lastOf(1) // 0 when there is none
	}
	w.f, w.n = f, st.Size()
	return nil
}

func (w *fileWriter) Write(r Record) error { return w.WriteBatch([]Record{r}) }

// WriteBatch appends the records with one write, unless the file has to be rotated between them.
func (w *fileWriter) WriteBatch(rs []Record) error {
	w.buf = w.buf[:0]
	for i := range rs {
		w.seq++
		rs[i].Seq = w.seq
		w.buf = w.form.append(w.buf, &rs[i])
		if w.size > 0 && w.n+int64(len(w.buf)) >= w.size {
			if err := w.flush(); err != nil {
				return err
			}
			if err := w.rotate(); err != nil {
				return err
			}
		}
	}
	return w.flush()
}

func (w *fileWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	n, err := w.f.Write(w.buf)
	w.n += int64(n)
	w.buf = w.buf[:0]
	return err
}

// rotate renames path to path.1, path.1 to path.2 and so on; what is beyond the number of files goes, unless it is to be
// retained for a forwarder.
func (w *fileWriter) rotate() error {
	if w.busy != nil {
		<-w.busy
	}
	keep := w.files
	if w.retain {
		keep = max(keep, w.unsent())
	}
	unlock, err := lock(w.path, true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := w.f.Close(); err != nil {
		return err
	}
	if keep == 1 {
		if err := os.Remove(w.path); err != nil {
			return err
		}
	}
	for i := highest(w.path); i >= max(keep-1, 1); i-- {
		_ = os.Remove(rotated(w.path, i))          // beyond what is kept, or not there
		_ = os.Remove(rotated(w.path, i) + packed) // as above
	}
	for i := keep - 1; i > 0; i-- {
		for _, suffix := range []string{"", packed} {
			if i == 1 && suffix != "" {
				continue
			}
			if err := os.Rename(rotated(w.path, i-1)+suffix, rotated(w.path, i)+suffix); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
	}
	if w.compress {
		w.busy = make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			_ = pack(rotated(w.path, 1)) // it stays as it is
		}(w.busy)
	}
	return w.open()
}

// rotated names the i-th older file.
func rotated(path string, i int) string {
	if i == 0 {
		return path
	}
	return path + "." + strconv.Itoa(i)
}

// highest is the number of the oldest file there is.
func highest(path string) int {
	for i := 1; ; i++ {
		if !exists(rotated(path, i)) && !exists(rotated(path, i)+packed) {
			return i - 1
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// maxRetained bounds what waits for a forwarder, in files of the rotation's size.
const maxRetained = 64

// SentFile is where a forwarder notes the number of the last record it has sent, for the writer of the log at path.
func SentFile(path string) string { return path + ".sent" }

// unsent counts the files, with the current one, from the oldest that a forwarder still needs.
func (w *fileWriter) unsent() int {
	b, _ := os.ReadFile(SentFile(w.path)) // not there: nothing was sent
	sent, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	for i := min(highest(w.path), maxRetained-2); i > 0; i-- {
		if last, err := w.lastOf(i); err == nil && last <= sent {
			return i + 1 // this one and those before it were sent
		}
	}
	return min(highest(w.path)+2, maxRetained)
}

// lastOf is the number of the last record in the i-th older file.
func (w *fileWriter) lastOf(i int) (uint64, error) {
	f, err := openOld(w.path, i)
	if err != nil {
		return 0, err
	}
	if f, err = plain(f); err != nil {
		return 0, err
	}
	defer f.Close()
	seq, _, err := w.form.lastSeq(f)
	return seq, err
}

func (w *fileWriter) Close() error {
	if w.busy != nil {
		<-w.busy
	}
	return w.f.Close()
}
