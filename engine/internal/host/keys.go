package host

import (
	"os"
	"strconv"
	"strings"
)

// keyLimits are what root may keep in keyrings when each container and exec has one: the kernel's own limits are too low for
// hundreds of them. Source: dockerd sets the same.
var keyLimits = map[string]int{"kernel/keys/root_maxkeys": 1_000_000, "kernel/keys/root_maxbytes": 25_000_000}

// RaiseKeyLimits raises the kernel's limits where they are lower. Best effort: not every host lets them be set.
func RaiseKeyLimits() { raise("/proc/sys/", keyLimits) }

func raise(root string, limits map[string]int) {
	for name, want := range limits {
		b, err := os.ReadFile(root + name)
		have, aerr := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || aerr != nil || have >= want {
			continue
		}
		_ = os.WriteFile(root+name, strconv.AppendInt(nil, int64(want), 10), 0) // see above
	}
}
