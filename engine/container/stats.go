package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is one sample of what a container uses. The zero value is the sample of one that does not run.
type Usage struct {
	Read     time.Time // UTC
	V2       bool      // taken from the unified hierarchy
	CPU      CPUUsage
	System   uint64 // CPU time of the whole host, nanoseconds
	CPUs     int    // online
	Memory   MemoryUsage
	Pids     uint64
	PidLimit uint64                // 0 = none
	Block    map[string][]BlockUse // by the kernel's name of the counter
	Networks map[string]NetworkUse // by interface, without loopback
}

// CPUUsage is CPU time in nanoseconds.
type CPUUsage struct {
	Total, Kernel, User                     uint64
	PerCPU                                  []uint64 // cgroup v1 only
	Periods, ThrottledPeriods, ThrottledFor uint64
}

// MemoryUsage is memory in bytes; Limit is the host's memory if there is none. Stats are the kernel's own counters.
type MemoryUsage struct {
	Usage, Max, Limit, Failcnt uint64
	Stats                      map[string]uint64
}

// BlockUse is one counter of one block device.
type BlockUse struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// NetworkUse are the counters of one interface, seen from inside.
type NetworkUse struct {
	RxBytes, RxPackets, RxErrors, RxDropped, TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Stats samples a container. Without stream it yields one sample; with it one each second, until ctx ends or the container
// is removed. A container that does not run yields zero samples.
func (m *Manager) Stats(ctx context.Context, ref string, stream bool) (*Snapshot, iter.Seq[Usage], error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, nil, err
	}
	return e.now.Load(), func(yield func(Usage) bool) {
		for {
			s := e.now.Load()
			if s.State.Phase == Removing {
				return
			}
			u := Usage{}
			if s.State.Phase.Live() {
				if u, err = m.sample(s); err != nil {
					m.d.Log.Debug("sampling a container", "container", s.ID, "error", err) // it may just have ended
					u = Usage{}
				}
			}
			if !yield(u) || !stream {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-m.life.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}, nil
}

func (m *Manager) sample(s *Snapshot) (u Usage, err error) {
	pid := s.State.Pid
	if m.d.Host.CgroupV2 {
		u, err = sampleV2(pid)
	} else {
		u, err = sampleV1(pid)
	}
	if err != nil {
		return u, err
	}
	u.Read, u.CPUs = time.Now().UTC(), runtime.NumCPU()
	if u.System, err = systemCPU(); err != nil {
		return u, err
	}
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return u, err
	}
	if host := si.Totalram * uint64(si.Unit); u.Memory.Limit == 0 || u.Memory.Limit > host {
		u.Memory.Limit = host
	}
	if s.Spec.Network.Mode != "host" {
		u.Networks, err = interfaces(fmt.Sprintf("/proc/%d/net/dev", pid))
	}
	return u, err
}

// systemCPU reads the host's CPU time: the first seven counters, in ticks of a hundredth of a second.
func systemCPU() (uint64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, errors.New("unexpected form of /proc/stat")
	}
	var sum uint64
	for _, v := range f[1:8] {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum * uint64(time.Second/100), nil
}

// interfaces parses a net/dev table.
func interfaces(path string) (map[string]NetworkUse, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]NetworkUse{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		name, rest, ok := strings.Cut(strings.TrimSpace(sc.Text()), ":")
		c := strings.Fields(rest)
		if !ok || name == "lo" || len(c) < 12 {
			continue
		}
		var n NetworkUse
		for i, dst := range map[int]*uint64{0: &n.RxBytes, 1: &n.RxPackets, 2: &n.RxErrors, 3: &n.RxDropped, 8: &n.TxBytes, 9: &n.TxPackets, 10: &n.TxErrors, 11: &n.TxDropped} {
			if *dst, err = strconv.ParseUint(c[i], 10, 64); err != nil {
				return nil, err
			}
		}
		out[name] = n
	}
	return out, sc.Err()
}
