package container

import (
	"context"
	"encoding/binary"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/shim"
)

// Words of a health status.
const (
	HealthNone     = "none"
	HealthStarting = "starting"
	Healthy        = "healthy"
	Unhealthy      = "unhealthy"
)

const (
	probeOutput = 4096 // bytes kept of one probe
	probeLog    = 5    // probes kept
)

// mergeHealth completes the user's health check with the image's, field by field.
func mergeHealth(user *Healthcheck, img *image.Healthcheck) *Healthcheck {
	if img == nil {
		return user
	}
	out := Healthcheck{}
	if user != nil {
		out = *user
	}
	if len(out.Test) == 0 {
		out.Test = img.Test
	}
	pick := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	pick(&out.Interval, img.Interval)
	pick(&out.Timeout, img.Timeout)
	pick(&out.StartPeriod, img.StartPeriod)
	pick(&out.StartInterval, img.StartInterval)
	if out.Retries == 0 {
		out.Retries = img.Retries
	}
	return &out
}

func checkHealth(h *Healthcheck) error {
	if h == nil {
		return nil
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if f.d != 0 && f.d < time.Millisecond {
			return errkind.InvalidArgument("%s in Healthcheck cannot be less than 1ms", f.name)
		}
	}
	if h.Retries < 0 {
		return errkind.InvalidArgument("Retries in Healthcheck cannot be negative")
	}
	return nil
}

// probeArgv is the command of a health check; nil if there is none.
func probeArgv(s *Spec) []string {
	if s.Health == nil || len(s.Health.Test) < 2 {
		return nil
	}
	switch s.Health.Test[0] {
	case "CMD":
		return s.Health.Test[1:]
	case "CMD-SHELL":
		shell := s.Process.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string{}, shell...), s.Health.Test[1])
	}
	return nil
}

// withDefaults fills what neither user nor image said. Source: dockerd's defaults.
func (h Healthcheck) withDefaults() Healthcheck {
	for _, f := range []struct {
		d   *time.Duration
		def time.Duration
	}{{&h.Interval, 30 * time.Second}, {&h.Timeout, 30 * time.Second}, {&h.StartInterval, 5 * time.Second}} {
		if *f.d == 0 {
			*f.d = f.def
		}
	}
	if h.Retries == 0 {
		h.Retries = 3
	}
	return h
}

// monitor probes one life of a container until it ends. It is started only for containers that have a probe.
func (m *Manager) monitor(e *entry, t shim.Task, r *run) {
	defer m.wg.Done()
	ctx, cancel := context.WithCancel(m.life)
	defer cancel()
	go func() {
		select {
		case <-r.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	s := e.now.Load()
	h := s.Spec.Health.withDefaults()
	argv := probeArgv(s.Spec)
	for {
		s = e.now.Load()
		wait := h.Interval
		if inStartPeriod(h, s, time.Now()) {
			wait = min(h.Interval, h.StartInterval)
			if h.StartPeriod == 0 {
				wait = h.Interval
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if e.now.Load().State.Phase != Running {
			continue // paused: nobody can answer
		}
		res := m.probe(ctx, e, t, argv, h.Timeout)
		if ctx.Err() != nil {
			return
		}
		m.judge(e, r, h, res)
	}
}

func inStartPeriod(h Healthcheck, s *Snapshot, now time.Time) bool {
	return s.State.Health != nil && s.State.Health.Status == HealthStarting && now.Sub(s.State.StartedAt) < h.StartPeriod
}

// probe runs the command once. A probe that cannot be run or that takes too long has exit code -1.
func (m *Manager) probe(ctx context.Context, e *entry, t shim.Task, argv []string, timeout time.Duration) HealthResult {
	res := HealthResult{Start: time.Now().UTC(), ExitCode: -1}
	s := e.now.Load()
	id := ids.New()
	words := strings.Join(argv, " ")
	m.publish(s, "exec_create: "+words, "execID", id)
	err := func() error {
		spec, err := m.d.Specs.ExecProcess(s, filepath.Join(m.d.Runtime.BundleDir(string(e.id)), "rootfs"), ExecOptions{Argv: argv})
		if err != nil {
			return err
		}
		p, err := t.Exec(ctx, id, shim.ExecSpec{Process: spec})
		if err != nil {
			return err
		}
		defer func() { _ = p.Delete(context.WithoutCancel(ctx)) }() // goes with the task otherwise
		out, err := p.Open(ctx, shim.Which{Stdout: true, Stderr: true})
		if err != nil {
			return err
		}
		defer out.Close()
		text := make(chan string, 1)
		go func() { text <- payload(out, probeOutput) }()
		if _, err := p.Start(ctx); err != nil {
			return err
		}
		m.publish(s, "exec_start: "+words, "execID", id)
		wctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		exit, err := p.Wait(wctx)
		if wctx.Err() != nil && ctx.Err() == nil {
			_ = p.Kill(ctx, syscall.SIGKILL) // it may have ended just now
			res.Output = "Health check exceeded timeout (" + timeout.String() + ")"
			kctx, kcancel := context.WithTimeout(ctx, timeout+time.Second)
			defer kcancel()
			if exit, err := p.Wait(kctx); err == nil {
				m.publish(s, "exec_die", "execID", id, "exitCode", strconv.Itoa(exit.Code))
			}
			return nil
		}
		if err != nil {
			return err
		}
		m.publish(s, "exec_die", "execID", id, "exitCode", strconv.Itoa(exit.Code))
		res.ExitCode, res.Output = exit.Code, <-text
		return nil
	}()
	if err != nil {
		res.Output = err.Error()
	}
	res.End = time.Now().UTC()
	return res
}

// payload reads the frames of an exec to their end and returns the first limit bytes of what they carry; three dots tell that
// there was more.
func payload(r io.Reader, limit int) string {
	var b strings.Builder
	more := ""
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break
		}
		n := int64(binary.BigEndian.Uint32(head[4:]))
		keep := min(n, int64(limit-b.Len()))
		if _, err := io.CopyN(&b, r, keep); err != nil {
			break
		}
		if keep < n {
			more = "..."
		}
		if _, err := io.CopyN(io.Discard, r, n-keep); err != nil {
			break
		}
	}
	return b.String() + more
}

// unwatched is the health of a container while nobody probes it: it has ended or is frozen.
func unwatched(h *Health) *Health {
	if h == nil {
		return nil
	}
	next := *h
	next.Status = Unhealthy
	return &next
}

// freshHealth is the health at a start: what earlier probes printed stays to be read.
func freshHealth(s *Snapshot) *Health {
	if probeArgv(s.Spec) == nil {
		return nil
	}
	h := &Health{Status: HealthStarting}
	if old := s.State.Health; old != nil {
		h.Log = old.Log
	}
	return h
}

// judge records a probe and what it means.
func (m *Manager) judge(e *entry, r *run, h Healthcheck, res HealthResult) {
	changed := ""
	s, err := m.change(e, func(s *Snapshot) error {
		select {
		case <-r.exited:
			return errkind.Conflict("container %s has ended", e.id)
		default:
		}
		next := nextHealth(s, h, res)
		if s.State.Health == nil || s.State.Health.Status != next.Status {
			changed = next.Status
		}
		s.State.Health = next
		return nil
	}, nil)
	if err != nil {
		return // the life that was probed is over
	}
	if changed != "" {
		m.publish(s, "health_status: "+changed)
	}
}

// nextHealth is the state after a probe; a snapshot is never edited.
func nextHealth(s *Snapshot, h Healthcheck, res HealthResult) *Health {
	next := Health{Status: HealthStarting}
	if old := s.State.Health; old != nil {
		next = *old
	}
	next.Log = append(append([]HealthResult{}, next.Log...), res)
	if n := len(next.Log); n > probeLog {
		next.Log = next.Log[n-probeLog:]
	}
	switch {
	case res.ExitCode == 0:
		next.Status, next.FailingStreak = Healthy, 0
	case next.Status == HealthStarting && res.Start.Sub(s.State.StartedAt) < h.StartPeriod: // still allowed to fail
	default:
		if next.FailingStreak++; next.FailingStreak >= h.Retries {
			next.Status = Unhealthy
		}
	}
	return &next
}
