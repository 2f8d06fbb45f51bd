package stream

import (
	"encoding/binary"
	"io"
)

const frameHead = 8

// AppendFrame appends b as one frame of stdout.
func AppendFrame(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(dst, 1, 0, 0, 0), uint32(len(b))), b...)
}

// Frame makes frames of a peer's raw output: of a terminal whose client asked for frames.
func Frame(p Peer) Peer { return &framer{Peer: p} }

type framer struct {
	Peer
	rest []byte
}

func (f *framer) Read(b []byte) (int, error) {
	if len(f.rest) == 0 {
		raw := make([]byte, 16<<10)
		n, err := f.Peer.Read(raw)
		if n == 0 {
			return 0, err
		}
		f.rest = AppendFrame(f.rest[:0], raw[:n]) // an error comes again at the next read
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Unframe makes raw output of a peer's frames: stdout alone, as dockerd does for a client that takes the process for one with
// a terminal.
func Unframe(p Peer) Peer { return &unframer{Peer: p} }

type unframer struct {
	Peer
	left int64 // of the frame that is being read
}

func (f *unframer) Read(b []byte) (int, error) {
	for f.left == 0 {
		var head [frameHead]byte
		if _, err := io.ReadFull(f.Peer, head[:]); err != nil {
			return 0, err
		}
		n := int64(binary.BigEndian.Uint32(head[4:]))
		if head[0] == 1 {
			f.left = n
			continue
		}
		if _, err := io.CopyN(io.Discard, f.Peer, n); err != nil {
			return 0, err
		}
	}
	n, err := f.Peer.Read(b[:min(int64(len(b)), f.left)])
	f.left -= int64(n)
	return n, err
}
