package logs

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"time"
	"unicode/utf8"
)

// jsonFormat is dockerd's json-file: a JSON object for each record, on a line of its own.
type jsonFormat struct{}

func (jsonFormat) append(b []byte, r *Record) []byte { return appendRecord(b, r) }

func (jsonFormat) lastSeq(*os.File) (uint64, int64, error) { return 0, -1, nil }

func (jsonFormat) next(br *bufio.Reader, buf []byte, r *Record) (int, []byte, bool, error) {
	line, err := readLine(br)
	if err != nil {
		return 0, buf, false, err
	}
	n := len(line)
	buf, ok := parseLine(line, buf, r)
	return n, buf, ok, nil
}

func (jsonFormat) seekTail(f *os.File, n *int) (bool, error) { return seekLines(f, n) }

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
