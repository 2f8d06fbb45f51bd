package oci

import (
	"github.com/berthd/berth/engine/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Resources are the limits of a container for the runtime; the default device rules come first, the user's after them.
func (b *Builder) Resources(c *container.Spec) (*specs.LinuxResources, error) {
	r := c.Resources
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}, Memory: &specs.LinuxMemory{}}
	if r.CPUShares > 0 {
		v := uint64(r.CPUShares)
		out.CPU.Shares = &v
	}
	period, quota := uint64(r.CPUPeriod), r.CPUQuota
	if r.NanoCPUs > 0 {
		period = 100000
		quota = r.NanoCPUs * int64(period) / 1e9
	}
	if period > 0 {
		out.CPU.Period = &period
	}
	if quota > 0 {
		out.CPU.Quota = &quota
	}
	if r.CPURealtimePeriod != 0 {
		v := uint64(r.CPURealtimePeriod)
		out.CPU.RealtimePeriod = &v
	}
	if r.CPURealtimeRuntime != 0 {
		out.CPU.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	if r.Memory > 0 {
		swap := r.MemorySwap
		if swap == 0 {
			swap = 2 * r.Memory
		}
		out.Memory.Limit, out.Memory.Swap = &r.Memory, &swap
	}
	if r.MemoryReservation > 0 {
		out.Memory.Reservation = &r.MemoryReservation
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		v := uint64(*r.MemorySwappiness)
		out.Memory.Swappiness = &v
	}
	if !b.o.CgroupV2 {
		out.Memory.DisableOOMKiller = r.OomKillDisable
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: r.PidsLimit}
	}
	var err error
	if out.BlockIO, err = blockIO(&r); err != nil {
		return nil, err
	}
	if c.Security.Privileged {
		out.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return out, nil
	}
	out.Devices = defaultDevices()
	_, rules, err := devices(r.Devices)
	if err != nil {
		return nil, err
	}
	out.Devices = append(out.Devices, rules...)
	for _, text := range r.DeviceCgroupRules {
		rule, err := deviceRule(text)
		if err != nil {
			return nil, err
		}
		out.Devices = append(out.Devices, rule)
	}
	return out, nil
}
