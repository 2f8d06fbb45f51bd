package engine

import (
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/berthd/berth/engine/internal/fsx"
)

// crashAt makes the process kill itself, as a crash would end it, at a step: "label" for the first time that it is reached,
// "label:N" for the Nth. Labels are those of fsx.Step and of the calls of fsx. Empty does nothing.
func crashAt(step string) {
	if step == "" {
		return
	}
	label, nth, _ := strings.Cut(step, ":")
	n, err := strconv.Atoi(nth)
	if err != nil {
		n = 1
	}
	var reached atomic.Int64
	fsx.SetFault(func(l, _ string) error {
		if l == label && reached.Add(1) == int64(n) {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL) // cannot fail
			select {}
		}
		return nil
	})
}
