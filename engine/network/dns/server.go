package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Names knows what a client may find on its networks. Safe for concurrent use.
type Names interface {
	// Lookup returns a name's addresses; the name has no dot at its end and no capitals. known is false for a name to be
	// asked upstream.
	Lookup(name string) (addrs []netip.Addr, known bool)
	// Reverse returns the full name behind an address.
	Reverse(a netip.Addr) (name string, known bool)
	// Upstreams are whom to ask what is not known here; none means that nobody may be asked.
	Upstreams() []Upstream
	// Ndots tells that the user chose ndots: a name without a dot is then not for upstream.
	Ndots() bool
}

// Upstream is a name server.
type Upstream struct {
	Addr netip.AddrPort
	Host bool // is asked from the host's namespace, not the container's
}

// Dial opens a connection to an upstream; network is udp or tcp.
type Dial func(ctx context.Context, network string, u Upstream) (net.Conn, error)

const (
	maxQuery    = 4096             // bytes of a question
	maxPending  = 1024             // questions of one container that wait for upstream
	maxConns    = 64               // TCP connections of one container
	idleTimeout = 10 * time.Second // of a TCP connection
	ttl         = 600              // seconds, of answers from here
)

// Server answers on two sockets. Close ends it.
type Server struct {
	names   Names
	dial    Dial
	udp     *net.UDPConn
	tcp     net.Listener
	life    context.Context
	end     context.CancelFunc
	pending chan struct{}
	conns   chan struct{}
	wg      sync.WaitGroup
}

// Serve begins to answer.
func Serve(ctx context.Context, udp *net.UDPConn, tcp net.Listener, names Names, dial Dial) *Server {
	s := &Server{names: names, dial: dial, udp: udp, tcp: tcp, pending: make(chan struct{}, maxPending), conns: make(chan struct{}, maxConns)}
	s.life, s.end = context.WithCancel(ctx)
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
	return s
}

// Close ends the server and waits for what it began.
func (s *Server) Close() error {
	s.end()
	err := errors.Join(s.udp.Close(), s.tcp.Close())
	s.wg.Wait()
	return err
}

func (s *Server) serveUDP() {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		q := parse(buf[:n])
		if q == nil {
			continue // no answer to what is no question: it would only be amplified
		}
		if a := s.local(q, false); a != nil {
			_, _ = s.udp.WriteToUDPAddrPort(a, from) // the client asks again
			continue
		}
		select {
		case s.pending <- struct{}{}:
		default:
			continue // the client asks again
		}
		raw := append([]byte(nil), buf[:n]...)
		s.wg.Go(func() {
			defer func() { <-s.pending }()
			_, _ = s.udp.WriteToUDPAddrPort(s.forward(raw, q, "udp"), from) // as above
		})
	}
}

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-s.life.Done():
				return
			case <-time.After(50 * time.Millisecond): // no descriptors left: others must end first
			}
			continue
		}
		select {
		case s.conns <- struct{}{}:
		default:
			_ = c.Close() // too many at once
			continue
		}
		s.wg.Go(func() {
			defer func() { <-s.conns }()
			s.conversation(c)
		})
	}
}

// conversation answers one TCP client's questions until it goes or is idle.
func (s *Server) conversation(c net.Conn) {
	stop := context.AfterFunc(s.life, func() { _ = c.Close() }) // ends the reads below
	defer stop()
	defer c.Close()
	for {
		if c.SetDeadline(time.Now().Add(idleTimeout)) != nil {
			return
		}
		raw, err := readTCP(c, maxQuery)
		if err != nil {
			return
		}
		q := parse(raw)
		if q == nil {
			return
		}
		a := s.local(q, true)
		if a == nil {
			a = s.forward(raw, q, "tcp")
		}
		if writeTCP(c, a) != nil {
			return
		}
	}
}

func readTCP(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > limit {
		return nil, errors.New("the message is too long")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeTCP(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(m)+2), uint16(len(m))), m...))
	return err
}

// parse reads a message that asks exactly one question; nil for anything else.
func parse(raw []byte) *dns.Msg {
	m := &dns.Msg{}
	if m.Unpack(raw) != nil || m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 {
		return nil
	}
	return m
}
