package container

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/berthd/berth/engine/image"
)

func TestNextHealth(t *testing.T) {
	start := time.Unix(1000, 0)
	h := Healthcheck{Retries: 2, StartPeriod: 10 * time.Second}
	s := &Snapshot{State: State{StartedAt: start, Health: &Health{Status: HealthStarting}}}
	step := func(after time.Duration, code int, status string, streak int) {
		t.Helper()
		before := *s.State.Health
		s.State.Health = nextHealth(s, h, HealthResult{Start: start.Add(after), ExitCode: code})
		if s.State.Health.Status != status || s.State.Health.FailingStreak != streak {
			t.Errorf("after %s and code %d: %+v", after, code, s.State.Health)
		}
		if len(before.Log) > 0 && &before.Log[0] == &s.State.Health.Log[0] {
			t.Error("the old log is shared")
		}
	}
	step(time.Second, 1, HealthStarting, 0) // in the start period a failure does not count
	step(11*time.Second, 1, HealthStarting, 1)
	step(12*time.Second, -1, Unhealthy, 2)
	step(13*time.Second, 0, Healthy, 0)
	step(14*time.Second, 1, Healthy, 1)
	step(15*time.Second, 0, Healthy, 0)
	if n := len(s.State.Health.Log); n != probeLog {
		t.Errorf("%d probes kept", n)
	}
}

func TestMergeHealth(t *testing.T) {
	img := &image.Healthcheck{Test: []string{"CMD", "x"}, Retries: 5, Interval: time.Minute}
	if got := mergeHealth(nil, img); got.Retries != 5 || !reflect.DeepEqual(got.Test, img.Test) {
		t.Errorf("%+v", got)
	}
	if got := mergeHealth(&Healthcheck{Retries: 1}, img); got.Retries != 1 || got.Interval != time.Minute || len(got.Test) != 2 {
		t.Errorf("%+v", got)
	}
	if mergeHealth(nil, nil) != nil {
		t.Error("a health check from nothing")
	}
}

func TestProbeArgv(t *testing.T) {
	for _, tc := range []struct{ test, shell, want []string }{
		{[]string{"CMD", "a", "b"}, nil, []string{"a", "b"}},
		{[]string{"CMD-SHELL", "a b"}, nil, []string{"/bin/sh", "-c", "a b"}},
		{[]string{"CMD-SHELL", "a b"}, []string{"bash", "-c"}, []string{"bash", "-c", "a b"}},
		{[]string{"NONE"}, nil, nil}, {nil, nil, nil},
	} {
		s := &Spec{Health: &Healthcheck{Test: tc.test}, Process: Process{Shell: tc.shell}}
		if got := probeArgv(s); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q: %q", tc.test, got)
		}
	}
}

func TestPayload(t *testing.T) {
	in := "\x01\x00\x00\x00\x00\x00\x00\x03abc\x02\x00\x00\x00\x00\x00\x00\x03def"
	if got := payload(bytes.NewReader([]byte(in)), 4); got != "abcd..." {
		t.Errorf("%q", got)
	}
}

func TestCheckHealth(t *testing.T) {
	for _, h := range []*Healthcheck{{Interval: 1}, {Timeout: -1}, {StartPeriod: 5}, {Retries: -1}} {
		if checkHealth(h) == nil {
			t.Errorf("%+v was taken", h)
		}
	}
	if err := checkHealth(&Healthcheck{Interval: time.Second, Retries: 1}); err != nil {
		t.Error(err)
	}
}
