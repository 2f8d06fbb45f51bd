package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func lines(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%d\n", i))
	}
	return out
}

func TestLocalKeepsEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	cfg := Config{Driver: Local}
	in := []string{"plain\n", "\xff\xfe\x00", "", strings.Repeat("x", MaxRecord), "ünï\u2028\n"}
	write(t, cfg, path, in...)
	write(t, cfg, path, "second life\n")
	want := append(in, "second life\n")
	if got := read(t, cfg, path, ReadOptions{Tail: -1}, nil); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
	if got := read(t, cfg, path, ReadOptions{Tail: 2}, nil); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want[4:]) {
		t.Fatalf("tail: %q", got)
	}
	if got := read(t, cfg, path, ReadOptions{Tail: -1, After: 4}, nil); len(got) != 2 {
		t.Fatalf("after the fourth: %q", got)
	}
}

func TestLocalMendsATornRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	cfg := Config{Driver: Local}
	write(t, cfg, path, lines(0, 5)...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < localFrame; cut++ {
		if err := os.WriteFile(path, b[:len(b)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := read(t, cfg, path, ReadOptions{Tail: 2}, nil); strings.Join(got, "") != "2\n3\n" {
			t.Fatalf("cut by %d: tail %q", cut, got)
		}
	}
	write(t, cfg, path, "more\n")
	if got := read(t, cfg, path, ReadOptions{Tail: -1}, nil); strings.Join(got, "") != "0\n1\n2\n3\nmore\n" {
		t.Fatalf("%q", got)
	}
}

func rotating(driver string, files int) Config {
	return Config{Driver: driver, Options: map[string]string{"max-size": "1k", "max-file": fmt.Sprint(files), "compress": "true"}}
}

func TestTailAndAllOverCompressedFiles(t *testing.T) {
	for _, driver := range []string{JSONFile, Local} {
		t.Run(driver, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			cfg := rotating(driver, 100)
			want := lines(0, 400)
			write(t, cfg, path, want...)
			if !exists(path+".2.gz") || exists(path+".2") {
				t.Fatal("old files are not compressed")
			}
			for _, n := range []int{-1, 1, 50, 200, 400, 1000} {
				w := want
				if n >= 0 && n < len(want) {
					w = want[len(want)-n:]
				}
				if got := read(t, cfg, path, ReadOptions{Tail: n}, nil); strings.Join(got, "") != strings.Join(w, "") {
					t.Errorf("tail %d: %d lines, %q…", n, len(got), got[:min(3, len(got))])
				}
			}
			ents, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range ents {
				if strings.HasSuffix(e.Name(), ".tmp") {
					t.Errorf("%s is left", e.Name())
				}
			}
		})
	}
}

func TestNoMoreFilesThanAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, rotating(Local, 3), path, lines(0, 1000)...)
	if n := highest(path); n != 2 {
		t.Fatalf("%d old files, want 2", n)
	}
}

func TestFollowMissesNothingWhileFilesAreRotatedAndCompressed(t *testing.T) {
	for _, driver := range []string{JSONFile, Local} {
		t.Run(driver, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			cfg := rotating(driver, 1000)
			ended := make(chan struct{})
			w, err := OpenWriter(cfg, path)
			if err != nil {
				t.Fatal(err)
			}
			want := lines(0, 3000)
			go func() {
				defer close(ended)
				for _, l := range want { // several files in each poll of the follower
					_ = w.Write(Record{Time: t0, Stream: Stdout, Line: []byte(l)})
				}
				_ = w.Close()
			}()
			if got := read(t, cfg, path, ReadOptions{Tail: -1, Follow: true}, ended); strings.Join(got, "") != strings.Join(want, "") {
				t.Fatalf("%d lines, want %d", len(got), len(want))
			}
		})
	}
}

func TestUnsentFilesAreRetained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	cfg := rotating(Local, 2)
	cfg.Retain = true
	want := lines(0, 500)
	write(t, cfg, path, want...)
	if got := read(t, cfg, path, ReadOptions{Tail: -1}, nil); strings.Join(got, "") != strings.Join(want, "") {
		t.Fatalf("%d lines of %d are left", len(got), len(want))
	}
	if err := os.WriteFile(SentFile(path), []byte("480\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, cfg, path, lines(500, 600)...)
	got := read(t, cfg, path, ReadOptions{Tail: -1}, nil)
	if len(got) >= 500 || strings.Join(got[len(got)-119:], "") != strings.Join(lines(481, 600), "") {
		t.Fatalf("%d lines are left", len(got))
	}
}

func TestRingDropsTheOldest(t *testing.T) {
	gate := make(chan struct{})
	slow := &gated{gate: gate}
	r := newRing(slow, 4)
	for i := range 10 {
		if err := r.Write(Record{Line: []byte{byte('0' + i)}}); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := string(slow.got); !strings.HasSuffix(got, "6789") || uint64(len(got))+r.dropped != 10 {
		t.Fatalf("%q, %d dropped", got, r.dropped)
	}
}

type gated struct {
	gate chan struct{}
	got  []byte
}

func (g *gated) Write(r Record) error { <-g.gate; g.got = append(g.got, r.Line...); return nil }
func (g *gated) Close() error         { return nil }

func TestTailOfALargeLogIsFast(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 20 MB")
	}
	for _, driver := range []string{JSONFile, Local} {
		path := filepath.Join(t.TempDir(), "log")
		cfg := Config{Driver: driver, Options: map[string]string{"max-size": "10g"}}
		w, err := OpenWriter(cfg, path)
		if err != nil {
			t.Fatal(err)
		}
		rs := make([]Record, 10000)
		line := []byte(strings.Repeat("x", 1000) + "\n")
		for i := range rs {
			rs[i] = Record{Time: t0, Stream: Stdout, Line: line}
		}
		for range 2 {
			if err := w.(BatchWriter).WriteBatch(rs); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close()
		start := time.Now()
		if got := read(t, cfg, path, ReadOptions{Tail: 10}, nil); len(got) != 10 {
			t.Fatalf("%d lines", len(got))
		}
		if d := time.Since(start); d > 500*time.Millisecond { // milliseconds on an idle machine: nothing is read but the end
			t.Errorf("%s: %v", driver, d)
		}
	}
}
