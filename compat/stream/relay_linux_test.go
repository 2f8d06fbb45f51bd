package stream

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// sockets returns two ends of a connection of the given kind.
func sockets(t *testing.T, network string) (a, b net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// late ends only when it is told to, as the stream of an exec does.
type late struct {
	*net.UnixConn
	told bool
}

func (l *late) Socket() *net.UnixConn { return l.UnixConn }
func (l *late) Read(b []byte) (int, error) {
	l.told = true
	return l.UnixConn.Read(b)
}

// hidden has no socket that could be seen.
type hidden struct{ Peer }

func TestRelayBringsEverything(t *testing.T) {
	want := make([]byte, 5<<20+123)
	_, _ = rand.Read(want)
	for name, tc := range map[string]struct {
		client string
		hide   bool
	}{"unix": {"unix", false}, "tcp": {"tcp", false}, "copied": {"unix", true}} {
		t.Run(name, func(t *testing.T) {
			client, ours := sockets(t, tc.client)
			shim, from := sockets(t, "unix")
			l := &late{UnixConn: from.(*net.UnixConn)}
			var p Peer = l
			if tc.hide {
				p = hidden{l}
			}
			go func() {
				_, _ = shim.Write(want)
				_ = shim.Close()
			}()
			done := make(chan error, 1)
			go func() {
				err := relay(ours, p)
				_ = ours.Close()
				done <- err
			}()
			got, err := io.ReadAll(client)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if !l.told {
				t.Error("the stream was not asked for its end")
			}
		})
	}
}

func TestRelayEndsWithTheClient(t *testing.T) {
	client, ours := sockets(t, "unix")
	shim, from := sockets(t, "unix")
	done := make(chan error, 1)
	go func() { done <- relay(ours, from.(*net.UnixConn)) }()
	_ = client.Close()
	go func() {
		for {
			if _, err := shim.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	if err := <-done; err == nil {
		t.Error("no error although the client is gone")
	}
	_ = from.Close()
}
