//go:build cgo && linux && !seccomp

package fastinit

import specs "github.com/opencontainers/runtime-spec/specs-go"

// compile needs the tag seccomp; without it libct decides what becomes of a profile.
func compile(*specs.LinuxSeccomp) (*program, error) { return nil, errUncovered }
