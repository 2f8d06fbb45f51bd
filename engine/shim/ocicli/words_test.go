//go:build linux

package ocicli

import "testing"

func TestRuntimesSpeakWithOneVoice(t *testing.T) {
	for in, want := range map[string]string{
		"executable file `nosuch` not found in $PATH: No such file or directory": `exec: "nosuch": executable file not found in $PATH`,
		"open executable: Permission denied":                                     "open executable: permission denied",
		"mkdir `/x`: Is a directory":                                             "mkdir `/x`: is a directory",
		`exec: "nosuch": executable file not found in $PATH`:                     `exec: "nosuch": executable file not found in $PATH`,
	} {
		if got := normalise(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
