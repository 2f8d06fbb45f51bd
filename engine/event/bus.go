package event

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"
)

// ringSize is how many events are kept in memory; at least dockerd's 256.
const ringSize = 4096

// Bus carries events to any number of subscribers. Publish never blocks; a subscriber that falls more than the ring
// behind goes on from the journal, and with the oldest event still there if there is none.
type Bus struct {
	mu        sync.Mutex
	ring      []Event       // the event of number n is at (n-base) modulo ringSize
	base      uint64        // number of the first event of this bus
	next      uint64        // number of the next event
	wake      chan struct{} // closed and replaced at every Publish
	listeners int

	journal *journal // nil: events are forgotten with the bus
	log     *slog.Logger
	stop    context.CancelFunc
	done    chan struct{} // closed when the journal's writer is gone
}

// NewBus returns an empty bus without a journal.
func NewBus() *Bus { return &Bus{wake: make(chan struct{})} }

// Open returns a bus that keeps its events in dir, where those of earlier ones are: at most 64 MiB of them, the newest.
func Open(dir string, log *slog.Logger) (*Bus, error) {
	j, next, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &Bus{wake: make(chan struct{}), base: next, next: next, journal: j, log: log, stop: stop, done: make(chan struct{})}
	go b.write(ctx, next)
	return b, nil
}

// write puts what is published into the journal.
func (b *Bus) write(ctx context.Context, cursor uint64) {
	defer close(b.done)
	for last := false; ; {
		first, es, wake := b.after(cursor)
		if first > cursor {
			b.log.Warn("events were published faster than the journal could be written", "lost", first-cursor)
		}
		if len(es) > 0 {
			if err := b.journal.append(first, es); err != nil {
				b.log.Error("event journal", "error", err)
			}
		}
		cursor = first + uint64(len(es))
		if last {
			return
		}
		select {
		case <-wake:
		case <-ctx.Done():
			last = true
		}
	}
}

// Close returns when what was published is in the journal. Nothing may be published after it.
func (b *Bus) Close() error {
	if b.journal == nil {
		return nil
	}
	b.stop()
	<-b.done
	return b.journal.close()
}

// Publish appends e. Call it after the commit that made it true.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ring) < ringSize {
		b.ring = append(b.ring, e)
	} else {
		*b.at(b.next) = e
	}
	b.next++
	close(b.wake)
	b.wake = make(chan struct{})
}

func (b *Bus) at(seq uint64) *Event { return &b.ring[(seq-b.base)%ringSize] }

// Listeners is how many subscriptions are being read.
func (b *Bus) Listeners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.listeners
}

// Subscribe yields matching events in order until ctx ends or until has passed. Registration happens before it returns:
// nothing published later is missed.
//
// since: replay what is known from then on; zero replays nothing. until: zero means for ever; if it has passed, the
// stream ends after the replay.
func (b *Bus) Subscribe(ctx context.Context, match func(*Event) bool, since, until time.Time) iter.Seq[Event] {
	cursor := b.start(since)
	return func(yield func(Event) bool) {
		b.count(1)
		defer b.count(-1)
		var expired <-chan time.Time
		if !until.IsZero() {
			t := time.NewTimer(time.Until(until))
			defer t.Stop()
			expired = t.C
		}
		for {
			first, batch, wake := b.from(cursor)
			cursor = first + uint64(len(batch))
			for i := range batch {
				e := &batch[i]
				if !since.IsZero() && e.Time.Before(since) || !until.IsZero() && e.Time.After(until) || match != nil && !match(e) {
					continue
				}
				if !yield(*e) {
					return
				}
			}
			if wake == nil && ctx.Err() == nil {
				continue // in the midst of the journal
			}
			select {
			case <-ctx.Done():
				return
			case <-expired:
				return
			case <-wake:
			}
		}
	}
}

func (b *Bus) count(n int) {
	b.mu.Lock()
	b.listeners += n
	b.mu.Unlock()
}

// start is the number of the first event that a subscription looks at.
func (b *Bus) start(since time.Time) uint64 {
	b.mu.Lock()
	next, oldest := b.next, b.oldest()
	reaches := len(b.ring) > 0 && !b.at(oldest).Time.After(since)
	b.mu.Unlock()
	switch {
	case since.IsZero():
		return next
	case reaches || b.journal == nil:
		return oldest
	}
	seq, found, err := b.journal.since(since)
	if err != nil {
		b.log.Error("event journal", "error", err)
	}
	if !found {
		return oldest
	}
	return min(seq, oldest)
}

func (b *Bus) oldest() uint64 { return b.next - uint64(len(b.ring)) }

// from copies some events from cursor on, out of the journal where the ring does not reach that far. first is the number of
// the first of them; wake is closed when there are more, and nil if there are more already.
func (b *Bus) from(cursor uint64) (first uint64, batch []Event, wake <-chan struct{}) {
	b.mu.Lock()
	oldest := b.oldest()
	b.mu.Unlock()
	if cursor < oldest && b.journal != nil {
		lines, err := b.journal.batch(cursor, 1024)
		if err != nil {
			b.log.Error("event journal", "error", err)
		}
		for i, l := range lines {
			if l.Seq >= oldest || i > 0 && l.Seq != lines[0].Seq+uint64(i) {
				break // the ring has it, or some are missing before it
			}
			batch = append(batch, l.Event)
		}
		if len(batch) > 0 {
			return lines[0].Seq, batch, nil
		}
	}
	return b.after(cursor)
}

// after copies the events of the ring from cursor on; the first of them is a later one if the ring no longer has it.
func (b *Bus) after(cursor uint64) (first uint64, batch []Event, wake <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first = max(cursor, b.oldest())
	for seq := first; seq < b.next; seq++ {
		batch = append(batch, *b.at(seq))
	}
	return first, batch, b.wake
}
