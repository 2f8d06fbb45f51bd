package engine

import (
	"os"
	"strings"

	"github.com/berthd/berth/engine/shim"
)

// Info is what the engine knows of its host and of itself, read when asked.
type Info struct {
	CgroupV2                                        bool
	MemoryLimit, SwapLimit, OomKillDisable          bool
	CPUShares, CPUQuota, CPUSet, PidsLimit          bool
	IPv4Forwarding, AppArmor                        bool
	Runtimes                                        map[string]shim.Runtime
	DefaultRuntime, LogDriver, Seccomp, InitProgram string
	LiveRestore                                     bool
	Warnings                                        []string
}

// Info is quick: it reads a file or two.
func (e *Engine) Info() Info {
	f := e.facts
	i := Info{
		CgroupV2: f.CgroupV2, MemoryLimit: f.Memory, SwapLimit: f.Swap, OomKillDisable: f.OomKillDisable, CPUShares: f.CPUShares, CPUQuota: f.CPUQuota, CPUSet: f.Cpuset,
		PidsLimit: f.Pids, AppArmor: f.AppArmor, Runtimes: e.cfg.Runtimes, DefaultRuntime: e.cfg.DefaultRuntime, LogDriver: e.cfg.LogDriver, LiveRestore: e.keep.Load(), InitProgram: e.cfg.InitPath,
	}
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward") // unknown is off
	// If it is ours to switch on, that happens with the first network that needs it.
	i.IPv4Forwarding = e.cfg.Forward || strings.TrimSpace(string(b)) == "1"
	switch e.cfg.SeccompProfile {
	case "", "builtin":
		i.Seccomp = "builtin"
	case "unconfined":
		i.Seccomp = "unconfined"
	default:
		i.Seccomp = "custom"
	}
	for _, w := range []struct {
		fine bool
		text string
	}{
		{f.Memory, "WARNING: No memory limit support"},
		{f.Swap || !f.Memory, "WARNING: No swap limit support"},
		{f.OomKillDisable || f.CgroupV2, "WARNING: No oom kill disable support"},
		{f.CPUQuota, "WARNING: No cpu cfs quota support"},
		{f.CPUQuota, "WARNING: No cpu cfs period support"},
		{f.CPUShares, "WARNING: No cpu shares support"},
		{f.Cpuset, "WARNING: No cpuset support"},
		{i.IPv4Forwarding, "WARNING: IPv4 forwarding is disabled"},
	} {
		if !w.fine {
			i.Warnings = append(i.Warnings, w.text)
		}
	}
	return i
}
