package container

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/host"
)

const minMemory = 6 << 20 // bytes; below it not even the runtime's first stage fits

// checkLimits refuses limits that contradict each other or this host, in dockerd's words, and takes out those that the
// host's kernel cannot enforce, with a warning for each. update says that r changes a container that has limits already.
func checkLimits(r *Resources, h host.Facts, update bool) (warnings []string, err error) {
	for _, f := range []func(*Resources, host.Facts, bool) ([]string, error){checkMemory, checkCPU, checkCpuset, checkBlockIO} {
		w, err := f(r, h, update)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, w...)
	}
	return warnings, nil
}

func checkMemory(r *Resources, h host.Facts, update bool) (warnings []string, err error) {
	warn := func(text string) { warnings = append(warnings, text) }
	invalid := errkind.InvalidArgument
	// Kernels have not enforced these for long, and the API has dropped them.
	r.KernelMemory, r.KernelMemoryTCP = 0, 0
	if r.MemorySwappiness != nil && *r.MemorySwappiness == -1 {
		r.MemorySwappiness = nil // how old clients say "unset"
	}
	if r.Memory != 0 && r.Memory < minMemory {
		return nil, invalid("Minimum memory limit allowed is 6MB")
	}
	if r.Memory > 0 && !h.Memory {
		warn("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.Memory, r.MemorySwap = 0, -1
	}
	if r.Memory > 0 && r.MemorySwap != -1 && !h.Swap {
		warn("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
		r.MemorySwap = -1
	}
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return nil, invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if r.Memory == 0 && r.MemorySwap > 0 && !update {
		return nil, invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if r.MemorySwappiness != nil && !h.Swappiness {
		warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
		r.MemorySwappiness = nil
	}
	if v := r.MemorySwappiness; v != nil && (*v < 0 || *v > 100) {
		return nil, invalid("Invalid value: %d, valid memory swappiness range is 0-100", *v)
	}
	if r.MemoryReservation > 0 && !h.MemoryReservation {
		warn("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.")
		r.MemoryReservation = 0
	}
	if r.MemoryReservation > 0 && r.MemoryReservation < minMemory {
		return nil, invalid("Minimum memory reservation allowed is 6MB")
	}
	if r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation {
		return nil, invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if r.OomKillDisable != nil && !h.OomKillDisable {
		if *r.OomKillDisable {
			warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
		}
		r.OomKillDisable = nil
	}
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if r.PidsLimit != nil && !h.Pids {
		if *r.PidsLimit > 0 {
			warn("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.")
		}
		r.PidsLimit = nil
	}
	return warnings, nil
}

func checkCPU(r *Resources, h host.Facts, _ bool) (warnings []string, err error) {
	warn := func(text string) { warnings = append(warnings, text) }
	invalid := errkind.InvalidArgument
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return nil, invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return nil, invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs > 0 && !h.CPUQuota:
		return nil, invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(h.NumCPU)*1e9:
		return nil, invalid("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", h.NumCPU)
	case r.CPUShares < 0:
		return nil, invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.CPUShares > 0 && !h.CPUShares {
		warn("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
		r.CPUShares = 0
	}
	if (r.CPUPeriod != 0 || r.CPUQuota != 0) && !h.CPUQuota {
		warn("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1e6) {
		return nil, invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return nil, invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	}
	if r.CPUPercent > 0 {
		warn("linux does not support CPU percent. Percent discarded.")
		r.CPUPercent = 0
	}
	return warnings, nil
}

func checkCpuset(r *Resources, h host.Facts, _ bool) (warnings []string, err error) {
	if r.CpusetCpus == "" && r.CpusetMems == "" {
		return nil, nil
	}
	if !h.Cpuset {
		r.CpusetCpus, r.CpusetMems = "", ""
		return []string{"Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded."}, nil
	}
	for _, c := range []struct{ field, what, asked, have string }{
		{"cpus", "CPUs", r.CpusetCpus, h.CPUs}, {"mems", "memory nodes", r.CpusetMems, h.Mems},
	} {
		asked, err := parseSet(c.asked)
		if err != nil {
			return nil, errkind.InvalidArgument("Invalid value %s for cpuset %s: %w", c.asked, c.field, err)
		}
		have, err := parseSet(c.have)
		if err != nil {
			return nil, fmt.Errorf("the kernel's list of %s %q: %w", c.what, c.have, err)
		}
		if slices.ContainsFunc(asked, func(a span) bool { return !covered(have, a) }) {
			return nil, errkind.InvalidArgument("Requested %s are not available - requested %s, available: %s", c.what, c.asked, c.have)
		}
	}
	return nil, nil
}

func checkBlockIO(r *Resources, h host.Facts, _ bool) (warnings []string, err error) {
	warn := func(text string) { warnings = append(warnings, text) }
	if r.BlkioWeight > 0 && !h.BlkioWeight {
		warn("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
		r.BlkioWeight = 0
	}
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return nil, errkind.InvalidArgument("Range of blkio weight is from 10 to 1000")
	}
	if len(r.BlkioWeightDevice) > 0 && !h.BlkioWeightDevice {
		warn("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.")
		r.BlkioWeightDevice = []WeightDevice{}
	}
	for _, t := range []struct {
		list *[]ThrottleDevice
		ok   bool
		text string
	}{
		{&r.BlkioDeviceReadBps, h.BlkioReadBps, "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded."},
		{&r.BlkioDeviceWriteBps, h.BlkioWriteBps, "Your kernel does not support BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded."},
		{&r.BlkioDeviceReadIOps, h.BlkioReadIOps, "Your kernel does not support IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded."},
		{&r.BlkioDeviceWriteIOps, h.BlkioWriteIOps, "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded."},
	} {
		if len(*t.list) > 0 && !t.ok {
			warn(t.text)
			*t.list = []ThrottleDevice{}
		}
	}
	return warnings, nil
}

// span is a range of CPUs or nodes, both ends included. Sets are kept as spans: "0-8191" must not become 8192 entries.
type span struct{ from, to int }

const maxCPU = 8191

// parseSet reads the kernel's list form, "0-3,8"; empty parts are allowed.
func parseSet(s string) ([]span, error) {
	var out []span
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.Atoi(first)
		z, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || a < 0 || z < a {
			return nil, fmt.Errorf("invalid format: %s", s)
		}
		if z > maxCPU {
			return nil, fmt.Errorf("value of out range, maximum is %d", maxCPU)
		}
		out = append(out, span{a, z})
	}
	return out, nil
}

// covered reports whether the set holds every number of a.
func covered(set []span, a span) bool {
	for n := a.from; n <= a.to; n++ {
		if !slices.ContainsFunc(set, func(s span) bool { return s.from <= n && n <= s.to }) {
			return false
		}
	}
	return true
}
