package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

// pair returns two ends of a unix connection.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestNothingWrittenAfterTheAckIsMissed(t *testing.T) {
	for i := range 300 {
		h := newHub(shim.IO{TTY: true}, nil)
		client, conn := pair(t)
		go h.attach(conn, conn, shim.Which{Stdout: true})
		got := make([]byte, len(ack))
		if _, err := io.ReadFull(client, got); err != nil {
			t.Fatal(err)
		}
		h.output(logs.Stdout, []byte("x"))
		h.finish()
		h.endStreams()
		if b, err := io.ReadAll(client); err != nil || string(b) != "x" {
			t.Fatalf("round %d: %q, %v", i, b, err)
		}
		_ = client.Close()
	}
}

func TestSlowClientLosesNothingAndBlocksNobody(t *testing.T) {
	dir := t.TempDir()
	h := newHub(shim.IO{TTY: true, LogPath: filepath.Join(dir, "log")}, nil)
	client, conn := pair(t)
	go h.attach(conn, conn, shim.Which{Stdout: true})
	got := make([]byte, len(ack))
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i := range 400 { // 12 MiB: far more than memory and socket take
		piece := bytes.Repeat(fmt.Appendf(nil, "%08d", i), 4096)
		want.Write(piece)
		h.output(logs.Stdout, piece) // must return although nobody reads
	}
	h.finish()
	h.endStreams()
	b, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(b, want.Bytes()) {
		t.Fatalf("%d bytes of %d, %v", len(b), want.Len(), err)
	}
	if ents, _ := os.ReadDir(dir); len(ents) != 0 {
		t.Fatalf("spool left: %v", ents)
	}
}

func TestLongLinesAreCutAndTailIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := logs.OpenWriter(logs.Config{}, path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(shim.IO{LogPath: path}, w)
	long := bytes.Repeat([]byte("a"), logs.MaxRecord+10)
	h.output(logs.Stdout, long[:5])
	h.output(logs.Stderr, []byte("err\n"))
	h.output(logs.Stdout, long[5:])
	h.output(logs.Stdout, []byte("\ntail"))
	h.finish()
	seq, err := logs.Read(t.Context(), logs.Config{}, path, logs.ReadOptions{Stdout: true, Stderr: true, Tail: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for r, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(r.Line))
	}
	if fmt.Sprint(sizes) != fmt.Sprint([]int{4, logs.MaxRecord, 11, 4}) {
		t.Fatalf("records of %v bytes", sizes)
	}
}
