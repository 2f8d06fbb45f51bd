package stream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// masked is a client's frame.
func masked(kind byte, body string) []byte {
	b := []byte{kind}
	if len(body) < 126 {
		b = append(b, 128|byte(len(body)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 128|126), uint16(len(body)))
	}
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i := range body {
		b = append(b, body[i]^mask[i&3])
	}
	return b
}

func TestSocket(t *testing.T) {
	long := strings.Repeat("x", 300)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := AcceptSocket(w, r, false)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b := make([]byte, 5+len(long))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Error(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(b); err == nil || err == io.EOF {
			t.Error("a closed socket reads as an end of input:", err)
		}
		_ = c.Close() // the test's end
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil || resp.StatusCode != 400 {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close() // read by nobody
	c, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"
	out := []byte(req)
	for _, f := range [][]byte{masked(kindText, "he"), masked(128|kindPing, "hi"), masked(128, "llo"), masked(128|kindBin, long), masked(128|kindClose, "")} {
		out = append(out, f...)
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	resp, err = http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-WebSocket-Protocol") != "a" {
		t.Fatal(resp, err)
	}
	got, err := io.ReadAll(br)
	want := append([]byte{128 | kindPong, 2, 'h', 'i', 128 | kindBin, 126, 1, 49}, "hello"+long...)
	want = append(want, 128|kindClose, 2, 3, 232)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q %v, want %q", got, err, want)
	}
}

type peer struct{ io.Reader }

func (peer) Write(b []byte) (int, error) { return len(b), nil }
func (peer) Close() error                { return nil }
func (peer) CloseWrite() error           { return nil }

func TestPlain(t *testing.T) {
	in := "\x01\x00\x00\x00\x00\x00\x00\x03one\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x03two"
	for _, size := range []int{1, 2, 100} {
		r := Plain(peer{strings.NewReader(in)})
		var out []byte
		buf := make([]byte, size)
		for {
			n, err := r.Read(buf)
			out = append(out, buf[:n]...)
			if err != nil {
				break
			}
		}
		if string(out) != "onetwo" {
			t.Errorf("by %d: %q", size, out)
		}
	}
}
