package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC)

func write(t testing.TB, cfg Config, path string, lines ...string) {
	t.Helper()
	w, err := OpenWriter(cfg, path)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range lines {
		if err := w.Write(Record{Time: t0.Add(time.Duration(i) * time.Second), Stream: Stdout, Line: []byte(l)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, cfg Config, path string, o ReadOptions, ended <-chan struct{}) []string {
	t.Helper()
	o.Stdout, o.Stderr = true, true
	seq, err := Read(context.Background(), cfg, path, o, ended)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.Line))
	}
	return got
}

func TestRoundTripOfOddBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	in := []string{"plain\n", "quote \" back \\ tab\t\n", "<a&b>\x00\x1b\n", "ünï\u2028\n", "", "no newline", `","stream":"stderr","time":"x` + "\n"}
	write(t, Config{}, path, in...)
	got := read(t, Config{}, path, ReadOptions{Tail: -1}, nil)
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", in) {
		t.Fatalf("got  %q\nwant %q", got, in)
	}
	b, _ := os.ReadFile(path)
	for line := range bytes.Lines(b) {
		var v struct {
			Log  string
			Time time.Time
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
}

func TestTailIsAppliedBeforeUntil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, Config{}, path, "1\n", "2\n", "3\n", "4\n", "5\n", "6\n")
	for tail, want := range map[int]string{0: "", 2: "5 6", 6: "1 2 3 4 5 6", 60: "1 2 3 4 5 6", -1: "1 2 3 4 5 6"} {
		got := strings.Join(strings.Fields(strings.Join(read(t, Config{}, path, ReadOptions{Tail: tail}, nil), "")), " ")
		if got != want {
			t.Errorf("tail %d: %q, want %q", tail, got, want)
		}
	}
	if got := read(t, Config{}, path, ReadOptions{Tail: 2, Until: t0.Add(2 * time.Second)}, nil); len(got) != 0 {
		t.Errorf("tail 2 until the third line: %q", got)
	}
	if got := read(t, Config{}, path, ReadOptions{Tail: -1, Since: t0.Add(4 * time.Second)}, nil); len(got) != 2 {
		t.Errorf("since is inclusive: %q", got)
	}
}

func TestFollowSurvivesRotationAndEndsWithTheContainer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	cfg := Config{Options: map[string]string{"max-size": "1k", "max-file": "100"}}
	ended := make(chan struct{})
	w, err := OpenWriter(cfg, path)
	if err != nil {
		t.Fatal(err)
	}
	const n = 500
	go func() {
		for i := range n {
			_ = w.Write(Record{Time: t0, Stream: Stderr, Line: fmt.Appendf(nil, "%d\n", i)})
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		_ = w.Close()
		close(ended)
	}()
	got := read(t, cfg, path, ReadOptions{Tail: -1, Follow: true}, ended)
	seen := map[string]bool{}
	for _, l := range got {
		seen[l] = true
	}
	if !seen[fmt.Sprintf("%d\n", n-1)] || !seen["0\n"] {
		t.Fatalf("first or last line missing in %d lines", len(got))
	}
}

func TestTornLastLineIsIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, Config{}, path, "whole\n")
	f, _ := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	_, _ = f.WriteString(`{"log":"to`)
	_ = f.Close()
	if got := read(t, Config{}, path, ReadOptions{Tail: -1}, nil); len(got) != 1 {
		t.Fatalf("%q", got)
	}
}

func TestUnknownOptionsAreRefused(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{Driver: "nolog"}, `error looking up logging plugin nolog: plugin "nolog" not found`},
		{Config{Options: map[string]string{"foo": "1"}}, "unknown log opt 'foo' for json-file log driver"},
		{Config{Driver: Local, Options: map[string]string{"labels": "1"}}, "unknown log opt 'labels' for log driver local"},
		{Config{Options: map[string]string{"mode": "x"}}, "logger: logging mode not supported: x"},
		{Config{Options: map[string]string{"max-buffer-size": "1m"}}, "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{Config{Options: map[string]string{"mode": "non-blocking", "max-buffer-size": "x"}}, "error parsing option max-buffer-size: invalid size: 'x'"},
	} {
		if err := ValidateOptions(tc.c); err == nil || err.Error() != tc.want {
			t.Errorf("%+v: %v, want %s", tc.c, err, tc.want)
		}
	}
	for _, c := range []Config{
		{Driver: None, Options: map[string]string{"foo": "1"}},
		{Driver: Local, Options: map[string]string{"max-size": "1m", "max-file": "3", "compress": "true", "mode": "non-blocking", "max-buffer-size": "4m"}},
		{Options: map[string]string{"max-size": "1k", "labels": "a", "labels-regex": "^a", "env": "b", "env-regex": "^b", "tag": "{{.ID}}"}},
	} {
		if err := ValidateOptions(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestBadValuesAreRefusedWhenTheLogIsOpened(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{Options: map[string]string{"max-size": "x"}}, "invalid size: 'x'"},
		{Config{Driver: Local, Options: map[string]string{"max-size": "x"}}, "invalid value for max-size: x: invalid size: 'x'"},
		{Config{Options: map[string]string{"max-file": "0"}}, "max-file cannot be less than 1"},
	} {
		if _, err := OpenWriter(tc.c, filepath.Join(t.TempDir(), "log")); err == nil || err.Error() != tc.want {
			t.Errorf("%+v: %v, want %s", tc.c, err, tc.want)
		}
	}
}

func TestFrames(t *testing.T) {
	r := Record{Time: t0, Stream: Stderr, Line: []byte("hi\n"), Attrs: map[string]string{"b": "x y", "a": "1"}}
	got := string(AppendFrame(nil, r, FrameOptions{Timestamps: true, Details: true}))
	want := "\x02\x00\x00\x00\x00\x00\x00\x2c2026-01-02T03:04:05.000000060Z a=1,b=x+y hi\n"
	if got != want {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log")
	w, _ := OpenWriter(Config{}, path)
	line := []byte(strings.Repeat("x", 63) + "\n")
	rs := make([]Record, 1000)
	for i := range rs {
		rs[i] = Record{Time: t0, Stream: Stdout, Line: line}
	}
	for range 100 {
		_ = w.(BatchWriter).WriteBatch(rs)
	}
	b.SetBytes(100 * 1000 * 64)
	var dst []byte
	for b.Loop() {
		seq, _ := Read(context.Background(), Config{}, path, ReadOptions{Stdout: true, Tail: -1}, nil)
		for r := range seq {
			dst = AppendFrame(dst[:0], r, FrameOptions{})
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.1Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var fast Record
		if _, ok := parseFast(line, nil, &fast); ok {
			var slow struct{ Log, Stream string }
			if json.Unmarshal(line, &slow) == nil && slow.Log != string(fast.Line) && json.Valid([]byte(`"`+slow.Log+`"`)) {
				t.Fatalf("fast %q, slow %q", fast.Line, slow.Log)
			}
		}
	})
}
