package stream

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

type onlyReads struct{ io.Reader }

func (onlyReads) Write(b []byte) (int, error) { return len(b), nil }
func (onlyReads) Close() error                { return nil }
func (onlyReads) CloseWrite() error           { return nil }

func TestFramesThereAndBack(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	framed, err := io.ReadAll(Frame(onlyReads{strings.NewReader(long)}))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(Unframe(onlyReads{iotest.OneByteReader(bytes.NewReader(framed))}))
	if err != nil || string(raw) != long {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
}

func TestUnframeKeepsStdoutAlone(t *testing.T) {
	in := append(AppendFrame(nil, []byte("out")), 2, 0, 0, 0, 0, 0, 0, 3, 'e', 'r', 'r')
	in = AppendFrame(append(in, 1, 0, 0, 0, 0, 0, 0, 0), []byte("put"))
	got, err := io.ReadAll(Unframe(onlyReads{bytes.NewReader(in)}))
	if err != nil || string(got) != "output" {
		t.Fatalf("%q, %v", got, err)
	}
}
