package shim

import "strings"

// What dockerd says before the runtime's own words.
const (
	CreateFailed  = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
	ExecFailed    = "OCI runtime exec failed: exec failed: "
	ReleaseFailed = "OCI runtime start failed: "
)

// Classify makes a StartError of a runtime's words. They come out of the container's first process as text, so there is
// nothing typed to look at; this is the one place that does it. Two kinds get dockerd's hint at their end: clients decide by
// the words alone.
func Classify(msg string) *StartError {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(msg, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("permission denied"), has("exec format error"):
		return &StartError{Cause: CauseNotExecutable, Message: msg}
	case has("is a directory"):
		return &StartError{Cause: CauseNotExecutable, Message: msg + ": permission denied"}
	case has("executable file not found", "no such file or directory"):
		return &StartError{Cause: CauseNotFound, Message: msg}
	case has("not a directory"):
		return &StartError{Cause: CauseNotFound, Message: msg + ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"}
	}
	return &StartError{Cause: CauseOther, Message: msg}
}
