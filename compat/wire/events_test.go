package wire

import (
	"testing"
	"time"

	"github.com/berthd/berth/engine/event"
)

func TestEventFilters(t *testing.T) {
	die := &event.Event{Type: event.Container, Action: "die", ID: "abcdef", Attributes: map[string]string{"image": "busybox:1", "name": "ev1", "a": "b"}}
	exec := &event.Event{Type: event.Container, Action: "exec_create: sh -c x", ID: "abcdef", Attributes: map[string]string{"image": "busybox", "name": "ev1"}}
	tag := &event.Event{Type: event.Image, Action: "tag", ID: "sha256:aa", Attributes: map[string]string{"name": "reg:5000/x:1"}}
	vol := &event.Event{Type: event.Volume, Action: "mount", ID: "evv", Attributes: map[string]string{"driver": "local", "container": "abcdef"}}
	for _, tc := range []struct {
		e       *event.Event
		filters string
		want    bool
	}{
		{die, ``, true},
		{die, `{"type":["container"],"event":["die","start"]}`, true},
		{die, `{"type":["volume"]}`, false},
		{die, `{"event":["di"]}`, false},
		{die, `{"container":["abc"]}`, true},
		{die, `{"container":["ev"]}`, true},
		{die, `{"container":["v1"]}`, false},
		{die, `{"image":["busybox"]}`, true},
		{die, `{"image":["busybox:1"]}`, true},
		{die, `{"image":["busybox:latest"]}`, false},
		{die, `{"label":["a=b"]}`, true},
		{die, `{"label":["a"]}`, true},
		{die, `{"label":["a=c"]}`, false},
		{die, `{"label":["a","c"]}`, false},
		{die, `{"scope":["local"]}`, true},
		{die, `{"scope":["swarm"]}`, false},
		{die, `{"bogus":["x"]}`, true},
		{die, `{"network":["abcdef"]}`, true}, // dockerd does not look at the type either
		{die, `{"node":["n"]}`, false},
		{exec, `{"event":["exec_create"]}`, true},
		{exec, `{"event":["exec_create: sh -c x"]}`, true},
		{exec, `{"event":["exec_start"]}`, false},
		{tag, `{"image":["reg:5000/x"]}`, true},
		{tag, `{"image":["reg:5000/x:1"]}`, true},
		{tag, `{"image":["sha256:aa"]}`, true},
		{tag, `{"image":["reg"]}`, false},
		{vol, `{"volume":["evv"]}`, true},
		{vol, `{"container":["abcdef"]}`, false},
	} {
		f, err := ParseFilters(tc.filters)
		if err != nil {
			t.Fatal(err)
		}
		if got := EventWanted(f, tc.e); got != tc.want {
			t.Errorf("%s of %s: %t", tc.filters, tc.e.Action, got)
		}
	}
}

func TestTimestamp(t *testing.T) {
	for s, want := range map[string]time.Time{
		"": {}, "0": time.Unix(0, 0).UTC(), "5": time.Unix(5, 0).UTC(), "1.5": time.Unix(1, 5e8).UTC(), "1.000000001": time.Unix(1, 1).UTC(), "-3": time.Unix(-3, 0).UTC(), "1.": time.Unix(1, 0).UTC(),
		"1.0000000019": time.Unix(1, 1).UTC(),
	} {
		if got, err := Timestamp("since", s); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"x":   `invalid value for 'since': invalid timestamp "x": invalid seconds "x": invalid syntax`,
		"10m": `invalid value for 'since': invalid timestamp "10m": invalid seconds "10m": invalid syntax`,
		"1.x": `invalid value for 'since': invalid timestamp "1.x": invalid nanoseconds "x": invalid syntax`,
	} {
		if _, err := Timestamp("since", s); err == nil || err.Error() != want {
			t.Errorf("%q: %v", s, err)
		}
	}
}
