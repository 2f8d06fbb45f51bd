package logs

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// parseLine decodes one line of a json-file log into r. buf is scratch for unescaped text and is returned for reuse; r.Line
// is valid until the next call. ok is false for a line that is no record (torn by a crash).
func parseLine(line, buf []byte, r *Record) (_ []byte, ok bool) {
	if b, ok := parseFast(line, buf, r); ok {
		return b, true
	}
	var slow struct {
		Log    string            `json:"log"`
		Stream string            `json:"stream"`
		Time   time.Time         `json:"time"`
		Attrs  map[string]string `json:"attrs"`
	}
	if json.Unmarshal(line, &slow) != nil {
		return buf, false
	}
	*r = Record{Time: slow.Time, Stream: Stdout, Line: []byte(slow.Log), Attrs: slow.Attrs}
	if slow.Stream == "stderr" {
		r.Stream = Stderr
	}
	r.Partial = len(r.Line) > 0 && r.Line[len(r.Line)-1] != '\n'
	return buf, true
}

var (
	headLog    = []byte(`{"log":"`)
	tailStdout = []byte(`,"stream":"stdout","time":"`)
	tailStderr = []byte(`,"stream":"stderr","time":"`)
)

// parseFast knows exactly the form that appendRecord and dockerd write, without attributes.
func parseFast(line, buf []byte, r *Record) ([]byte, bool) {
	if !bytes.HasPrefix(line, headLog) {
		return buf, false
	}
	s := line[len(headLog):]
	// The tail has a fixed beginning; find the quote that ends the text from there.
	end := bytes.LastIndex(s, tailStdout)
	stream := Stdout
	if end < 0 {
		if end = bytes.LastIndex(s, tailStderr); end < 0 {
			return buf, false
		}
		stream = Stderr
	}
	if end == 0 || s[end-1] != '"' {
		return buf, false
	}
	text, rest := s[:end-1], s[end+len(tailStdout):]
	q := bytes.IndexByte(rest, '"')
	if q < 0 || len(rest) < q+2 || rest[q+1] != '}' {
		return buf, false
	}
	t, ok := parseTime(rest[:q])
	if !ok {
		return buf, false
	}
	buf, ok = unescape(buf[:0], text)
	if !ok {
		return buf, false
	}
	*r = Record{Time: t, Stream: stream, Line: buf, Partial: len(buf) > 0 && buf[len(buf)-1] != '\n'}
	return buf, true
}

func unescape(b, s []byte) ([]byte, bool) {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(b, s...), true
		}
		b = append(b, s[:i]...)
		if len(s) < i+2 {
			return b, false
		}
		switch c := s[i+1]; c {
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'u':
			if len(s) < i+6 {
				return b, false
			}
			v, err := strconv.ParseUint(string(s[i+2:i+6]), 16, 16)
			if err != nil || v >= 0xd800 && v < 0xe000 {
				return b, false // surrogates go the slow way
			}
			b = utf8.AppendRune(b, rune(v))
			i += 4
		default:
			return b, false
		}
		s = s[i+2:]
	}
}

// parseTime reads 2006-01-02T15:04:05[.fraction]Z by hand; anything else goes the slow way.
func parseTime(s []byte) (time.Time, bool) {
	if len(s) < 20 || s[len(s)-1] != 'Z' || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, false
	}
	num := func(a, b int) int {
		n := 0
		for _, c := range s[a:b] {
			if c < '0' || c > '9' {
				return -1 << 20
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	y, mo, d, h, mi, sec := num(0, 4), num(5, 7), num(8, 10), num(11, 13), num(14, 16), num(17, 19)
	nano := 0
	if len(s) > 20 {
		frac := len(s) - 21
		if s[19] != '.' || frac < 1 || frac > 9 {
			return time.Time{}, false
		}
		nano = num(20, 20+frac)
		for ; frac < 9; frac++ {
			nano *= 10
		}
	}
	if y < 0 || mo < 0 || d < 0 || h < 0 || mi < 0 || sec < 0 || nano < 0 {
		return time.Time{}, false
	}
	return time.Date(y, time.Month(mo), d, h, mi, sec, nano, time.UTC), true
}
