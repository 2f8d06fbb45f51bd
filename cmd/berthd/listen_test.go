package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/cmd/berthd/config"
	"github.com/berthd/berth/compat"
)

func TestTCPAddress(t *testing.T) {
	for _, tc := range []struct {
		in         string
		secure     bool
		full, host string
	}{
		{"0.0.0.0:1", false, "0.0.0.0:1", "0.0.0.0"}, {"", false, "localhost:2375", "localhost"}, {":5", false, "localhost:5", "localhost"}, {"engine", true, "engine:2376", "engine"},
		{"[::1]:7", false, "[::1]:7", "::1"}, {"[::1]", true, "[::1]:2376", "::1"},
	} {
		if full, host := tcpAddress(tc.in, tc.secure); full != tc.full || host != tc.host {
			t.Errorf("%q: %q %q", tc.in, full, host)
		}
	}
}

// authority makes certificates below dir.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (a *authority) issue(t *testing.T, name string, self bool) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IsCA: self, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, signer := a.cert, a.key
	if self {
		parent, signer = tmpl, k
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &k.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if self {
		a.key = k
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	kb, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write := func(suffix, kind string, b []byte) string {
		p := filepath.Join(a.dir, name+suffix)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	return write(".pem", "CERTIFICATE", der), write("-key.pem", "EC PRIVATE KEY", kb)
}

// TestClientCertificates: clients of the given authority come in, by HTTP/1.1 and HTTP/2; others, and none, do not.
func TestClientCertificates(t *testing.T) {
	ours, theirs := &authority{dir: t.TempDir()}, &authority{dir: t.TempDir()}
	ca, _ := ours.issue(t, "ca", true)
	_, _ = theirs.issue(t, "ca", true)
	cert, key := ours.issue(t, "engine.test", false)
	clientCert, clientKey := ours.issue(t, "client", false)
	strangerCert, strangerKey := theirs.issue(t, "stranger", false)
	c, err := config.Parse([]string{"-H", "tcp://127.0.0.1:0", "--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	doors, tc, err := openDoors(c, log)
	if err != nil {
		t.Fatal(err)
	}
	if tc.MinVersion < tls.VersionTLS12 {
		t.Error("old TLS is allowed")
	}
	srv := newServer((&compat.Server{Log: log, Version: "t"}).Handler(), doors[0], log, tc)
	go func() { _ = srv.ServeTLS(doors[0], "", "") }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	for _, k := range []struct {
		name, cert, key, host string
		h2                    bool
		want                  string // of the answer; "" for none
	}{
		{"ours", clientCert, clientKey, "engine.test", false, "OK"},
		{"ours by HTTP/2", clientCert, clientKey, "engine.test", true, "OK"},
		{"ours, but to another host", clientCert, clientKey, "evil.test", false, "unknown host"},
		{"a stranger", strangerCert, strangerKey, "engine.test", false, ""},
		{"nobody", "", "", "engine.test", false, ""},
	} {
		t.Run(k.name, func(t *testing.T) {
			tc := &tls.Config{RootCAs: pool, ServerName: "engine.test"}
			if k.cert != "" {
				pair, err := tls.LoadX509KeyPair(k.cert, k.key)
				if err != nil {
					t.Fatal(err)
				}
				tc.Certificates = []tls.Certificate{pair}
			}
			tr := &http.Transport{TLSClientConfig: tc, ForceAttemptHTTP2: k.h2}
			defer tr.CloseIdleConnections()
			req, err := http.NewRequest(http.MethodGet, "https://"+doors[0].Addr().String()+"/_ping", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = k.host
			resp, err := tr.RoundTrip(req)
			if k.want == "" {
				if err == nil {
					t.Fatal("came in")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || !strings.Contains(string(b), k.want) || k.h2 != (resp.ProtoMajor == 2) {
				t.Errorf("%s %q %v", resp.Proto, b, err)
			}
		})
	}
}

// TestCleartextHTTP2: builders speak gRPC on the local socket; a hijack needs HTTP/1.1 and says so.
func TestCleartextHTTP2(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	log := slog.New(slog.DiscardHandler)
	l, err := listenUnix(path, "docker", log)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket: %v, %v", st, err)
	}
	if _, err := listenUnix(path, "docker", log); err == nil || !strings.Contains(err.Error(), "in use by another daemon") {
		t.Errorf("a second one: %v", err)
	}
	srv := newServer((&compat.Server{Log: log, Version: "t"}).Handler(), door{Listener: l}, log, nil)
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	defer tr.CloseIdleConnections()
	for _, k := range []struct{ method, path, want string }{{http.MethodGet, "/_ping", "OK"}, {http.MethodPost, "/containers/x/attach", "needs HTTP/1.1"}} {
		req, err := http.NewRequest(k.method, "http://engine"+k.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || !strings.Contains(string(b), k.want) {
			t.Errorf("%s: %s %q %v", k.path, resp.Proto, b, err)
		}
	}
}
