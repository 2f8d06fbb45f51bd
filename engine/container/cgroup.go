package container

import (
	"github.com/containerd/cgroups/v3/cgroup1"
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
)

// sampleV1 reads the hierarchies of cgroup v1 that the process is in.
func sampleV1(pid int) (u Usage, err error) {
	cg, err := cgroup1.Load(cgroup1.PidPath(pid))
	if err != nil {
		return u, err
	}
	st, err := cg.Stat(cgroup1.IgnoreNotExist)
	if err != nil {
		return u, err
	}
	if c := st.GetCPU(); c != nil {
		t, use := c.GetThrottling(), c.GetUsage()
		u.CPU = CPUUsage{use.GetTotal(), use.GetKernel(), use.GetUser(), use.GetPerCPU(), t.GetPeriods(), t.GetThrottledPeriods(), t.GetThrottledTime()}
	}
	if p := st.GetPids(); p != nil {
		u.Pids, u.PidLimit = p.GetCurrent(), p.GetLimit()
	}
	if x := st.GetMemory(); x != nil {
		use := x.GetUsage()
		u.Memory = MemoryUsage{Usage: use.GetUsage(), Max: use.GetMax(), Limit: use.GetLimit(), Failcnt: use.GetFailcnt(), Stats: map[string]uint64{
			"cache": x.Cache, "rss": x.RSS, "rss_huge": x.RSSHuge, "mapped_file": x.MappedFile, "dirty": x.Dirty, "writeback": x.Writeback,
			"pgpgin": x.PgPgIn, "pgpgout": x.PgPgOut, "pgfault": x.PgFault, "pgmajfault": x.PgMajFault, "inactive_anon": x.InactiveAnon,
			"active_anon": x.ActiveAnon, "inactive_file": x.InactiveFile, "active_file": x.ActiveFile, "unevictable": x.Unevictable,
			"hierarchical_memory_limit": x.HierarchicalMemoryLimit, "hierarchical_memsw_limit": x.HierarchicalSwapLimit, "total_cache": x.TotalCache,
			"total_rss": x.TotalRSS, "total_rss_huge": x.TotalRSSHuge, "total_mapped_file": x.TotalMappedFile, "total_dirty": x.TotalDirty,
			"total_writeback": x.TotalWriteback, "total_pgpgin": x.TotalPgPgIn, "total_pgpgout": x.TotalPgPgOut, "total_pgfault": x.TotalPgFault,
			"total_pgmajfault": x.TotalPgMajFault, "total_inactive_anon": x.TotalInactiveAnon, "total_active_anon": x.TotalActiveAnon,
			"total_inactive_file": x.TotalInactiveFile, "total_active_file": x.TotalActiveFile, "total_unevictable": x.TotalUnevictable,
		}}
	}
	b := st.GetBlkio()
	u.Block = map[string][]BlockUse{
		"io_service_bytes": blocks(b.GetIoServiceBytesRecursive()), "io_serviced": blocks(b.GetIoServicedRecursive()), "io_queue": blocks(b.GetIoQueuedRecursive()),
		"io_service_time": blocks(b.GetIoServiceTimeRecursive()), "io_wait_time": blocks(b.GetIoWaitTimeRecursive()), "io_merged": blocks(b.GetIoMergedRecursive()),
		"io_time": blocks(b.GetIoTimeRecursive()), "sectors": blocks(b.GetSectorsRecursive()),
	}
	return u, nil
}

func blocks(in []*v1.BlkIOEntry) []BlockUse {
	out := []BlockUse{}
	for _, e := range in {
		out = append(out, BlockUse{e.Major, e.Minor, e.Op, e.Value})
	}
	return out
}

// sampleV2 reads the unified hierarchy.
func sampleV2(pid int) (u Usage, err error) {
	path, err := cgroup2.PidGroupPath(pid)
	if err != nil {
		return u, err
	}
	cg, err := cgroup2.Load(path)
	if err != nil {
		return u, err
	}
	st, err := cg.Stat()
	if err != nil {
		return u, err
	}
	u.V2 = true
	const µs = 1000
	if c := st.GetCPU(); c != nil {
		u.CPU = CPUUsage{c.UsageUsec * µs, c.SystemUsec * µs, c.UserUsec * µs, nil, c.NrPeriods, c.NrThrottled, c.ThrottledUsec * µs}
	}
	if p := st.GetPids(); p != nil {
		u.Pids, u.PidLimit = p.Current, p.Limit
	}
	if x := st.GetMemory(); x != nil {
		u.Memory = MemoryUsage{Usage: x.Usage, Limit: x.UsageLimit, Failcnt: st.GetMemoryEvents().GetOom(), Stats: map[string]uint64{
			"anon": x.Anon, "file": x.File, "kernel_stack": x.KernelStack, "slab": x.Slab, "sock": x.Sock, "shmem": x.Shmem, "file_mapped": x.FileMapped,
			"file_dirty": x.FileDirty, "file_writeback": x.FileWriteback, "anon_thp": x.AnonThp, "inactive_anon": x.InactiveAnon, "active_anon": x.ActiveAnon,
			"inactive_file": x.InactiveFile, "active_file": x.ActiveFile, "unevictable": x.Unevictable, "slab_reclaimable": x.SlabReclaimable,
			"slab_unreclaimable": x.SlabUnreclaimable, "pgfault": x.Pgfault, "pgmajfault": x.Pgmajfault, "workingset_refault": x.WorkingsetRefault,
			"workingset_activate": x.WorkingsetActivate, "workingset_nodereclaim": x.WorkingsetNodereclaim, "pgrefill": x.Pgrefill, "pgscan": x.Pgscan,
			"pgsteal": x.Pgsteal, "pgactivate": x.Pgactivate, "pgdeactivate": x.Pgdeactivate, "pglazyfree": x.Pglazyfree, "pglazyfreed": x.Pglazyfreed,
			"thp_fault_alloc": x.ThpFaultAlloc, "thp_collapse_alloc": x.ThpCollapseAlloc,
		}}
	}
	for _, e := range st.GetIo().GetUsage() {
		if u.Block == nil {
			u.Block = map[string][]BlockUse{}
		}
		u.Block["io_service_bytes"] = append(u.Block["io_service_bytes"], BlockUse{e.Major, e.Minor, "read", e.Rbytes}, BlockUse{e.Major, e.Minor, "write", e.Wbytes})
	}
	return u, nil
}
