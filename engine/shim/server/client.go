package server

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/shim"
)

const (
	maxQueue       = 1 << 20         // bytes in memory for each client
	maxSpool       = 4 << 30         // bytes on disk for each client
	clientPatience = 5 * time.Second // how long a client whose spool is full may read nothing before it is cut
	punch          = 16 << 20        // the spool's room is given back in pieces of so many bytes
)

// client is one attached connection. send never blocks: what does not fit into memory goes to an unlinked file, not into the
// log, which cannot hold every byte. A client whose spool is full slows its process down as long as it reads at all; one that
// stopped is cut with an error. An exec has nothing but its client, so its process is held as soon as the memory is full.
type client struct {
	conn     *net.UnixConn
	which    shim.Which
	dir      string
	hold     bool  // no spool: the process waits
	room     int64 // of the spool
	patience time.Duration

	mu     sync.Mutex
	ready  sync.Cond
	queue  []byte
	spool  *os.File
	r, w   int64 // read and write positions in spool
	busy   bool  // run is writing what it took out of queue or spool, or has not begun: nothing may go before the ack
	freed  int64 // of the spool, from its beginning
	moved  int64 // bytes taken from queue and spool, ever
	ending bool
	dead   bool
}

// queues holds buffers of maxQueue bytes for clients that lag; the garbage collector empties it.
var queues = sync.Pool{New: func() any { b := make([]byte, 0, maxQueue); return &b }}

func newClient(conn *net.UnixConn, w shim.Which, dir string) *client {
	c := &client{conn: conn, which: w, dir: dir, room: maxSpool, patience: clientPatience, busy: true}
	c.ready.L = &c.mu
	return c
}

// send queues a frame. It reports whether the client has more than its share, so that the process should wait: see yield.
func (c *client) send(head, b []byte) (full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.ending {
		return false
	}
	if c.spool == nil && len(c.queue) == 0 && !c.busy {
		head, b = c.direct(head, b)
		if len(head)+len(b) == 0 {
			return false
		}
	}
	if c.spool == nil && (c.hold || len(c.queue)+len(head)+len(b) <= maxQueue) {
		if c.queue == nil {
			c.queue = (*queues.Get().(*[]byte))[:0]
		}
		c.queue = append(append(c.queue, head...), b...)
	} else if !c.toSpool(head) || !c.toSpool(b) {
		c.dead = true
		_ = c.conn.Close() // cut: its reader sees the end
	}
	c.ready.Broadcast()
	return c.fullLocked()
}

func (c *client) fullLocked() bool {
	return !c.dead && !c.ending && (len(c.queue) > maxQueue || c.spool != nil && c.w-c.r > c.room)
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
		c.spool, c.r, c.w, c.freed = os.NewFile(uintptr(fd), "spool"), 0, 0, 0
	}
	n, err := c.spool.WriteAt(b, c.w)
	c.w += int64(n)
	return err == nil
}

// yield waits until the client has room or is gone, or the process ended. A client that holds nobody but its own process may
// take its time; another one that reads nothing for a while is cut, with told as its last frame.
func (c *client) yield(ended <-chan struct{}, told []byte) {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-ended:
			c.wake()
		case <-stop:
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	for moved, since := c.moved, time.Now(); c.fullLocked() && !closed(ended); {
		if c.hold {
			c.ready.Wait()
			continue
		}
		wake := time.AfterFunc(c.patience, c.wake)
		c.ready.Wait()
		wake.Stop()
		if c.moved != moved {
			moved, since = c.moved, time.Now()
		} else if time.Since(since) >= c.patience {
			_ = c.toSpool(told) // it is cut in any case
			c.ending = true
		}
	}
}

// wake makes whoever waits look again. The lock keeps it from coming between a look and the wait.
func (c *client) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready.Broadcast()
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// end lets run return after everything queued was delivered; cut at once.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.ready.Broadcast()
}

func (c *client) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	c.ready.Broadcast()
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
	c.mu.Lock()
	c.busy = false
	c.mu.Unlock()
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
		c.moved += int64(len(out))
		c.queue = nil // an idle client holds no memory
		if len(out) == 0 {
			out = c.fromSpool((*queues.Get().(*[]byte))[:0])
		}
		c.busy = true
		c.ready.Broadcast() // who yields looks again
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
	c.moved += int64(n)
	if c.r-c.freed >= punch {
		_ = unix.Fallocate(int(c.spool.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, c.freed, c.r-c.freed) // where the file system can
		c.freed = c.r
	}
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
