package event

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func at(n int) time.Time { return time.Unix(int64(n), 0).UTC() }

func numbered(b *Bus, from, to int) {
	for i := from; i < to; i++ {
		b.Publish(Event{Type: Container, Action: fmt.Sprint(i), Time: at(i), Attributes: map[string]string{"name": strings.Repeat("x", 50)}})
	}
}

// past is what a client gets that asks for a time that is over.
func past(t *testing.T, b *Bus, since int) []string {
	t.Helper()
	var out []string
	for e := range b.Subscribe(t.Context(), nil, at(since), time.Unix(1<<30, 0)) {
		out = append(out, e.Action)
	}
	return out
}

func open(t *testing.T, dir string) *Bus {
	t.Helper()
	b, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func closed(t *testing.T, b *Bus) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func sequence(t *testing.T, got []string, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%d events, want %d", len(got), to-from)
	}
	for i, a := range got {
		if a != fmt.Sprint(from+i) {
			t.Fatalf("event %d is %s, want %d", i, a, from+i)
		}
	}
}

func TestSinceReachesOverRestarts(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	for i := 0; i < 20000; i += 2000 { // more than the ring holds and more than one batch
		numbered(b, i, i+2000)
		waitFor(t, b, uint64(i+2000))
	}
	sequence(t, past(t, b, 1), 1, 20000)
	closed(t, b)
	b = open(t, dir)
	sequence(t, past(t, b, 15000), 15000, 20000)
	numbered(b, 20000, 20010)
	sequence(t, past(t, b, 19990), 19990, 20010)
	closed(t, b)
}

func TestJournalIsBoundedAndKeepsTheNewest(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.journal.half = 100 << 10
	for i := 0; i < 5000; i += 100 {
		numbered(b, i, i+100)
		waitFor(t, b, uint64(i+100))
	}
	closed(t, b)
	var size int64
	for _, f := range []string{"events.jsonl", "events.1.jsonl"} {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 2*(100<<10) {
		t.Errorf("the journal has %d bytes", size)
	}
	b = open(t, dir)
	defer closed(t, b)
	got := past(t, b, 1)
	if len(got) == 0 || got[len(got)-1] != "4999" {
		t.Fatalf("%d events, the last %v", len(got), got[max(0, len(got)-1):])
	}
}

func TestTornLineIsCutOff(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	numbered(b, 1, 5)
	closed(t, b)
	name := filepath.Join(dir, "events.jsonl")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(append(raw, "\x00\x00 spoilt\n"...), `{"n":9,"act`...), 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	defer closed(t, b)
	numbered(b, 5, 8)
	sequence(t, past(t, b, 1), 1, 8)
}

func TestSlowSubscriberGoesOnFromTheJournal(t *testing.T) {
	b := open(t, t.TempDir())
	defer closed(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seq := b.Subscribe(ctx, nil, time.Time{}, time.Time{})
	for i := 0; i < 3*ringSize; i += ringSize / 2 {
		numbered(b, i, i+ringSize/2)
		waitFor(t, b, uint64(i+ringSize/2))
	}
	n := 0
	for e := range seq {
		if e.Action != fmt.Sprint(n) {
			t.Fatalf("event %d is %s", n, e.Action)
		}
		if n++; n == 3*ringSize {
			cancel()
		}
	}
	if n != 3*ringSize {
		t.Fatalf("%d events", n)
	}
}

// waitFor returns when the journal holds the events before number n.
func waitFor(t *testing.T, b *Bus, n uint64) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if l, ok := lastLine(b.journal.current()); ok && l.Seq+1 >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the journal is not written")
		}
	}
}
