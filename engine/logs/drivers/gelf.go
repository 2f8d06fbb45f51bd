package drivers

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/berthd/berth/engine/logs"
)

type gelf struct {
	link
	compress string // gzip, zlib, none
	level    int
	fixed    map[string]any // what all messages have
}

func checkGelf(o map[string]string) error {
	network, _, err := gelfAddress(o["gelf-address"])
	if err != nil {
		return err
	}
	for _, k := range []string{"gelf-compression-level", "gelf-compression-type"} {
		if network == "tcp" && o[k] != "" {
			return errors.New("compression is only supported on UDP")
		}
	}
	if v, ok := o["gelf-compression-level"]; ok {
		if n, err := strconv.Atoi(v); err != nil || n < -1 || n > 9 {
			return fmt.Errorf("unknown value %q for log opt %q for gelf log driver", v, "gelf-compression-level")
		}
	}
	switch v := o["gelf-compression-type"]; v {
	case "", "gzip", "zlib", "none":
	default:
		return fmt.Errorf("unknown value %q for log opt %q for gelf log driver", v, "gelf-compression-type")
	}
	for _, k := range []string{"gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"} {
		if v, ok := o[k]; ok {
			if n, err := strconv.Atoi(v); err != nil || n < 0 {
				return fmt.Errorf("%q must be a positive integer", k)
			}
			if network != "tcp" {
				return fmt.Errorf("%q is only valid for TCP", k)
			}
		}
	}
	return nil
}

func gelfAddress(s string) (network, address string, err error) {
	if s == "" {
		return "", "", errors.New("gelf-address is a required parameter")
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" {
		return "", "", errors.New("gelf: endpoint needs to be TCP or UDP")
	}
	if u.Port() == "" {
		return "", "", errors.New("gelf: please provide gelf-address as proto://host:port")
	}
	return u.Scheme, u.Host, nil
}

func openGelf(i Info) (Forwarder, error) {
	g := &gelf{compress: i.Options["gelf-compression-type"], level: 1}
	var err error
	if g.network, g.address, err = gelfAddress(i.Options["gelf-address"]); err != nil {
		return nil, err
	}
	if g.compress == "" {
		g.compress = "gzip"
	}
	if v := i.Options["gelf-compression-level"]; v != "" {
		if g.level, err = strconv.Atoi(v); err != nil {
			return nil, err
		}
	}
	tag, err := Tag(i, "{{.ID}}")
	if err != nil {
		return nil, err
	}
	attrs, err := Attrs(i)
	if err != nil {
		return nil, err
	}
	g.fixed = map[string]any{
		"version": "1.1", "host": i.Hostname, "_container_id": i.ContainerID, "_container_name": i.Name, "_image_id": i.ImageID, "_image_name": i.ImageName,
		"_command": i.Command, "_tag": tag, "_created": i.Created,
	}
	for k, v := range attrs {
		if k != "tag" {
			g.fixed["_"+k] = v
		}
	}
	return g, nil
}

func (g *gelf) message(r *logs.Record) ([]byte, error) {
	m := make(map[string]any, len(g.fixed)+4)
	for k, v := range g.fixed {
		m[k] = v
	}
	m["short_message"], m["level"] = text(r), severity(r)
	m["timestamp"] = float64(r.Time.UnixMicro()) / 1e6
	return json.Marshal(m)
}

func (g *gelf) Send(ctx context.Context, rs []logs.Record) error {
	var all []byte
	for i := range rs {
		if text(&rs[i]) == "" {
			continue // receivers refuse messages without a text
		}
		m, err := g.message(&rs[i])
		if err != nil {
			return err
		}
		if g.network == "tcp" {
			all = append(append(all, m...), 0)
			continue
		}
		if m, err = g.pack(m); err != nil {
			return err
		}
		if err := g.datagrams(ctx, m); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	return g.write(ctx, all)
}

func (g *gelf) pack(m []byte) ([]byte, error) {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch g.compress {
	case "none":
		return m, nil
	case "zlib":
		w, err = zlib.NewWriterLevel(&b, g.level)
	default:
		w, err = gzip.NewWriterLevel(&b, g.level)
	}
	if err != nil {
		return nil, err
	}
	_, err = w.Write(m)
	err = errors.Join(err, w.Close()) // which writes the rest
	return b.Bytes(), err
}

// Chunks of a message that is too long for one packet. Source: the GELF specification, "Chunking".
const (
	gelfChunk     = 1420
	gelfMaxChunks = 128
	gelfHead      = 12
)

func (g *gelf) datagrams(ctx context.Context, m []byte) error {
	if len(m) <= gelfChunk {
		return g.write(ctx, m)
	}
	const room = gelfChunk - gelfHead
	n := (len(m) + room - 1) / room
	if n > gelfMaxChunks {
		return nil // no receiver would take it: a line of 16 KiB never comes near
	}
	head := append([]byte{0x1e, 0x0f}, make([]byte, 8)...)
	_, _ = rand.Read(head[2:]) // never fails
	for i := range n {
		piece := append(append([]byte{}, head...), byte(i), byte(n))
		piece = append(piece, m[i*room:min(len(m), (i+1)*room)]...)
		if err := g.write(ctx, piece); err != nil {
			return err
		}
	}
	return nil
}
