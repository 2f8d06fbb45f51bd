package oci

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// HostMaskedPaths are MaskedPaths and, for each CPU that can be there, its throttling counters, from which a container could
// tell what others do.
func HostMaskedPaths() []string {
	b, _ := os.ReadFile("/sys/devices/system/cpu/possible") // unknown: nothing to add
	return maskedPaths(strings.TrimSpace(string(b)), func(p string) bool {
		_, err := os.Stat(p)
		return err == nil
	})
}

func maskedPaths(possible string, exists func(string) bool) []string {
	out := slices.Clone(MaskedPaths)
	for _, part := range strings.Split(possible, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 13)
		z, err2 := strconv.ParseUint(last, 10, 13)
		if err1 != nil || err2 != nil {
			continue
		}
		for n := a; n <= z; n++ {
			if p := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", n); exists(p) {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return out
}
