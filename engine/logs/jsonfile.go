package logs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// BatchWriter is implemented by writers that can take many records with one system call.
type BatchWriter interface {
	WriteBatch(rs []Record) error
}

// limits returns the size in bytes at which a file is rotated (0: never) and the number of files kept.
func limits(cfg Config) (size int64, files int, err error) {
	files = 1
	if cfg.Driver == Local {
		size, files = 20<<20, 5
	}
	if v := cfg.Options["max-size"]; v != "" {
		size, err = units.FromHumanSize(v)
		if err == nil && size <= 0 {
			err = errors.New("max-size must be a positive number")
		}
		if err != nil && cfg.Driver == Local {
			err = fmt.Errorf("invalid value for max-size: %s: %w", v, err)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if v := cfg.Options["max-file"]; v != "" {
		if files, err = strconv.Atoi(v); err != nil || files < 1 {
			return 0, 0, errors.New("max-file cannot be less than 1")
		}
	}
	return size, files, nil
}

// OpenWriter opens the log of one container for appending. The driver None discards everything.
func OpenWriter(cfg Config, path string) (Writer, error) {
	if cfg.Driver == None {
		return discard{}, nil
	}
	size, files, err := limits(cfg)
	if err != nil {
		return nil, err
	}
	w := &fileWriter{path: path, max: size, files: files}
	return w, w.open()
}

type discard struct{}

func (discard) Write(Record) error        { return nil }
func (discard) WriteBatch([]Record) error { return nil }
func (discard) Close() error              { return nil }

// fileWriter appends records in json-file form. The driver local uses the same form: only the defaults of rotation differ.
type fileWriter struct {
	path  string
	max   int64
	files int
	f     *os.File
	n     int64
	buf   []byte
}

func (w *fileWriter) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close() // the error that matters is err
		return err
	}
	w.f, w.n = f, st.Size()
	return nil
}

func (w *fileWriter) Write(r Record) error { return w.WriteBatch([]Record{r}) }

// WriteBatch appends the records with one write, unless the file has to be rotated between them.
func (w *fileWriter) WriteBatch(rs []Record) error {
	w.buf = w.buf[:0]
	for i := range rs {
		w.buf = appendRecord(w.buf, &rs[i])
		if w.max > 0 && w.n+int64(len(w.buf)) >= w.max {
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

// rotate renames path to path.1, path.1 to path.2 and so on; what is beyond the number of files goes.
func (w *fileWriter) rotate() error {
	if err := w.f.Close(); err != nil {
		return err
	}
	if w.files == 1 {
		if err := os.Remove(w.path); err != nil {
			return err
		}
	}
	for i := w.files - 1; i > 0; i-- {
		from := w.path
		if i > 1 {
			from = w.path + "." + strconv.Itoa(i-1)
		}
		if err := os.Rename(from, w.path+"."+strconv.Itoa(i)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return w.open()
}

func (w *fileWriter) Close() error { return w.f.Close() }

const hexDigits = "0123456789abcdef"

// appendRecord renders the record as dockerd's json-file driver does: {"log":…,"stream":…,["attrs":…,]"time":…}\n.
func appendRecord(b []byte, r *Record) []byte {
	b = append(b, `{"log":`...)
	b = appendJSON(b, r.Line)
	if r.Stream == Stderr {
		b = append(b, `,"stream":"stderr",`...)
	} else {
		b = append(b, `,"stream":"stdout",`...)
	}
	if len(r.Attrs) > 0 {
		b = append(b, `"attrs":{`...)
		for i, k := range sortedKeys(r.Attrs) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, []byte(k))
			b = append(b, ':')
			b = appendJSON(b, []byte(r.Attrs[k]))
		}
		b = append(b, `},`...)
	}
	b = append(b, `"time":"`...)
	b = r.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

// appendJSON quotes s; invalid UTF-8 becomes \ufffd, and <, >, & are escaped as in dockerd's files.
func appendJSON(b, s []byte) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if safe[c] {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '\\', '"':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(append(b, s[start:i]...), `\ufffd`...)
			i++
			start = i
			continue
		}
		if r == '\u2028' || r == '\u2029' {
			b = append(append(b, s[start:i]...), `\u202`...)
			b = append(b, hexDigits[r&15])
			i += n
			start = i
			continue
		}
		i += n
	}
	return append(append(b, s[start:]...), '"')
}

// safe tells which ASCII bytes stand for themselves in a JSON string.
var safe = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()
