// Package stream turns HTTP requests into byte streams: hijacked connections, half-close, detach keys, progress.
package stream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
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

// Join copies both ways until the container's output ends, or the client is gone or typed its detach keys. keys is nil when
// they are not looked for. It reports whether the client detached.
func Join(c *Conn, p Peer, keys []byte) (detached bool) {
	in := make(chan bool, 1)
	go func() {
		d := input(c, p, keys)
		if d {
			_ = p.Close() // ends the output as well
		}
		in <- d
	}()
	buf := buffers.Get().(*[]byte)
	_, err := io.CopyBuffer(struct{ io.Writer }{c.Conn}, struct{ io.Reader }{p}, *buf)
	buffers.Put(buf)
	_ = p.Close() // both directions are over
	if err == nil {
		_ = c.CloseWrite() // a clean end before the connection goes
	}
	_ = c.Conn.Close() // unblocks the input
	return <-in
}

// input copies the client's bytes to the container. The end of the input is passed on; a broken connection ends all.
func input(c *Conn, p Peer, keys []byte) bool {
	var f keyFilter
	f.keys = keys
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			out, hit := f.feed(buf[:n])
			if len(out) > 0 {
				if _, werr := p.Write(out); werr != nil {
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
