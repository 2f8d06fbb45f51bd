package server

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

// attached makes a client of a hub and returns its end of the connection.
func attached(t *testing.T, h *hub, w shim.Which) *net.UnixConn {
	t.Helper()
	client, conn := pair(t)
	go h.attach(conn, conn, w)
	got := make([]byte, len(ack))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, ack) {
		t.Fatalf("%q, %v", got, err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// soon fails unless ch delivers within a time that is long for a machine and short for a person.
func soon(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Fatal(what)
	}
}

func TestExecWaitsForItsClientAndIsFreedByItsEnd(t *testing.T) {
	for _, how := range []string{"client reads", "client leaves", "process ends"} {
		t.Run(how, func(t *testing.T) {
			h := newHub(shim.IO{TTY: true}, nil)
			h.exec = true
			client := attached(t, h, shim.Which{Stdout: true})
			piece := bytes.Repeat([]byte("x"), 64<<10)
			done := make(chan struct{})
			stalled := make(chan struct{})
			var once sync.Once
			go func() {
				defer close(done)
				for range 64 { // 4 MiB
					if full := h.distribute(logs.Stdout, piece); len(full) > 0 {
						once.Do(func() { close(stalled) })
						full[0].yield(h.ended, nil)
					}
				}
			}()
			soon(t, stalled, "the process was not held")
			select {
			case <-done:
				t.Fatal("the process was not held")
			default:
			}
			switch how {
			case "client reads":
				if _, err := io.CopyN(io.Discard, client, int64(64*len(piece))); err != nil {
					t.Fatal(err)
				}
			case "client leaves":
				_ = client.Close()
			case "process ends":
				h.finish()
			}
			soon(t, done, "the process is held for ever")
		})
	}
}

func TestAClientThatReadsNothingIsCutWithAnErrorAndHoldsNobody(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	w, err := logs.OpenWriter(logs.Config{}, path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(shim.IO{LogPath: path}, w)
	h.strict = func(c *client) { c.room, c.patience = 1<<20, 50*time.Millisecond }
	stuck := attached(t, h, shim.Which{Stdout: true})
	other := attached(t, h, shim.Which{Stdout: true})
	const n = 128
	got := make(chan int64, 1)
	go func() {
		b, _ := io.Copy(io.Discard, other)
		got <- b
	}()
	piece := bytes.Repeat([]byte("0123456789abcde\n"), 4<<10) // 64 KiB
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range n {
			h.output(logs.Stdout, piece)
		}
	}()
	soon(t, done, "a client that reads nothing holds the process")
	h.finish()
	h.endStreams()
	if b := <-got; b != n*int64(len(piece)+8) {
		t.Errorf("the other client got %d bytes", b)
	}
	b, err := io.ReadAll(stuck)
	if text := "the client reads too slowly: output was lost\n"; err != nil || !strings.HasSuffix(string(b), string(h.frame(systemError, []byte(text)))) {
		t.Errorf("the stuck client's last bytes: %q, %v", b[max(0, len(b)-60):], err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() < n*int64(len(piece)) {
		t.Errorf("the log is not whole: %v, %v", st, err)
	}
}

func TestStdinThatNobodyReadsDoesNotKeepTheProcessFromEnding(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // somebody else holds it, and never reads
	h := newHub(shim.IO{Stdin: true, StdinOnce: true}, nil)
	h.in.f = w
	client := attached(t, h, shim.Which{Stdin: true})
	go func() { _, _ = client.Write(make([]byte, 1<<20)) }()
	for len(h.turn) == 0 { // until a write is under way
		runtime.Gosched()
	}
	done := make(chan struct{})
	go func() { h.finish(); h.endStreams(); close(done) }()
	soon(t, done, "the process cannot end")
}

func TestNothingGoesBeforeTheAck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := logs.OpenWriter(logs.Config{}, path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(shim.IO{LogPath: path}, w)
	h.output(logs.Stdout, []byte("old\npart"))
	client := attached(t, h, shim.Which{Stdout: true, Replay: true}) // fails unless the ack is first
	h.output(logs.Stdout, []byte("ial\n"))
	h.finish()
	h.endStreams()
	b, err := io.ReadAll(client)
	want := string(h.frame(logs.Stdout, []byte("old\n"))) + string(h.frame(logs.Stdout, []byte("part"))) + string(h.frame(logs.Stdout, []byte("ial\n")))
	if err != nil || string(b) != want {
		t.Fatalf("%q, %v", b, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(ents)
}

func TestNothingIsLeftWhicheverSideEnds(t *testing.T) {
	dir := t.TempDir()
	round := func(clientFirst bool) {
		h := newHub(shim.IO{TTY: true, LogPath: filepath.Join(dir, "log")}, nil)
		client := attached(t, h, shim.Which{Stdout: true, Stdin: true})
		h.output(logs.Stdout, bytes.Repeat([]byte("x"), 4<<20)) // into the spool
		if clientFirst {
			_ = client.Close()
		}
		h.finish()
		h.endStreams()
		if !clientFirst {
			_, _ = io.Copy(io.Discard, client)
		}
		_ = client.Close()
	}
	round(true)
	round(false)
	settle := func() (int, int) { runtime.GC(); return runtime.NumGoroutine(), openFiles(t) }
	g0, f0 := settle()
	for i := range 50 {
		round(i%2 == 0)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		g, f := settle()
		if g <= g0 && f <= f0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d files, before %d and %d", g, f, g0, f0)
		}
	}
}
