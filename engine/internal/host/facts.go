package host

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Facts of the host. The booleans tell what the kernel's cgroups can enforce here.
type Facts struct {
	CgroupV2 bool // the unified hierarchy alone

	Memory, Swap, MemoryReservation, OomKillDisable, Swappiness bool
	CPUShares, CPUQuota, CPURealtime, Cpuset, Pids              bool
	BlkioWeight, BlkioWeightDevice                              bool
	BlkioReadBps, BlkioWriteBps, BlkioReadIOps, BlkioWriteIOps  bool
	CgroupNamespaces, AppArmor                                  bool

	CPUs string // those that may be used, as a list "0-3,8"; "" if unknown
	Mems string // memory nodes, the same form
	// NumCPU is the number of CPUs that this process may use.
	NumCPU int
}

// Read looks at the host once. What cannot be read is not there.
func Read() Facts { return read("/") }

func read(root string) Facts {
	at := func(p ...string) string { return filepath.Join(append([]string{root}, p...)...) }
	f := Facts{NumCPU: runtime.NumCPU()}
	f.CgroupNamespaces = exists(at("proc/self/ns/cgroup"))
	b, _ := os.ReadFile(at("sys/module/apparmor/parameters/enabled"))
	f.AppArmor = strings.HasPrefix(string(b), "Y")
	if controllers, err := os.ReadFile(at("sys/fs/cgroup/cgroup.controllers")); err == nil {
		f.CgroupV2 = true
		f.unified(strings.Fields(string(controllers)), at("sys/fs/cgroup"))
		return f
	}
	mounts := hierarchies(at("proc/self/mountinfo"))
	has := func(controller, file string) bool {
		dir, ok := mounts[controller]
		return ok && exists(at(dir, file))
	}
	_, f.Memory = mounts["memory"]
	f.Swap = has("memory", "memory.memsw.limit_in_bytes")
	f.MemoryReservation = has("memory", "memory.soft_limit_in_bytes")
	f.OomKillDisable = has("memory", "memory.oom_control")
	f.Swappiness = has("memory", "memory.swappiness")
	f.CPUShares = has("cpu", "cpu.shares")
	f.CPUQuota = has("cpu", "cpu.cfs_quota_us")
	f.CPURealtime = has("cpu", "cpu.rt_period_us")
	_, f.Pids = mounts["pids"]
	f.BlkioWeight = has("blkio", "blkio.weight")
	f.BlkioWeightDevice = has("blkio", "blkio.weight_device")
	f.BlkioReadBps = has("blkio", "blkio.throttle.read_bps_device")
	f.BlkioWriteBps = has("blkio", "blkio.throttle.write_bps_device")
	f.BlkioReadIOps = has("blkio", "blkio.throttle.read_iops_device")
	f.BlkioWriteIOps = has("blkio", "blkio.throttle.write_iops_device")
	if dir, ok := mounts["cpuset"]; ok {
		f.Cpuset = true
		f.CPUs, f.Mems = line(at(dir, "cpuset.cpus")), line(at(dir, "cpuset.mems"))
	}
	return f
}

// unified fills in what the controllers of a version 2 hierarchy can do.
func (f *Facts) unified(controllers []string, dir string) {
	has := func(c string) bool { return slices.Contains(controllers, c) }
	f.Memory, f.MemoryReservation = has("memory"), has("memory")
	f.Swap = has("memory") && swapFile(dir)
	f.CPUShares, f.CPUQuota = has("cpu"), has("cpu")
	f.Pids = has("pids")
	io := has("io")
	f.BlkioWeight, f.BlkioWeightDevice = io, io
	f.BlkioReadBps, f.BlkioWriteBps, f.BlkioReadIOps, f.BlkioWriteIOps = io, io, io, io
	if has("cpuset") {
		f.Cpuset = true
		f.CPUs, f.Mems = line(filepath.Join(dir, "cpuset.cpus.effective")), line(filepath.Join(dir, "cpuset.mems.effective"))
	}
}

// swapFile reports whether swap can be limited: the root group never has the file, so any child tells.
func swapFile(dir string) bool {
	ents, _ := os.ReadDir(dir) // none: unknown, as good as no
	for _, e := range ents {
		if e.IsDir() && exists(filepath.Join(dir, e.Name(), "memory.swap.max")) {
			return true
		}
	}
	return false
}

// hierarchies maps each version 1 controller to where it is mounted.
func hierarchies(mountinfo string) map[string]string {
	out := map[string]string{}
	file, err := os.Open(mountinfo)
	if err != nil {
		return out
	}
	defer file.Close()
	for sc := bufio.NewScanner(file); sc.Scan(); {
		head, tail, ok := strings.Cut(sc.Text(), " - ")
		h, t := strings.Fields(head), strings.Fields(tail)
		if !ok || len(h) < 5 || len(t) < 3 || t[0] != "cgroup" {
			continue
		}
		for _, c := range strings.Split(t[2], ",") {
			if _, seen := out[c]; !seen && c != "rw" && !strings.HasPrefix(c, "name=") {
				out[c] = h[4]
			}
		}
	}
	return out
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

func line(p string) string {
	b, _ := os.ReadFile(p) // "" is unknown
	return strings.TrimSpace(string(b))
}
