package network

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// network names for package net; a socket speaks one family only.
func netName(proto string, a netip.Addr) string {
	if a.Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// relayTCP listens and carries every connection to the container. It ends when it is closed; connections go on.
func relayTCP(at, to netip.AddrPort) (binding, error) {
	ln, err := net.Listen(netName("tcp", at.Addr()), at.String())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			in, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(50 * time.Millisecond) // no descriptors left: others must end first
				continue
			}
			go carry(in.(*net.TCPConn), to)
		}
	}()
	return ln, nil
}

// carry copies both ways until both ends are done. The kernel moves the bytes.
func carry(in *net.TCPConn, to netip.AddrPort) {
	defer in.Close()
	c, err := net.DialTimeout("tcp", to.String(), 10*time.Second)
	if err != nil {
		_ = in.SetLinger(0) // the client sees a reset, as if nobody listened
		return
	}
	out := c.(*net.TCPConn)
	defer out.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(out, in) // either end may go
		_ = out.CloseWrite()
	})
	_, _ = io.Copy(in, out) // as above
	_ = in.CloseWrite()
	wg.Wait()
}

const (
	udpIdle     = 90 * time.Second // a conversation without a packet ends
	udpSessions = 1024             // of one port; more clients wait for others to end
)

// udpRelay carries datagrams; each client has a socket of its own towards the container, so that answers find back.
type udpRelay struct {
	conn *net.UDPConn
	to   netip.AddrPort
	mu   sync.Mutex
	out  map[netip.AddrPort]*net.UDPConn
}

func relayUDP(at, to netip.AddrPort) (binding, error) {
	conn, err := net.ListenUDP(netName("udp", at.Addr()), net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	r := &udpRelay{conn: conn, to: to, out: map[netip.AddrPort]*net.UDPConn{}}
	go r.run()
	return r, nil
}

// Close ends the relay and all its conversations.
func (r *udpRelay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.out {
		_ = c.Close() // its goroutine sees it
	}
	return r.conn.Close()
}

func (r *udpRelay) run() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		if c := r.session(from); c != nil {
			_, _ = c.Write(buf[:n]) // datagrams may be lost
		}
	}
}

func (r *udpRelay) session(from netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.out[from]; c != nil {
		return c
	}
	if len(r.out) >= udpSessions {
		return nil
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.to))
	if err != nil {
		return nil
	}
	r.out[from] = c
	go r.answers(from, c)
	return c
}

func (r *udpRelay) answers(from netip.AddrPort, c *net.UDPConn) {
	defer func() {
		_ = c.Close() // nothing to lose
		r.mu.Lock()
		delete(r.out, from)
		r.mu.Unlock()
	}()
	buf := make([]byte, 64<<10)
	for {
		if c.SetReadDeadline(time.Now().Add(udpIdle)) != nil {
			return
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := r.conn.WriteToUDPAddrPort(buf[:n], from); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}
