package stream

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // the protocol says so; nothing is protected by it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ErrNoSocket is the answer to a request that is not the beginning of a web socket.
var ErrNoSocket = errors.New("not websocket protocol")

// Frame kinds of RFC 6455.
const (
	kindText  = 1
	kindBin   = 2
	kindClose = 8
	kindPing  = 9
	kindPong  = 10
)

// socket is the byte stream in a web socket: what the client sends in data frames, and frames of one kind the other way.
type socket struct {
	net.Conn
	br   *bufio.Reader
	kind byte // of what is written

	rest uint64 // of the frame that is being read
	mask [4]byte
	at   int // in the mask

	mu struct {
		sync.Mutex // one frame at a time: answers to pings come from the reader
		closed     bool
	}
}

// CheckSocket tells whether a request begins a web socket.
func CheckSocket(r *http.Request) error {
	has := func(header, word string) bool {
		for _, f := range strings.Split(r.Header.Get(header), ",") {
			if strings.EqualFold(strings.TrimSpace(f), word) {
				return true
			}
		}
		return false
	}
	if !has("Upgrade", "websocket") || !has("Connection", "upgrade") || r.Header.Get("Sec-WebSocket-Version") != "13" || r.Header.Get("Sec-WebSocket-Key") == "" {
		return ErrNoSocket
	}
	return nil
}

// AcceptSocket takes a connection over as a web socket. Any origin and any sub-protocol will do, as with dockerd; text says
// that the client expects text frames.
func AcceptSocket(w http.ResponseWriter, r *http.Request, text bool) (*Conn, error) {
	if err := CheckSocket(r); err != nil {
		return nil, err
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if first, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ","); strings.TrimSpace(first) != "" {
		head += "Sec-WebSocket-Protocol: " + strings.TrimSpace(first) + "\r\n"
	}
	if _, err := io.WriteString(nc, head+"\r\n"); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	s := &socket{Conn: nc, br: rw.Reader, kind: kindBin}
	if text {
		s.kind = kindText
	}
	return &Conn{s, bufio.NewReader(nil)}, nil
}

func (s *socket) Read(b []byte) (int, error) {
	for s.rest == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if uint64(len(b)) > s.rest {
		b = b[:s.rest]
	}
	n, err := s.br.Read(b)
	for i := range b[:n] {
		b[i] ^= s.mask[s.at&3]
		s.at++
	}
	s.rest -= uint64(n)
	return n, err
}

// next reads frame heads until one of data comes. The end of the socket is not the end of the input: the client is gone.
func (s *socket) next() error {
	var head [8]byte
	if _, err := io.ReadFull(s.br, head[:2]); err != nil {
		return fmt.Errorf("web socket: %w", io.ErrUnexpectedEOF)
	}
	kind, masked, n := head[0]&15, head[1]&128 != 0, uint64(head[1]&127)
	switch n {
	case 126:
		if _, err := io.ReadFull(s.br, head[:2]); err != nil {
			return err
		}
		n = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		if _, err := io.ReadFull(s.br, head[:8]); err != nil {
			return err
		}
		n = binary.BigEndian.Uint64(head[:8])
	}
	if !masked {
		return errors.New("web socket: a client's frame is not masked")
	}
	if _, err := io.ReadFull(s.br, s.mask[:]); err != nil {
		return err
	}
	s.at = 0
	if kind < kindClose {
		s.rest = n
		return nil
	}
	if n > 125 {
		return errors.New("web socket: a control frame is too long")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(s.br, body); err != nil {
		return err
	}
	for i := range body {
		body[i] ^= s.mask[i&3]
	}
	switch kind {
	case kindClose:
		_ = s.CloseWrite() // the client is gone either way
		return fmt.Errorf("web socket: %w", net.ErrClosed)
	case kindPing:
		return s.frame(kindPong, body)
	}
	return nil
}

func (s *socket) Write(b []byte) (int, error) {
	if err := s.frame(s.kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (s *socket) frame(kind byte, b []byte) error {
	head := make([]byte, 0, 10)
	head = append(head, 128|kind)
	switch n := len(b); {
	case n < 126:
		head = append(head, byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 127), uint64(n))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return net.ErrClosed
	}
	s.mu.closed = kind == kindClose
	_, err := (&net.Buffers{head, b}).WriteTo(s.Conn)
	return err
}

// CloseWrite says that nothing more comes.
func (s *socket) CloseWrite() error {
	return s.frame(kindClose, binary.BigEndian.AppendUint16(nil, 1000))
}

// Close says good-bye, if that has not been done, and ends the connection.
func (s *socket) Close() error {
	_ = s.SetWriteDeadline(time.Now().Add(time.Second)) // a client that does not read is not waited for
	_ = s.CloseWrite()                                  // as above
	return s.Conn.Close()
}

// Plain takes the heads off a multiplexed stream: what comes out is both streams in one.
func Plain(p Peer) Peer { return &plain{Peer: p} }

type plain struct {
	Peer
	head [8]byte
	got  int    // of the head
	rest uint32 // of the frame
}

func (p *plain) Read(b []byte) (int, error) {
	for p.rest == 0 {
		n, err := p.Peer.Read(p.head[p.got:])
		if p.got += n; p.got == len(p.head) {
			p.got, p.rest = 0, binary.BigEndian.Uint32(p.head[4:])
		}
		if err != nil {
			return 0, err
		}
	}
	if uint32(len(b)) > p.rest {
		b = b[:p.rest]
	}
	n, err := p.Peer.Read(b)
	p.rest -= uint32(n)
	return n, err
}
