package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/cmd/berthd/config"
	"github.com/berthd/berth/compat"
)

// door is one socket and what the handlers are told of it.
type door struct {
	net.Listener
	rules compat.Listener
}

// Default ports of TCP addresses that name none.
const (
	plainPort  = "2375"
	securePort = "2376"
)

// openDoors binds every address, or none.
func openDoors(c *config.Config, log *slog.Logger) (doors []door, tc *tls.Config, err error) {
	defer func() {
		if err != nil {
			for _, d := range doors {
				_ = d.Close() // the error that matters is err
			}
		}
	}()
	var names []string
	if c.TLS {
		if tc, names, err = tlsConfig(c); err != nil {
			return nil, nil, err
		}
	}
	for _, h := range c.Hosts {
		scheme, addr, _ := strings.Cut(h, "://")
		var ls []net.Listener
		known := names
		switch scheme {
		case "fd":
			ls, err = inherited(addr)
		case "tcp":
			var host string
			addr, host = tcpAddress(addr, c.TLS)
			if _, perr := netip.ParseAddr(host); perr != nil && host != "" {
				known = append([]string{host}, names...)
			}
			if !c.TLSVerify {
				log.Warn("the API listens on TCP without client certificates: whoever reaches it is root here", "address", addr)
			}
			var l net.Listener
			l, err = net.Listen("tcp", addr)
			ls = []net.Listener{l}
		default:
			var l net.Listener
			l, err = listenUnix(addr, c.Group, log)
			ls = []net.Listener{l}
		}
		if err != nil {
			return doors, nil, err
		}
		for _, l := range ls {
			_, tcp := l.(*net.TCPListener)
			if tcp && scheme == "fd" && !c.TLSVerify {
				log.Warn("the API listens on TCP without client certificates: whoever reaches it is root here", "address", l.Addr().String())
			}
			doors = append(doors, door{l, compat.Listener{TCP: tcp, Names: known}})
		}
	}
	return doors, tc, nil
}

// tcpAddress fills in what an address leaves out; host is the name or address that it gave.
func tcpAddress(addr string, secure bool) (full, host string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), ""
	}
	if port == "" {
		port = plainPort
		if secure {
			port = securePort
		}
	}
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), host
}

// inherited are the sockets that systemd opened: all, or those of a name.
func inherited(name string) ([]net.Listener, error) {
	if name == "" || name == "*" {
		ls, err := activation.Listeners()
		if err == nil && len(ls) == 0 {
			err = errors.New("no sockets found via socket activation: make sure the service was started by systemd")
		}
		return ls, err
	}
	byName, err := activation.ListenersWithNames()
	if err == nil && len(byName[name]) == 0 {
		err = fmt.Errorf("no such systemd activation socket: %s", name)
	}
	return byName[name], err
}

func listenUnix(addr, group string, log *slog.Logger) (net.Listener, error) {
	if conn, err := net.Dial("unix", addr); err == nil {
		_ = conn.Close() // only asked
		return nil, fmt.Errorf("%s is in use by another daemon", addr)
	}
	if err := os.Remove(addr); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", addr)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	gid, err := groupID(group)
	if err != nil && group == "docker" { // the default one need not be there
		log.Warn("the socket belongs to root alone", "error", err)
		return l, nil
	}
	if err == nil {
		err = os.Chown(addr, 0, gid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("can't create unix socket %s: %w", addr, err), l.Close())
	}
	return l, nil
}

// groupID takes a name or a number.
func groupID(group string) (int, error) {
	g, err := user.LookupGroup(group)
	if err == nil {
		group = g.Gid
	}
	gid, aerr := strconv.Atoi(group)
	if aerr != nil {
		return 0, fmt.Errorf("group %s not found", group)
	}
	return gid, nil
}

// tlsConfig serves the certificate and, with verification, takes clients of the given authority alone. names are those that the
// certificate is good for.
func tlsConfig(c *config.Config) (*tls.Config, []string, error) {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("could not load X509 key pair (cert: %q, key: %q): %w", c.Cert, c.Key, err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, nil, err
	}
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if !c.TLSVerify {
		return tc, names, nil
	}
	pem, err := os.ReadFile(c.CACert)
	if err != nil {
		return nil, nil, fmt.Errorf("could not read CA certificate %q: %w", c.CACert, err)
	}
	pool := x509.NewCertPool() // of its own: the system's authorities have no say here
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("failed to append certificates from PEM file: %q", c.CACert)
	}
	tc.ClientAuth, tc.ClientCAs = tls.RequireAndVerifyClientCert, pool
	return tc, names, nil
}
