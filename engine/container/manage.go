package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/store"
)

// Processes is a process table: column titles and one row for each process.
type Processes struct {
	Titles []string
	Rows   [][]string
}

// Top lists the processes of a running container with the host's ps; args are ps's own, nil means -ef. A column PID must be
// among the titles: it decides which rows belong to the container.
//
// Errors: ErrConflict if it does not run; ErrInvalidArgument for arguments that would make ps do something else.
func (m *Manager) Top(ctx context.Context, ref string, args []string) (*Processes, error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	t, _, ok := e.live()
	if !ok {
		return nil, errkind.Conflict("container %s is not running", e.id)
	}
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	pids, err := t.Pids(ctx)
	if err != nil {
		return nil, err
	}
	// Some options cannot go together with a selection of processes; then there is none.
	out, err := ps(ctx, append(slices.Clone(args), "-q"+joinInts(pids)))
	if err != nil {
		if out, err = ps(ctx, args); err != nil {
			return nil, err
		}
	}
	p, err := parsePS(string(out), pids)
	if err != nil {
		return nil, err
	}
	m.publish(e.now.Load(), "top")
	return p, nil
}

// ps runs the host's; of what it complains about the first line is passed on.
func ps(ctx context.Context, args []string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "ps", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if line, _, _ := strings.Cut(stderr.String(), "\n"); err != nil && line != "" {
		return nil, errkind.Internal("ps: %s", strings.TrimPrefix(line, "ps: "))
	}
	if err != nil {
		return nil, errkind.Internal("ps: %w", err)
	}
	return out, nil
}

func joinInts(ns []int) string {
	out := make([]string, len(ns))
	for i, n := range ns {
		out[i] = strconv.Itoa(n)
	}
	return strings.Join(out, ",")
}

// parsePS keeps the rows of the given processes. The last column takes the rest of its line.
func parsePS(out string, pids []int) (*Processes, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	p := &Processes{Titles: strings.Fields(lines[0]), Rows: [][]string{}}
	at := slices.Index(p.Titles, "PID")
	if at < 0 {
		return nil, errkind.Internal("Couldn't find PID field in ps output")
	}
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if len(f) <= at || f[0] == "-" {
			continue
		}
		pid, err := strconv.Atoi(f[at])
		if err != nil {
			return nil, errkind.Internal("Unexpected pid '%s': %w", f[at], err)
		}
		if !slices.Contains(pids, pid) {
			continue
		}
		if n := len(p.Titles); len(f) > n {
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		p.Rows = append(p.Rows, f)
	}
	return p, nil
}

// Prune removes the containers that do not run and that want accepts. Returns their ids and the bytes of their own layers.
//
// Errors: ErrConflict while another one is under way.
func (m *Manager) Prune(ctx context.Context, want ListFilter) (ids []string, bytes int64, err error) {
	if !m.pruning.CompareAndSwap(false, true) {
		return nil, 0, errkind.Conflict("a prune operation is already running")
	}
	defer m.pruning.Store(false)
	for _, s := range m.List() {
		if s.State.Phase != Created && s.State.Phase != Exited && s.State.Phase != Dead || !want(s) {
			continue
		}
		n, uerr := m.d.Images.Usage(ctx, string(s.ID))
		rerr := m.Remove(ctx, string(s.ID), RemoveOptions{})
		switch {
		case rerr == nil:
			ids = append(ids, string(s.ID))
			bytes += n
			if uerr != nil {
				m.d.Log.Warn("size of a pruned container", "container", s.ID, "error", uerr)
			}
		case errdefs.IsNotFound(rerr), errdefs.IsConflict(rerr): // started or removed by somebody else meanwhile
		default:
			err = errors.Join(err, rerr)
		}
		if ctx.Err() != nil {
			return ids, bytes, context.Cause(ctx)
		}
	}
	m.d.Events.Publish(event.Event{Type: event.Container, Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(bytes, 10)}, Time: time.Now().UTC()})
	return ids, bytes, err
}

// Update changes limits and restart policy; zero values leave what is there. A running container gets the limits at once.
//
// The warnings name limits that this host cannot enforce and that were left out.
func (m *Manager) Update(ctx context.Context, ref string, r Resources, p RestartPolicy) (warnings []string, err error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	if p.Name != "" || p.MaxRetries != 0 {
		if p.Name == "" {
			p.Name = "no"
		}
		if err := checkPolicy(p); err != nil {
			return nil, err
		}
	}
	if warnings, err = checkLimits(&r, m.d.Host, true); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	if err := e.acquire(ctx); err != nil {
		return nil, err
	}
	defer e.release()
	return warnings, m.updateHolding(ctx, e, r, p)
}

// updateHolding does the work; the caller holds the slot.
func (m *Manager) updateHolding(ctx context.Context, e *entry, r Resources, p RestartPolicy) error {
	old := e.now.Load()
	fail := func(err error) error { return fmt.Errorf("Cannot update container %s: %w", e.id, err) } //nolint:staticcheck // clients match the text
	if old.State.Phase == Removing || old.State.Phase == Dead {
		return fail(errkind.Conflict("container is marked for removal and cannot be \"update\""))
	}
	next := *old.Spec
	if err := mergeLimits(&next.Resources, r); err != nil {
		return fail(err)
	}
	if p.Name != "" {
		if next.AutoRemove && p.Name != "no" {
			return fail(errkind.Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container"))
		}
		next.Restart = p
	}
	if t, _, ok := e.live(); ok {
		lr, err := m.d.Specs.Resources(&next)
		if err != nil {
			return fail(err)
		}
		if err := t.Update(ctx, lr); err != nil {
			return fail(err)
		}
	}
	s, err := m.change(e, func(s *Snapshot) error { s.Spec = &next; return nil }, func(*store.Tx, *Snapshot) error { return nil })
	if err != nil {
		return fail(err)
	}
	m.publish(s, "update")
	return nil
}

// mergeLimits lays the set values of r over dst.
func mergeLimits(dst *Resources, r Resources) error {
	if r.NanoCPUs > 0 && (dst.CPUPeriod > 0 || dst.CPUQuota > 0) {
		return errkind.Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set")
	}
	for what, v := range map[string]int64{"Period": r.CPUPeriod, "Quota": r.CPUQuota} {
		if v > 0 && dst.NanoCPUs > 0 {
			return errkind.Conflict("Conflicting options: CPU %s cannot be updated as NanoCPUs has already been set", what)
		}
	}
	if r.Memory != 0 && r.MemorySwap == 0 && dst.MemorySwap > 0 && r.Memory > dst.MemorySwap {
		return errkind.Conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	set := func(dst *int64, v int64) {
		if v != 0 {
			*dst = v
		}
	}
	set(&dst.CPUShares, r.CPUShares)
	set(&dst.NanoCPUs, r.NanoCPUs)
	set(&dst.CPUPeriod, r.CPUPeriod)
	set(&dst.CPUQuota, r.CPUQuota)
	set(&dst.CPURealtimePeriod, r.CPURealtimePeriod)
	set(&dst.CPURealtimeRuntime, r.CPURealtimeRuntime)
	set(&dst.Memory, r.Memory)
	set(&dst.MemorySwap, r.MemorySwap)
	set(&dst.MemoryReservation, r.MemoryReservation)
	set(&dst.KernelMemory, r.KernelMemory)
	if r.CpusetCpus != "" {
		dst.CpusetCpus = r.CpusetCpus
	}
	if r.CpusetMems != "" {
		dst.CpusetMems = r.CpusetMems
	}
	if r.BlkioWeight != 0 {
		dst.BlkioWeight = r.BlkioWeight
	}
	if r.PidsLimit != nil {
		dst.PidsLimit = r.PidsLimit
	}
	return nil
}
