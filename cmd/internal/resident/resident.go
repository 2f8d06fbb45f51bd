// Package resident gives memory back that only a program's start needed: the code and constants of its packages' initialisation,
// and the heap that went with it.
package resident

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Trim drops the mappings of this program's unchanged file pages and returns free heap to the kernel. What is needed again is
// mapped again from the page cache, without disk access.
func Trim() error {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	ranges, err := unchanged(f, strings.TrimSuffix(exe, " (deleted)"))
	if err != nil {
		return err
	}
	for _, r := range ranges {
		// The library call wants a slice; these addresses are no Go memory.
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, r[0], r[1]-r[0], unix.MADV_DONTNEED); e != 0 {
			return e
		}
	}
	return nil
}

// unchanged lists the mappings of a file that cannot be written and hold no private copy of a page: relocated constants look
// read-only too, and would be lost.
func unchanged(smaps io.Reader, file string) ([][2]uintptr, error) {
	var out [][2]uintptr
	var at [2]uintptr
	candidate := false
	sc := bufio.NewScanner(smaps)
	for sc.Scan() {
		line := sc.Text()
		var from, to uintptr
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); n == 3 && len(perms) == 4 {
			at = [2]uintptr{from, to}
			candidate = perms[1] != 'w' && strings.Contains(line, file)
			continue
		}
		if !candidate {
			continue
		}
		if v, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			if strings.Fields(v)[0] == "0" {
				out = append(out, at)
			}
			candidate = false
		}
	}
	return out, sc.Err()
}
