package logs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
)

// localFormat is the form of the driver local, which is also the spool of remote drivers. It is berth's own: docker's tools do
// not read files of this driver either. Numbers are big-endian. A record is
//
//	length of what follows up to the second length   4 bytes
//	stream; bit 7: more of the same line follows     1
//	number of the record, counted from 1             8
//	time, nanoseconds of the Unix epoch              8
//	text                                             …
//	the same length again                            4
//
// so files can be read backwards, and a record torn by a crash is seen.
type localFormat struct{}

const (
	localHead    = 1 + 8 + 8
	localFrame   = 4 + localHead + 4
	localPartial = 0x80
	localMax     = localHead + 4*MaxRecord // of the length
)

func (localFormat) append(b []byte, r *Record) []byte {
	n := uint32(localHead + len(r.Line))
	b = binary.BigEndian.AppendUint32(b, n)
	kind := byte(r.Stream)
	if r.Partial {
		kind |= localPartial
	}
	b = append(b, kind)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = append(b, r.Line...)
	return binary.BigEndian.AppendUint32(b, n)
}

func (localFormat) next(br *bufio.Reader, buf []byte, r *Record) (int, []byte, bool, error) {
	// Nothing is taken from br before the whole record is there.
	head, err := br.Peek(4)
	if err != nil {
		return 0, buf, false, io.EOF
	}
	n := int(binary.BigEndian.Uint32(head))
	if n < localHead || n > localMax {
		return 0, buf, false, io.EOF // not a record: what follows a torn one is never read as something else
	}
	all, err := br.Peek(n + 8)
	if err != nil || binary.BigEndian.Uint32(all[n+4:]) != uint32(n) {
		return 0, buf, false, io.EOF
	}
	buf = append(buf[:0], all[4+localHead:4+n]...)
	*r = parseHead(all[4:])
	r.Line = buf
	_, err = br.Discard(n + 8)
	return n + 8, buf, true, err
}

func parseHead(b []byte) Record {
	return Record{
		Stream: Stream(b[0] &^ localPartial), Partial: b[0]&localPartial != 0,
		Seq: binary.BigEndian.Uint64(b[1:]), Time: time.Unix(0, int64(binary.BigEndian.Uint64(b[9:]))).UTC(),
	}
}

func (localFormat) seekTail(f *os.File, n *int) (bool, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	for *n > 0 && end > 0 {
		start, _, ok := before(f, end)
		if !ok { // torn: its beginning is found from the front
			if end, err = whole(f); err != nil || end == 0 {
				break
			}
			continue
		}
		end = start
		*n--
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	return *n == 0, err
}

// before reads the record that ends at end: where it begins, and its head.
func before(f *os.File, end int64) (start int64, r Record, ok bool) {
	var tail [4]byte
	if end < localFrame {
		return 0, r, false
	}
	if _, err := f.ReadAt(tail[:], end-4); err != nil {
		return 0, r, false
	}
	n := int64(binary.BigEndian.Uint32(tail[:]))
	start = end - n - 8
	if n < localHead || n > localMax || start < 0 {
		return 0, r, false
	}
	var head [4 + localHead]byte
	if _, err := f.ReadAt(head[:], start); err != nil || [4]byte(head[:4]) != tail {
		return 0, r, false
	}
	return start, parseHead(head[4:]), true
}

// whole is the length of f up to the end of its last whole record, found from the front.
func whole(f *os.File) (int64, error) {
	br := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 256<<10)
	var end int64
	var buf []byte
	var r Record
	for {
		n, b, _, err := localFormat{}.next(br, buf, &r)
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
		buf, end = b, end+int64(n)
	}
}

func (localFormat) lastSeq(f *os.File) (uint64, int64, error) {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return 0, -1, err
	}
	end := st.Size()
	_, r, ok := before(f, end)
	if !ok {
		if end, err = whole(f); err != nil || end == 0 {
			return 0, end, err
		}
		_, r, _ = before(f, end)
	}
	return r.Seq, end, nil
}
