package logs

import (
	"bytes"
	"sync"
)

// ring lets a writer that is slow lose records instead of stopping the container (mode=non-blocking): what does not fit into
// its room of bytes is dropped, oldest first.
type ring struct {
	w    Writer
	room int64

	mu      sync.Mutex
	more    sync.Cond
	queue   []Record
	size    int64
	dropped uint64
	closed  bool
	done    chan struct{}
}

func newRing(w Writer, room int64) *ring {
	r := &ring{w: w, room: room, done: make(chan struct{})}
	r.more.L = &r.mu
	go r.run()
	return r
}

func (r *ring) Write(rec Record) error {
	rec.Line = bytes.Clone(rec.Line)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, rec)
	r.size += int64(len(rec.Line))
	for r.size > r.room && len(r.queue) > 1 {
		r.size -= int64(len(r.queue[0].Line))
		r.queue = r.queue[1:]
		r.dropped++
	}
	r.more.Signal()
	return nil
}

func (r *ring) run() {
	defer close(r.done)
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.more.Wait()
		}
		batch := r.queue
		r.queue, r.size = nil, 0
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		if b, ok := r.w.(BatchWriter); ok {
			_ = b.WriteBatch(batch) // a full disk must not stop the container; what is lost is lost
			continue
		}
		for _, rec := range batch {
			_ = r.w.Write(rec) // as above
		}
	}
}

// Close writes what is there.
func (r *ring) Close() error {
	r.mu.Lock()
	r.closed = true
	r.more.Signal()
	r.mu.Unlock()
	<-r.done
	return r.w.Close()
}
