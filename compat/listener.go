package compat

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/berthd/berth/compat/wire"
)

// Listener is what the handlers know of the socket that a request came through.
type Listener struct {
	TCP   bool     // reachable by browsers and neighbours
	Names []string // host names it answers to, beside its own addresses: of the listen address and the certificate
}

type listenerKey struct{}

// With notes the listener in the context of a connection; for http.Server.ConnContext.
func (l Listener) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, listenerKey{}, l)
}

// listenerRules keeps browsers out of TCP sockets: a page of another site can reach them by a name that resolves there. The
// host must be an address of the connection or a known name, and no page may be the origin. Unix sockets take any host.
func listenerRules(r *http.Request) error {
	l, _ := r.Context().Value(listenerKey{}).(Listener)
	if !l.TCP {
		return nil
	}
	if o := r.Header.Get("Origin"); o != "" {
		return wire.Forbidden("requests from web pages are refused (Origin: %s)", o)
	}
	if !knownHost(r, l.Names) {
		return wire.Forbidden("unknown host in the Host header: %s", r.Host)
	}
	return nil
}

func knownHost(r *http.Request, names []string) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "" || slices.Contains(names, host) { // buildx sends none
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if local == nil {
		return false
	}
	own := local.AddrPort().Addr().Unmap()
	if host == "localhost" {
		return own.IsLoopback()
	}
	host = strings.Trim(host, "[]")
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().WithZone("") == own.WithZone("")
}
