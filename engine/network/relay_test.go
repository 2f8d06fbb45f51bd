package network

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// there is what the relays of these tests lead to: an echo for both transports on one address.
func there(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(); _ = u.Close() }) // ends both loops
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // the test sees what comes back
			}()
		}
	}()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDPAddrPort(buf[:n], from) // as above
		}
	}()
	return at
}

func TestRelayTCP(t *testing.T) {
	to := there(t)
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if _, err := relayTCP(at, to); err == nil {
		t.Fatal("the port is taken, and the relay does not see it")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := relayTCP(at, to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp6", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	// What is under way goes on when the port is let go; the end of the input is passed on, too.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := net.Dial("tcp6", at.String()); err == nil {
		t.Error("a closed relay answers")
	}
}

func TestRelayUDP(t *testing.T) {
	to := there(t)
	r, err := relayUDP(netip.MustParseAddrPort("[::1]:0"), to)
	if err != nil {
		t.Skip("no IPv6 here")
	}
	defer r.Close()
	at := r.(*udpRelay).conn.LocalAddr().String()
	for _, word := range []string{"one", "two"} { // two clients, each gets its own back
		c, err := net.Dial("udp6", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.Write([]byte(word)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 16)
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != word {
				t.Errorf("%q, %v; want %q", buf[:n], err, word)
			}
		}
	}
}
