package event

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestReplayAndLiveInOrder(t *testing.T) {
	b := NewBus()
	for i := range 10 {
		b.Publish(Event{Action: fmt.Sprint(i), Time: time.Unix(int64(i+1), 0)})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seq := b.Subscribe(ctx, nil, time.Unix(8, 0), time.Time{})
	b.Publish(Event{Action: "live", Time: time.Unix(100, 0)})
	var got string
	for e := range seq {
		got += e.Action + " "
		if e.Action == "live" {
			break
		}
	}
	if got != "7 8 9 live " {
		t.Fatalf("got %q", got)
	}
}

func TestUntilInThePastEndsAfterReplayAndRingWraps(t *testing.T) {
	b := NewBus()
	for i := range ringSize + 10 {
		b.Publish(Event{Action: fmt.Sprint(i), Time: time.Unix(int64(i+1), 0)})
	}
	n, first := 0, ""
	for e := range b.Subscribe(context.Background(), nil, time.Unix(1, 0), time.Unix(1<<30, 0)) {
		if n == 0 {
			first = e.Action
		}
		n++
	}
	if n != ringSize || first != "10" {
		t.Fatalf("%d events from %q", n, first)
	}
}

func TestSlowSubscriberDoesNotBlockPublish(t *testing.T) {
	b := NewBus()
	ctx, cancel := context.WithCancel(context.Background())
	seq := b.Subscribe(ctx, nil, time.Time{}, time.Time{})
	for range 3 * ringSize {
		b.Publish(Event{})
	}
	cancel()
	n := 0
	for range seq {
		n++
	}
	if n != ringSize {
		t.Fatalf("%d", n)
	}
}
