package logs

import (
	"encoding/binary"
	"net/url"
)

// FrameOptions says how records are rendered for a client.
type FrameOptions struct {
	Timestamps, Details bool
	Raw                 bool // TTY: no frame headers
}

// stamp is RFC 3339 with exactly nine digits; resuming clients parse it.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// AppendFrame appends one record as the logs endpoint sends it: an 8-byte stdcopy header unless raw, then time, details
// and text. Source: wire form recorded from dockerd.
func AppendFrame(dst []byte, r Record, o FrameOptions) []byte {
	head := len(dst)
	if !o.Raw {
		dst = append(dst, byte(r.Stream), 0, 0, 0, 0, 0, 0, 0)
	}
	body := len(dst)
	if o.Timestamps {
		dst = r.Time.UTC().AppendFormat(dst, stamp)
		dst = append(dst, ' ')
	}
	if o.Details {
		for i, k := range sortedKeys(r.Attrs) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, url.QueryEscape(k)...)
			dst = append(dst, '=')
			dst = append(dst, url.QueryEscape(r.Attrs[k])...)
		}
		dst = append(dst, ' ')
	}
	dst = append(dst, r.Line...)
	if !o.Raw {
		binary.BigEndian.PutUint32(dst[head+4:], uint32(len(dst)-body))
	}
	return dst
}
