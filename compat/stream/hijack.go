// Package stream turns HTTP requests into byte streams: hijacked connections, half-close, detach keys, progress.
package stream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a hijacked connection; bytes that came with the request are not lost.
type Conn struct {
	net.Conn
	br *bufio.Reader
}

// Hijack takes the connection over and answers 101 or, without an Upgrade header, 200. extra are header lines.
func Hijack(w http.ResponseWriter, r *http.Request, contentType, extra string) (*Conn, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n" + extra + "\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" + extra + "\r\n"
	}
	if _, err := io.WriteString(nc, head); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return &Conn{nc, rw.Reader}, nil
}

func (c *Conn) Read(b []byte) (int, error) {
	if c.br.Buffered() > 0 {
		return c.br.Read(b)
	}
	return c.Conn.Read(b)
}

// CloseWrite ends our direction only.
func (c *Conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}

// Peer is the container's side.
type Peer interface {
	io.ReadWriteCloser
	CloseWrite() error
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// drainFor is how long the end of a stream waits for the client to close its side: what it still sends is read and dropped,
// because closing a socket with unread bytes resets it, and a reset can cost the client the end of the output.
const drainFor = time.Second

// Join copies both ways until the container's output ends, or the client is gone or typed its detach keys. keys is nil when
// they are not looked for; a client that typed them is sent farewell. It reports whether the client detached. When it returns
// both sides are closed and nothing of it runs.
func Join(c *Conn, p Peer, keys, farewell []byte) bool {
	in := make(chan struct{})
	var detached atomic.Bool
	go func() {
		defer close(in)
		if input(c, p, keys) {
			detached.Store(true)
			_ = p.Close() // ends the output as well
		}
	}()
	err := relay(c.Conn, p)
	_ = p.Close() // both directions are over
	if detached.Load() {
		_, _ = c.Write(farewell) // a client that is gone needs none
	}
	if err == nil || detached.Load() {
		_ = c.CloseWrite()                                               // a clean end before the connection goes
		_ = c.SetReadDeadline(time.Now().Add(drainFor))                  // sockets of all kinds take it
		drain := time.AfterFunc(drainFor, func() { _ = c.Conn.Close() }) // a client that sends without end
		<-in
		drain.Stop()
		if detached.Load() { // input stopped at the keys
			discard(c)
		}
	}
	_ = c.Conn.Close() // unblocks the input
	<-in
	return detached.Load()
}

func discard(c *Conn) { _, _ = io.Copy(io.Discard, c) } // until the deadline, or the client's end

// input copies the client's bytes to the container. The end of the input is passed on; a broken connection ends all. What
// comes when the container no longer takes it is dropped.
func input(c *Conn, p Peer, keys []byte) bool {
	f := keyFilter{keys: keys}
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			out, hit := f.feed(buf[:n])
			if len(out) > 0 {
				if _, werr := p.Write(out); werr != nil {
					discard(c)
					return false
				}
			}
			if hit {
				return true
			}
		}
		if errors.Is(err, io.EOF) {
			_ = p.CloseWrite() // the other direction goes on
			return false
		}
		if err != nil {
			_ = p.Close() // the client is gone
			return false
		}
	}
}

// keyFilter finds the detach sequence; a beginning of it that turns out to be something else is passed on.
type keyFilter struct {
	keys []byte
	n    int
}

func (f *keyFilter) feed(b []byte) (out []byte, hit bool) {
	if len(f.keys) == 0 {
		return b, false
	}
	for _, c := range b {
		if c == f.keys[f.n] {
			if f.n++; f.n == len(f.keys) {
				return out, true
			}
			continue
		}
		out = append(out, f.keys[:f.n]...)
		f.n = 0
		if c == f.keys[0] {
			f.n = 1
			continue
		}
		out = append(out, c)
	}
	return out, false
}

// Upgrade takes the connection over for another protocol and answers 101. Bytes that came with the request are not lost.
func Upgrade(w http.ResponseWriter, proto string) (*Conn, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+proto+"\r\n\r\n"); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return &Conn{nc, rw.Reader}, nil
}
