package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

// hub moves the bytes of one process: output to the log first, then to the clients; the clients' input to stdin. It is the
// only reader of the output pipes. A slow client costs memory up to its bound and then a spool file; see client for when it
// slows the process down. It never keeps the log or another client from what there is.
type hub struct {
	io     shim.IO
	attrs  map[string]string
	exec   bool          // not init: nothing but a client sees its output
	strict func(*client) // for tests: smaller bounds
	pumps  sync.WaitGroup

	mu       sync.Mutex
	log      logs.Writer // nil for execs
	partial  [3][]byte   // unterminated tail of each stream
	batch    []logs.Record
	clients  map[*client]struct{}
	finished bool

	ended chan struct{} // closed when the process has been reaped: nobody is waited for any more

	turn chan struct{} // holds one token while a client's input is written: others queue
	in   struct {
		sync.Mutex          // not held while writing
		f          *os.File // write end of stdin or the console; nil when closed
	}
}

// ack is the answer to an open request; the stream follows it.
var ack = []byte("{}\n")

func newHub(o shim.IO, log logs.Writer) *hub {
	if log != nil && o.Log.Driver == logs.None {
		_ = log.Close() // nothing is cut into records that nobody keeps
		log = nil
	}
	return &hub{io: o, log: log, attrs: o.LogAttrs, clients: map[*client]struct{}{}, ended: make(chan struct{}), turn: make(chan struct{}, 1)}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, pipeSize); return &b }}

// A pipe is enlarged when it was found full: only a process that writes much pays for it.
const (
	defaultPipe = 64 << 10
	pipeSize    = 256 << 10
)

// pump reads f to its end. The buffer is held only while there is something to read: idle containers cost none.
func (h *hub) pump(f *os.File, stream logs.Stream) {
	defer h.pumps.Done()
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	large := false
	for {
		var n int
		var rerr error
		buf := (*[]byte)(nil)
		err := rc.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[]byte)
			n, rerr = readFD(int(fd), *buf)
			if again(rerr) {
				buffers.Put(buf)
				return false
			}
			return true
		})
		if err != nil {
			return
		}
		if n >= defaultPipe && !large {
			large = true
			_ = rc.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) }) // a terminal has no size
		}
		if n > 0 {
			h.output(stream, (*buf)[:n])
		}
		buffers.Put(buf)
		if n <= 0 || rerr != nil { // EOF; EIO when the last holder of a terminal is gone
			return
		}
	}
}

func (h *hub) output(stream logs.Stream, b []byte) {
	// Whoever is behind is waited for when nothing is held: the log is written, others have their share.
	for _, c := range h.distribute(stream, b) {
		c.yield(h.ended, h.frame(systemError, []byte("the client reads too slowly: output was lost\n")))
	}
}

// systemError is the stream of Docker's framing that ends a client's reading with an error.
const systemError logs.Stream = 3

func (h *hub) frame(stream logs.Stream, b []byte) []byte {
	if h.io.TTY {
		return b
	}
	return append(binary.BigEndian.AppendUint32([]byte{byte(stream), 0, 0, 0}, uint32(len(b))), b...)
}

// distribute gives output to the log and the clients, and returns those that have too much of it.
func (h *hub) distribute(stream logs.Stream, b []byte) (full []*client) {
	now := time.Now().UTC()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log != nil {
		h.record(stream, b, now)
	}
	if len(h.clients) == 0 {
		return nil
	}
	var head [8]byte
	head[0] = byte(stream)
	binary.BigEndian.PutUint32(head[4:], uint32(len(b)))
	for c := range h.clients {
		if stream == logs.Stdout && !c.which.Stdout || stream == logs.Stderr && !c.which.Stderr {
			continue
		}
		first := head[:]
		if h.io.TTY {
			first = nil
		}
		if c.send(first, b) {
			full = append(full, c)
		}
	}
	return full
}

// record cuts output into lines of at most logs.MaxRecord bytes and writes them with one call.
func (h *hub) record(stream logs.Stream, b []byte, now time.Time) {
	rs := h.batch[:0]
	rest := h.partial[stream]
	for len(b) > 0 {
		end, whole := lineEnd(b, logs.MaxRecord-len(rest))
		if !whole && len(rest)+end < logs.MaxRecord {
			h.partial[stream] = append(rest, b[:end]...)
			rest = nil
			goto out
		}
		line := b[:end]
		if len(rest) > 0 {
			line = append(rest, line...)
			h.partial[stream], rest = nil, nil
		}
		rs = append(rs, logs.Record{Time: now, Stream: stream, Line: line, Partial: !whole, Attrs: h.attrs})
		b = b[end:]
	}
	h.partial[stream] = rest
out:
	h.batch = rs
	if len(rs) == 0 {
		return
	}
	if w, ok := h.log.(logs.BatchWriter); ok {
		_ = w.WriteBatch(rs) // a full disk must not stop the container; what is lost is lost
	} else {
		for _, r := range rs {
			_ = h.log.Write(r) // as above
		}
	}
	clear(rs)
}

// lineEnd returns how many bytes of b belong to the line, at most limit, and whether its newline is among them.
func lineEnd(b []byte, limit int) (int, bool) {
	n := min(len(b), limit)
	if i := bytes.IndexByte(b[:n], '\n'); i >= 0 {
		return i + 1, true
	}
	return n, false
}

// finish is called when the process has been reaped: it waits for the pipes' end, but not for strangers that hold them.
func (h *hub) finish() {
	close(h.ended)
	done := make(chan struct{})
	go func() { h.pumps.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
	}
	h.closeStdin()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log == nil {
		return
	}
	for s, tail := range h.partial {
		if len(tail) > 0 {
			_ = h.log.Write(logs.Record{Time: time.Now().UTC(), Stream: logs.Stream(s), Line: tail, Attrs: h.attrs}) // see record
			h.partial[s] = nil
		}
	}
	_ = h.log.Close() // nothing to tell anybody
	h.log = nil
}

// endStreams lets every client end after what it has coming.
func (h *hub) endStreams() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finished = true
	for c := range h.clients {
		c.end()
	}
	clear(h.clients)
}

// attach makes conn a client until either side ends; it blocks. early holds input that came with the request. The client is
// told (ack) only when it is registered: whoever starts the process after that misses nothing.
func (h *hub) attach(conn *net.UnixConn, early io.Reader, w shim.Which) {
	c := newClient(conn, w, h.spoolDir())
	c.hold = h.exec
	if h.strict != nil {
		h.strict(c)
	}
	h.mu.Lock()
	if w.Replay && h.io.Log.Driver != logs.None && h.io.LogPath != "" {
		h.replay(c)
	}
	if h.finished {
		c.end()
	} else {
		h.clients[c] = struct{}{}
	}
	h.mu.Unlock()
	if _, err := conn.Write(ack); err != nil {
		c.cut()
	}
	go h.input(c, early)
	c.run()
	h.mu.Lock()
	delete(h.clients, c)
	h.mu.Unlock()
}

func (h *hub) spoolDir() string {
	if h.io.LogPath != "" {
		return filepath.Dir(h.io.LogPath)
	}
	return os.TempDir()
}

// input copies a client's bytes to stdin. What the end of the input means depends on the process: see types.go.
func (h *hub) input(c *client, early io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := early.Read(buf)
		if n > 0 && c.which.Stdin {
			h.toStdin(buf[:n])
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			c.cut()
			return
		}
		switch {
		case !c.which.Stdin || !h.io.Stdin:
		case h.io.StdinOnce && !h.io.TTY:
			h.turn <- struct{}{} // what another client is writing goes first
			h.closeStdin()
			<-h.turn
		default:
			c.cut() // the session ends, stdin stays open
		}
		return
	}
}

// toStdin writes one piece; a process that does not read holds its writers, but not who ends it.
func (h *hub) toStdin(b []byte) {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	h.in.Lock()
	f := h.in.f
	h.in.Unlock()
	if f != nil {
		_, _ = f.Write(b) // a process that closed its stdin, or has ended: the bytes go nowhere
	}
}

// closeStdin also ends a write that waits for the process.
func (h *hub) closeStdin() {
	h.in.Lock()
	defer h.in.Unlock()
	if h.in.f != nil {
		_ = h.in.f.Close() // nothing to lose
		h.in.f = nil
	}
}
