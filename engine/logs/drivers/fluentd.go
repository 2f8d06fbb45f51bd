package drivers

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/engine/logs"
)

// fluentd speaks the forward protocol, version 1, in its forward mode: a tag, the entries, and options.
type fluentd struct {
	link
	tag       string
	ack       bool
	subSecond bool
	fixed     map[string]string
}

func fluentdAddress(s string) (network, address string, secure bool, err error) {
	if s == "" {
		return "tcp", "127.0.0.1:24224", false, nil
	}
	if !strings.Contains(s, "://") {
		s = "tcp://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", false, fmt.Errorf("invalid fluentd-address %s: %w", s, err)
	}
	switch u.Scheme {
	case "unix":
		if strings.TrimLeft(u.Path, "/") == "" {
			return "", "", false, errors.New("invalid fluentd-address: path is empty")
		}
		return "unix", u.Path, false, nil
	case "tcp", "tls":
	default:
		return "", "", false, fmt.Errorf("invalid fluentd-address %s: unsupported scheme: '%s'", s, u.Scheme)
	}
	if u.Path != "" {
		return "", "", false, fmt.Errorf("invalid fluentd-address %s: should not contain a path element", s)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "24224"
	}
	return "tcp", net.JoinHostPort(host, port), u.Scheme == "tls", nil
}

func checkFluentd(o map[string]string) error {
	for _, k := range []string{"fluentd-async", "fluentd-async-connect", "fluentd-request-ack", "fluentd-sub-second-precision"} {
		if v, ok := o[k]; ok {
			if _, err := strconv.ParseBool(v); err != nil {
				return fmt.Errorf("invalid value for %s: %w", k, err)
			}
		}
	}
	for _, k := range []string{"fluentd-retry-wait", "fluentd-async-reconnect-interval", "fluentd-write-timeout", "fluentd-read-timeout"} {
		if v, ok := o[k]; ok {
			if _, err := time.ParseDuration(v); err != nil {
				return fmt.Errorf("invalid value for %s: %w", k, err)
			}
		}
	}
	if v, ok := o["fluentd-max-retries"]; ok {
		if _, err := strconv.ParseUint(v, 10, 31); err != nil {
			return fmt.Errorf("invalid value for fluentd-max-retries: %w", err)
		}
	}
	_, _, _, err := fluentdAddress(o["fluentd-address"])
	return err
}

func openFluentd(i Info) (Forwarder, error) {
	f := &fluentd{}
	var secure bool
	var err error
	if f.network, f.address, secure, err = fluentdAddress(i.Options["fluentd-address"]); err != nil {
		return nil, err
	}
	if secure {
		f.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if f.tag, err = Tag(i, "{{.ID}}"); err != nil {
		return nil, err
	}
	if f.fixed, err = Attrs(i); err != nil {
		return nil, err
	}
	f.ack, _ = strconv.ParseBool(i.Options["fluentd-request-ack"])                // checked before
	f.subSecond, _ = strconv.ParseBool(i.Options["fluentd-sub-second-precision"]) // as above
	if v := i.Options["fluentd-write-timeout"]; v != "" {
		f.timeout, _ = time.ParseDuration(v) // as above
	}
	fixed := map[string]string{"container_id": i.ContainerID, "container_name": "/" + i.Name}
	for k, v := range f.fixed {
		if k != "tag" {
			fixed[k] = v
		}
	}
	f.fixed = fixed
	return f, nil
}

func (f *fluentd) Send(ctx context.Context, rs []logs.Record) error {
	b := packArray(nil, 3)
	b = packString(b, f.tag)
	b = packArray(b, len(rs))
	for i := range rs {
		r := &rs[i]
		b = packArray(b, 2)
		if f.subSecond {
			b = append(b, 0xd7, 0) // the protocol's EventTime
			b = binary.BigEndian.AppendUint32(b, uint32(r.Time.Unix()))
			b = binary.BigEndian.AppendUint32(b, uint32(r.Time.Nanosecond()))
		} else {
			b = append(b, 0xce)
			b = binary.BigEndian.AppendUint32(b, uint32(r.Time.Unix()))
		}
		n := len(f.fixed) + 2
		if r.Partial {
			n++
		}
		b = packMap(b, n)
		for k, v := range f.fixed {
			b = packString(packString(b, k), v)
		}
		source := "stdout"
		if r.Stream == logs.Stderr {
			source = "stderr"
		}
		b = packString(packString(b, "source"), source)
		b = packString(packString(b, "log"), text(r))
		if r.Partial {
			b = packString(packString(b, "partial_message"), "true")
		}
	}
	chunk := ""
	if f.ack {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		chunk = base64.StdEncoding.EncodeToString(id[:])
		b = packMap(b, 2)
		b = packString(packString(b, "chunk"), chunk)
	} else {
		b = packMap(b, 1)
	}
	b = packString(b, "size")
	b = binary.BigEndian.AppendUint32(append(b, 0xce), uint32(len(rs)))
	if err := f.write(ctx, b); err != nil {
		return err
	}
	if !f.ack {
		return nil
	}
	// The answer is {"ack": chunk}; its length is known.
	want := packString(packString(packMap(nil, 1), "ack"), chunk)
	got := make([]byte, len(want))
	_ = f.conn.SetReadDeadline(time.Now().Add(time.Minute)) // sockets take it
	_, err := io.ReadFull(f.conn, got)
	if err == nil && string(got) != string(want) {
		err = errors.New("fluentd: the receiver acknowledged something else")
	}
	if err != nil {
		f.drop()
	}
	return err
}

// The few forms of MessagePack that are sent. Source: the MessagePack specification.

func packArray(b []byte, n int) []byte { return packSized(b, n, 0x90, 15, 0xdc) }
func packMap(b []byte, n int) []byte   { return packSized(b, n, 0x80, 15, 0xde) }

func packSized(b []byte, n int, small byte, most int, long byte) []byte {
	switch {
	case n <= most:
		return append(b, small|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, long), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long+1), uint32(n))
}

func packString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}
