package wire

import (
	"github.com/docker/docker/api/types/container"

	domain "github.com/berthd/berth/engine/container"
)

// Stats is a sample on the wire; before is the sample before it, the zero value if there was none.
func Stats(s *domain.Snapshot, u, before domain.Usage) *container.StatsResponse {
	out := &container.StatsResponse{
		Name: "/" + s.Name, ID: string(s.ID), Read: u.Read, PreRead: before.Read, CPUStats: cpu(u), PreCPUStats: cpu(before),
		PidsStats:   container.PidsStats{Current: u.Pids, Limit: u.PidLimit},
		MemoryStats: container.MemoryStats{Usage: u.Memory.Usage, MaxUsage: u.Memory.Max, Stats: u.Memory.Stats, Failcnt: u.Memory.Failcnt, Limit: u.Memory.Limit},
		BlkioStats: container.BlkioStats{
			IoServiceBytesRecursive: blocks(u, "io_service_bytes"), IoServicedRecursive: blocks(u, "io_serviced"), IoQueuedRecursive: blocks(u, "io_queue"),
			IoServiceTimeRecursive: blocks(u, "io_service_time"), IoWaitTimeRecursive: blocks(u, "io_wait_time"), IoMergedRecursive: blocks(u, "io_merged"),
			IoTimeRecursive: blocks(u, "io_time"), SectorsRecursive: blocks(u, "sectors"),
		},
	}
	for name, n := range u.Networks {
		if out.Networks == nil {
			out.Networks = map[string]container.NetworkStats{}
		}
		out.Networks[name] = container.NetworkStats{
			RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		}
	}
	return out
}

func cpu(u domain.Usage) container.CPUStats {
	c := u.CPU
	return container.CPUStats{
		CPUUsage:       container.CPUUsage{TotalUsage: c.Total, PercpuUsage: c.PerCPU, UsageInKernelmode: c.Kernel, UsageInUsermode: c.User},
		SystemUsage:    u.System,
		OnlineCPUs:     uint32(u.CPUs),
		ThrottlingData: container.ThrottlingData{Periods: c.Periods, ThrottledPeriods: c.ThrottledPeriods, ThrottledTime: c.ThrottledFor},
	}
}

func blocks(u domain.Usage, counter string) []container.BlkioStatEntry {
	in := u.Block[counter]
	if in == nil {
		return nil
	}
	out := []container.BlkioStatEntry{}
	for _, b := range in {
		out = append(out, container.BlkioStatEntry{Major: b.Major, Minor: b.Minor, Op: b.Op, Value: b.Value})
	}
	return out
}
