package server

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

const (
	maxQueue = 1 << 20 // bytes in memory for each client
	maxSpool = 4 << 30 // bytes on disk for each client; then it is cut
)

// client is one attached connection. send never blocks: what does not fit into memory goes to an unlinked file.
type client struct {
	conn  *net.UnixConn
	which shim.Which
	dir   string

	mu     sync.Mutex
	ready  sync.Cond
	queue  []byte
	spool  *os.File
	r, w   int64 // read and write positions in spool
	busy   bool  // run is writing what it took out of queue or spool
	ending bool
	dead   bool
}

// queues holds buffers of maxQueue bytes for clients that lag; the garbage collector empties it.
var queues = sync.Pool{New: func() any { b := make([]byte, 0, maxQueue); return &b }}

func newClient(conn *net.UnixConn, w shim.Which, dir string) *client {
	c := &client{conn: conn, which: w, dir: dir}
	c.ready.L = &c.mu
	return c
}

func (c *client) send(head, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.ending {
		return
	}
	if c.spool == nil && len(c.queue) == 0 && !c.busy {
		head, b = c.direct(head, b)
		if len(head)+len(b) == 0 {
			return
		}
	}
	if c.spool == nil && len(c.queue)+len(head)+len(b) <= maxQueue {
		if c.queue == nil {
			c.queue = (*queues.Get().(*[]byte))[:0]
		}
		c.queue = append(append(c.queue, head...), b...)
		c.ready.Signal()
		return
	}
	if !c.toSpool(head) || !c.toSpool(b) {
		c.dead = true
		_ = c.conn.Close() // cut: its reader sees the end
	}
	c.ready.Signal()
}

// direct writes what the connection takes at once and returns the rest. The caller knows that nothing is waiting before it.
func (c *client) direct(head, b []byte) (restHead, rest []byte) {
	rc, err := c.conn.SyscallConn()
	if err != nil {
		return head, b
	}
	n := 0
	_ = rc.Write(func(fd uintptr) bool {
		n, _ = unix.SendmsgBuffers(int(fd), [][]byte{head, b}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) // run meets the error too
		return true
	})
	n = max(n, 0)
	cut := min(n, len(head))
	return head[cut:], b[n-cut:]
}

func (c *client) toSpool(b []byte) bool {
	if c.spool == nil {
		fd, err := unix.Open(c.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return false
		}
		c.spool, c.r, c.w = os.NewFile(uintptr(fd), "spool"), 0, 0
	}
	if c.w+int64(len(b)) > maxSpool {
		return false
	}
	n, err := c.spool.WriteAt(b, c.w)
	c.w += int64(n)
	return err == nil
}

// end lets run return after everything queued was delivered; cut at once.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.ready.Signal()
}

func (c *client) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	c.ready.Signal()
	_ = c.conn.Close() // its reader sees the end
}

// run delivers until the stream ends or the connection breaks, then closes the connection.
func (c *client) run() {
	defer func() {
		c.cut()
		if c.spool != nil {
			_ = c.spool.Close() // unlinked already
		}
	}()
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && c.spool == nil && !c.ending && !c.dead {
			c.ready.Wait()
		}
		if c.dead || len(c.queue) == 0 && c.spool == nil {
			c.mu.Unlock()
			return
		}
		out := c.queue
		c.queue = nil // an idle client holds no memory
		if len(out) == 0 {
			out = c.fromSpool((*queues.Get().(*[]byte))[:0])
		}
		c.busy = true
		c.mu.Unlock()
		_, err := c.conn.Write(out)
		queues.Put(&out)
		c.mu.Lock()
		c.busy = false
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// fromSpool takes the next piece; when the file is used up the client is back in memory.
func (c *client) fromSpool(b []byte) []byte {
	n := int(min(256<<10, c.w-c.r))
	if cap(b) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	n, _ = c.spool.ReadAt(b, c.r)
	c.r += int64(n)
	if c.r >= c.w || n == 0 {
		_ = c.spool.Close() // unlinked already
		c.spool = nil
	}
	return b[:n]
}

// replay queues what the log holds, and unfinished lines, for a client that is about to go live. The caller holds h.mu, so
// nothing is missed or doubled.
func (h *hub) replay(c *client) {
	o := logs.ReadOptions{Stdout: c.which.Stdout, Stderr: c.which.Stderr, Tail: -1}
	seq, err := logs.Read(context.Background(), h.io.Log, h.io.LogPath, o, nil)
	if err != nil {
		return
	}
	var buf []byte
	for r, err := range seq {
		if err != nil {
			return
		}
		buf = logs.AppendFrame(buf[:0], r, logs.FrameOptions{Raw: h.io.TTY})
		c.send(nil, buf)
	}
	for s, tail := range h.partial {
		if len(tail) > 0 {
			var head [8]byte
			head[0] = byte(s)
			binary.BigEndian.PutUint32(head[4:], uint32(len(tail)))
			if h.io.TTY {
				c.send(nil, tail)
			} else {
				c.send(head[:], tail)
			}
		}
	}
}
