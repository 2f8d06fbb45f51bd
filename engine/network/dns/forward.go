package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	upstreamTimeout = 4 * time.Second        // of one upstream
	headStart       = 250 * time.Millisecond // before the next upstream is asked too
	maxUpstreams    = 3                      // as resolv.conf(5) has it
)

// forward asks upstream and returns the answer for the client; it always has one.
func (s *Server) forward(raw []byte, q *dns.Msg, network string) []byte {
	ups := s.names.Upstreams()
	if len(ups) > maxUpstreams {
		ups = ups[:maxUpstreams]
	}
	ctx, cancel := context.WithTimeout(s.life, upstreamTimeout+time.Duration(len(ups))*headStart)
	defer cancel() // whoever answers later is not heard
	answers := make(chan []byte, len(ups))
	ask := func(u Upstream) {
		a, err := s.exchange(ctx, raw, q, network, u)
		if err != nil {
			a = nil
		}
		answers <- a
	}
	var fallback []byte
	asked, open := 0, 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for asked < len(ups) || open > 0 {
		select {
		case <-timer.C:
			if asked < len(ups) {
				u := ups[asked]
				s.wg.Go(func() { ask(u) })
				asked, open = asked+1, open+1
				timer.Reset(headStart)
			}
		case a := <-answers:
			open--
			if useful(a) {
				return a
			}
			if a != nil {
				fallback = a
			}
			timer.Reset(0) // do not wait for the head start of one that failed
		}
	}
	if fallback != nil {
		return fallback
	}
	return failure(q, dns.RcodeServerFailure)
}

// useful reports whether an answer settles the question: another server may do better on a failure or a refusal.
func useful(a []byte) bool {
	if len(a) < 12 {
		return false
	}
	code := int(a[3] & 0x0f)
	return code == dns.RcodeSuccess || code == dns.RcodeNameError
}

// exchange sends one question to one upstream, with an id of its own, and returns the answer with the client's.
func (s *Server) exchange(ctx context.Context, raw []byte, q *dns.Msg, network string, u Upstream) ([]byte, error) {
	c, err := s.dial(ctx, network, u)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // ends the read below
	defer stop()
	if err := c.SetDeadline(time.Now().Add(upstreamTimeout)); err != nil {
		return nil, err
	}
	msg := append([]byte(nil), raw...)
	_, _ = rand.Read(msg[:2]) // documented never to fail
	id := binary.BigEndian.Uint16(msg)
	if network == "tcp" {
		err = writeTCP(c, msg)
	} else {
		_, err = c.Write(msg)
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		var a []byte
		if network == "tcp" {
			if a, err = readTCP(c, len(buf)); err != nil {
				return nil, err
			}
		} else {
			n, err := c.Read(buf)
			if err != nil {
				return nil, err
			}
			a = buf[:n]
		}
		if !answers(a, id, q.Question[0]) {
			if network == "tcp" {
				return nil, errors.New("an answer to another question")
			}
			continue // forged or late
		}
		binary.BigEndian.PutUint16(a, q.Id)
		return a, nil
	}
}

// answers reports whether a message is the answer to a question that was sent with this id.
func answers(a []byte, id uint16, ask dns.Question) bool {
	if len(a) < 12 || binary.BigEndian.Uint16(a) != id || a[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(a[4:]) == 0 { // some servers leave the question out of an error
		return a[3]&0x0f != dns.RcodeSuccess
	}
	name, off, err := dns.UnpackDomainName(a, 12)
	return err == nil && off+4 <= len(a) && strings.EqualFold(name, ask.Name) && binary.BigEndian.Uint16(a[off:]) == ask.Qtype && binary.BigEndian.Uint16(a[off+2:]) == ask.Qclass
}
