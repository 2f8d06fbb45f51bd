package event

import (
	"context"
	"iter"
	"sync"
	"time"
)

// ringSize is how many events can be replayed; at least dockerd's 256.
const ringSize = 4096

// Bus carries events to any number of subscribers. Publish never blocks; a subscriber that falls more than the ring
// behind goes on with the oldest event still there.
type Bus struct {
	mu   sync.Mutex
	ring []Event
	next uint64        // sequence number of the next event
	wake chan struct{} // closed and replaced at every Publish
}

// NewBus returns an empty bus.
func NewBus() *Bus { return &Bus{wake: make(chan struct{})} }

// Publish appends e. Call it after the commit that made it true.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ring) < ringSize {
		b.ring = append(b.ring, e)
	} else {
		b.ring[b.next%ringSize] = e
	}
	b.next++
	close(b.wake)
	b.wake = make(chan struct{})
}

// Subscribe yields matching events in order until ctx ends or until has passed. Registration happens before it returns:
// nothing published later is missed.
//
// since: replay what is in the ring from then on; zero replays nothing. until: zero means for ever; if it has passed, the
// stream ends after the replay.
func (b *Bus) Subscribe(ctx context.Context, match func(*Event) bool, since, until time.Time) iter.Seq[Event] {
	b.mu.Lock()
	cursor := b.next
	if !since.IsZero() {
		cursor = b.oldest()
	}
	b.mu.Unlock()
	return func(yield func(Event) bool) {
		var expired <-chan time.Time
		if !until.IsZero() {
			t := time.NewTimer(time.Until(until))
			defer t.Stop()
			expired = t.C
		}
		for {
			batch, wake := b.after(&cursor)
			for i := range batch {
				e := &batch[i]
				if !since.IsZero() && e.Time.Before(since) || !until.IsZero() && e.Time.After(until) || match != nil && !match(e) {
					continue
				}
				if !yield(*e) {
					return
				}
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

func (b *Bus) oldest() uint64 { return b.next - uint64(len(b.ring)) }

// after copies the events from cursor on and moves it; wake is closed when there are more.
func (b *Bus) after(cursor *uint64) ([]Event, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*cursor = max(*cursor, b.oldest())
	var out []Event
	for ; *cursor < b.next; *cursor++ {
		out = append(out, b.ring[*cursor%ringSize])
	}
	return out, b.wake
}
