package drivers

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/logs"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)

func records(lines ...string) []logs.Record {
	var out []logs.Record
	for i, l := range lines {
		s := logs.Stdout
		if i%2 == 1 {
			s = logs.Stderr
		}
		out = append(out, logs.Record{Time: t0, Stream: s, Line: []byte(l + "\n")})
	}
	return out
}

func info(o map[string]string) Info {
	return Info{
		ContainerID: strings.Repeat("0123456789abcdef", 4), Name: "web", ImageID: "sha256:" + strings.Repeat("ab", 32), ImageName: "nginx:1", Command: "nginx -g x",
		Labels: map[string]string{"a": "1", "b": "2", "other": "3"}, Env: []string{"E=x", "F=y"}, Hostname: "host", Created: t0, Options: o,
	}
}

// must opens a driver whose options are good.
func must(t *testing.T, name string, o map[string]string) Forwarder {
	t.Helper()
	if err := Validate(name, o); err != nil {
		t.Fatal(err)
	}
	f, err := Open(name, info(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func send(t *testing.T, f Forwarder, rs []logs.Record) {
	t.Helper()
	if err := f.Send(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
}

// packets listens for datagrams.
func packets(t *testing.T, network, address string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c
}

func packet(t *testing.T, c net.PacketConn) []byte {
	t.Helper()
	b := make([]byte, 64<<10)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// accept takes the next connection.
func accept(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func like(t *testing.T, got, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Fatalf("got %q, want %s", got, pattern)
	}
}

func TestSyslogOverDatagrams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for name, c := range map[string]net.PacketConn{"udp": packets(t, "udp", "127.0.0.1:0"), "unixgram": packets(t, "unixgram", path)} {
		f := must(t, "syslog", map[string]string{"syslog-address": name + "://" + c.LocalAddr().String(), "tag": "{{.Name}}/{{.ID}}", "syslog-facility": "local0"})
		send(t, f, records("out", "err"))
		like(t, string(packet(t, c)), `^<134>\w{3} .\d \d\d:\d\d:05 web/0123456789ab\[\d+\]: out\n$`)
		like(t, string(packet(t, c)), `^<131>.*: err\n$`)
	}
}

func TestSyslogFormats(t *testing.T) {
	c := packets(t, "udp", "127.0.0.1:0")
	for format, want := range map[string]string{
		"rfc3164":      `^<30>\w{3} .\d \d\d:\d\d:05 host 0123456789ab\[\d+\]: x\n$`,
		"rfc5424":      `^<30>1 2026-01-0\dT\d\d:\d\d:05\S+ host 0123456789ab \d+ 0123456789ab - x\n$`,
		"rfc5424micro": `^<30>1 2026-01-0\dT\d\d:\d\d:05\.678000\S+ host `,
	} {
		f := must(t, "syslog", map[string]string{"syslog-address": "udp://" + c.LocalAddr().String(), "syslog-format": format})
		send(t, f, records("x"))
		like(t, string(packet(t, c)), want)
	}
}

func TestSyslogOverTCPComesBackWhenTheReceiverDoes(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	f := must(t, "syslog", map[string]string{"syslog-address": "tcp://" + ln.Addr().String()})
	send(t, f, records("one", "two"))
	c := accept(t, ln)
	br := bufio.NewReader(c)
	for _, want := range []string{"one", "two"} {
		line, err := br.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, ": "+want+"\n") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	_ = c.Close()
	address := ln.Addr().String()
	_ = ln.Close()
	if err := f.Send(t.Context(), records("lost?")); err == nil {
		t.Fatal("a receiver that is gone took a record")
	}
	ln = listen(t, "tcp", address)
	send(t, f, records("lost?"))
	line, err := bufio.NewReader(accept(t, ln)).ReadString('\n')
	if err != nil || !strings.HasSuffix(line, ": lost?\n") {
		t.Fatalf("%q, %v", line, err)
	}
}

// certificate makes a self-signed one for 127.0.0.1 and returns its PEM file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestSyslogOverTLS(t *testing.T) {
	cert, ca := certificate(t)
	ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{cert}})
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		var n int
		br := bufio.NewReader(c)
		if _, err := fmt.Fscanf(br, "%d ", &n); err != nil {
			got <- err.Error()
			return
		}
		b := make([]byte, n)
		_, err = io.ReadFull(br, b)
		got <- fmt.Sprint(string(b), err)
	}()
	o := map[string]string{"syslog-address": "tcp+tls://" + ln.Addr().String(), "syslog-format": "rfc5424", "syslog-tls-ca-cert": ca}
	send(t, must(t, "syslog", o), records("secret"))
	like(t, <-got, `^<30>1 .* - secret\n<nil>$`)
}

func TestSyslogRefusesAnUnknownAuthority(t *testing.T) {
	cert, _ := certificate(t)
	ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{cert}})
	go func() {
		if c, err := ln.Accept(); err == nil {
			_ = c.(*tls.Conn).HandshakeContext(t.Context()) // fails on their side
			_ = c.Close()
		}
	}()
	f := must(t, "syslog", map[string]string{"syslog-address": "tcp+tls://" + ln.Addr().String()})
	var unknown x509.UnknownAuthorityError
	if err := f.Send(t.Context(), records("x")); !errors.As(err, &unknown) {
		t.Fatalf("%v", err)
	}
}

func TestGelfOverUDP(t *testing.T) {
	c := packets(t, "udp", "127.0.0.1:0")
	long := make([]byte, 12000) // of bytes that do not compress
	_, _ = rand.Read(long)
	for _, kind := range []string{"gzip", "zlib", "none"} {
		f := must(t, "gelf", map[string]string{"gelf-address": "udp://" + c.LocalAddr().String(), "gelf-compression-type": kind, "labels": "a", "env-regex": "^F"})
		text := fmt.Sprintf("%x", long)
		send(t, f, records("", text))
		var whole []byte
		for i, n := 0, 1; i < n; i++ {
			p := packet(t, c)
			if len(p) > gelfChunk || p[0] != 0x1e || p[1] != 0x0f || int(p[10]) != i {
				t.Fatalf("chunk %d: % x…", i, p[:12])
			}
			n = int(p[11])
			whole = append(whole, p[12:]...)
		}
		var r io.Reader = bytes.NewReader(whole)
		var err error
		switch kind {
		case "gzip":
			r, err = gzip.NewReader(r)
		case "zlib":
			r, err = zlib.NewReader(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		checkGelfMessage(t, r, text, 3)
	}
}

func checkGelfMessage(t *testing.T, r io.Reader, text string, level float64) {
	t.Helper()
	var m map[string]any
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{
		"version": "1.1", "host": "host", "short_message": text, "level": level, "timestamp": float64(t0.UnixMilli()) / 1000, "_container_name": "web",
		"_image_name": "nginx:1", "_command": "nginx -g x", "_tag": "0123456789ab", "_a": "1", "_F": "y", "_b": nil,
	} {
		if m[k] != want {
			t.Errorf("%s is %v, want %v", k, m[k], want)
		}
	}
}

func TestGelfOverTCP(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	f := must(t, "gelf", map[string]string{"gelf-address": "tcp://" + ln.Addr().String(), "labels": "a", "env": "F"})
	send(t, f, records("one", "two"))
	br := bufio.NewReader(accept(t, ln))
	for i, text := range []string{"one", "two"} {
		m, err := br.ReadBytes(0)
		if err != nil {
			t.Fatal(err)
		}
		checkGelfMessage(t, bytes.NewReader(m[:len(m)-1]), text, []float64{6, 3}[i])
	}
}

// unpack decodes the forms of MessagePack that the forward protocol uses.
func unpack(t *testing.T, r *bufio.Reader) any {
	t.Helper()
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	array := func(n int) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = unpack(t, r)
		}
		return out
	}
	object := func(n int) map[string]any {
		out := map[string]any{}
		for range n {
			k := unpack(t, r).(string)
			out[k] = unpack(t, r)
		}
		return out
	}
	switch c := read(1)[0]; {
	case c>>4 == 8:
		return object(int(c & 15))
	case c>>4 == 9:
		return array(int(c & 15))
	case c>>5 == 5:
		return string(read(int(c & 31)))
	case c == 0xd9:
		return string(read(int(read(1)[0])))
	case c == 0xda:
		return string(read(int(binary.BigEndian.Uint16(read(2)))))
	case c == 0xdc:
		return array(int(binary.BigEndian.Uint16(read(2))))
	case c == 0xce:
		return binary.BigEndian.Uint32(read(4))
	case c == 0xd7:
		read(1)
		b := read(8)
		return time.Unix(int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))).UTC()
	default:
		t.Fatalf("code %x", c)
		return nil
	}
}

func TestFluentd(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	f := must(t, "fluentd", map[string]string{"fluentd-address": ln.Addr().String(), "tag": "docker.{{.Name}}", "fluentd-sub-second-precision": "true", "labels-regex": "^[ab]$"})
	rs := records("one", strings.Repeat("x", 70000))
	rs[0].Partial = true
	send(t, f, rs[:1])
	m := unpack(t, bufio.NewReader(accept(t, ln))).([]any)
	e := m[1].([]any)[0].([]any)
	want := map[string]any{"container_id": strings.Repeat("0123456789abcdef", 4), "container_name": "/web", "source": "stdout", "log": "one", "partial_message": "true", "a": "1", "b": "2"}
	if m[0] != "docker.web" || !e[0].(time.Time).Equal(t0) || fmt.Sprint(e[1]) != fmt.Sprint(want) || fmt.Sprint(m[2]) != "map[size:1]" {
		t.Fatalf("%v", m)
	}
}

func TestFluentdWaitsForTheAcknowledgement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listen(t, "unix", path)
	f := must(t, "fluentd", map[string]string{"fluentd-address": "unix://" + path, "fluentd-request-ack": "true"})
	done := make(chan error, 1)
	go func() { done <- f.Send(t.Context(), records(strings.Split(strings.Repeat("x ", 20), " ")...)) }()
	c := accept(t, ln)
	m := unpack(t, bufio.NewReader(c)).([]any)
	if len(m[1].([]any)) != 21 {
		t.Fatalf("%v", m)
	}
	select {
	case err := <-done:
		t.Fatalf("not acknowledged, but %v", err)
	default:
	}
	chunk := m[2].(map[string]any)["chunk"].(string)
	if _, err := c.Write(packString(packString(packMap(nil, 1), "ack"), chunk)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestJournald(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := packets(t, "unixgram", path)
	f, err := newJournald(info(map[string]string{"labels": "a"}), path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	send(t, f, []logs.Record{{Time: t0, Stream: logs.Stderr, Line: []byte("two\nlines\n")}})
	got := string(packet(t, c))
	for _, want := range []string{"MESSAGE\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\n", "\nPRIORITY=3\n", "\nCONTAINER_NAME=web\n", "\nSYSLOG_IDENTIFIER=0123456789ab\n", "\nA=1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for text, c := range map[string]struct {
		name string
		o    map[string]string
	}{
		"unknown log opt 'foo' for syslog log driver":                      {"syslog", map[string]string{"foo": "1"}},
		"syslog: unsupported scheme: 'http'":                               {"syslog", map[string]string{"syslog-address": "http://x"}},
		"invalid syslog facility":                                          {"syslog", map[string]string{"syslog-address": "udp://x", "syslog-facility": "nope"}},
		"Invalid syslog format":                                            {"syslog", map[string]string{"syslog-address": "udp://x", "syslog-format": "rfc1"}},
		"gelf-address is a required parameter":                             {"gelf", nil},
		"gelf: endpoint needs to be TCP or UDP":                            {"gelf", map[string]string{"gelf-address": "http://x:1"}},
		`unknown value "12" for log opt "gelf-compression-level" for gelf`: {"gelf", map[string]string{"gelf-address": "udp://x:1", "gelf-compression-level": "12"}},
		"unsupported scheme: 'ftp'":                                        {"fluentd", map[string]string{"fluentd-address": "ftp://x"}},
		"must specify a value for log opt 'awslogs-group'":                 {"awslogs", nil},
		"unknown log opt 'splunk-url' for awslogs log driver":              {"awslogs", map[string]string{"splunk-url": "1"}},
	} {
		if err := Validate(c.name, c.o); err == nil || !strings.Contains(err.Error(), text) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s %v: %v, want %s", c.name, c.o, err, text)
		}
	}
	if err := Validate("gcplogs", nil); !errdefs.IsNotImplemented(err) {
		t.Errorf("gcplogs: %v", err)
	}
}

func TestTagsAndAttributes(t *testing.T) {
	for tmpl, want := range map[string]string{
		"": "0123456789ab", "{{.ImageName}}|{{.ImageID}}|{{upper .Name}}": "nginx:1|abababababab|WEB", "{{.DaemonName}} {{json .Name}}": `docker "web"`,
	} {
		if got, err := Tag(info(map[string]string{"tag": tmpl}), "{{.ID}}"); err != nil || got != want {
			t.Errorf("%s: %q, %v", tmpl, got, err)
		}
	}
	if _, err := Tag(info(map[string]string{"tag": "{{.Nope}}"}), ""); err == nil {
		t.Error("an unknown field was accepted")
	}
	got, err := Attrs(info(map[string]string{"labels": "a,nope", "env-regex": "^[EF]$", "tag": "t"}))
	if want := map[string]string{"a": "1", "E": "x", "F": "y", "tag": "t"}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Attrs(info(nil)); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
