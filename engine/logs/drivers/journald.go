package drivers

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/engine/logs"
)

// journalSocket takes native messages. Source: systemd's documentation of the native journal protocol.
const journalSocket = "/run/systemd/journal/socket"

type journald struct {
	link
	fixed [][2]string
}

func openJournald(i Info) (Forwarder, error) {
	if _, err := os.Stat(journalSocket); err != nil {
		return nil, errors.New("journald is not enabled on this host")
	}
	return newJournald(i, journalSocket)
}

func newJournald(i Info, socket string) (Forwarder, error) {
	tag, err := Tag(i, "{{.ID}}")
	if err != nil {
		return nil, err
	}
	attrs, err := Attrs(i)
	if err != nil {
		return nil, err
	}
	j := &journald{link: link{network: "unixgram", address: socket}, fixed: [][2]string{
		{"CONTAINER_ID", shortID(i.ContainerID)}, {"CONTAINER_ID_FULL", i.ContainerID}, {"CONTAINER_NAME", i.Name}, {"CONTAINER_TAG", tag},
		{"IMAGE_NAME", i.ImageName}, {"SYSLOG_IDENTIFIER", tag},
	}}
	for k, v := range attrs {
		if k != "tag" {
			j.fixed = append(j.fixed, [2]string{fieldName(k), v})
		}
	}
	return j, nil
}

// fieldName makes a name that the journal takes: letters, digits and underscores, no underscore in front.
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(s))
	return strings.TrimLeft(s, "_")
}

func (j *journald) Send(ctx context.Context, rs []logs.Record) error {
	for i := range rs {
		r := &rs[i]
		b := field(nil, "MESSAGE", text(r))
		b = field(b, "PRIORITY", strconv.Itoa(severity(r)))
		b = field(b, "SYSLOG_TIMESTAMP", r.Time.Format(time.RFC3339Nano))
		for _, f := range j.fixed {
			b = field(b, f[0], f[1])
		}
		if r.Partial {
			b = field(b, "CONTAINER_PARTIAL_MESSAGE", "true")
		}
		if err := j.write(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func field(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = binary.LittleEndian.AppendUint64(append(b, '\n'), uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	return append(append(b, value...), '\n')
}
