//go:build cgo && linux && seccomp

package fastinit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// compile turns a profile into the kernel's form. The rules are those of libcontainer: see its package seccomp.
func compile(profile *specs.LinuxSeccomp) (*program, error) {
	c, err := specconv.SetupSeccomp(profile)
	if err != nil || c == nil {
		return nil, err
	}
	def, err := action(c.DefaultAction, c.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("error initializing seccomp: %w", err)
	}
	f, err := libseccomp.NewFilter(def)
	if err != nil {
		return nil, fmt.Errorf("error creating filter: %w", err)
	}
	defer f.Release()
	for _, name := range c.Architectures {
		a, err := libseccomp.GetArchFromString(name)
		if err != nil {
			return nil, fmt.Errorf("error validating Seccomp architecture: %w", err)
		}
		if err := f.AddArch(a); err != nil {
			return nil, fmt.Errorf("error adding architecture to seccomp filter: %w", err)
		}
	}
	if len(c.Syscalls) > 32 {
		_ = f.SetOptimize(2) // a tree instead of a list, where the library knows it
	}
	for _, call := range c.Syscalls {
		if err := addRule(f, call, def); err != nil {
			return nil, err
		}
	}
	body, err := export(f)
	if err != nil {
		return nil, fmt.Errorf("error exporting BPF: %w", err)
	}
	stub, err := unknownCalls(c)
	if err != nil {
		return nil, err
	}
	p := &program{code: append(stub, body...)}
	for _, fl := range c.Flags {
		switch fl {
		case specs.LinuxSeccompFlagLog:
			p.flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			p.flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // there is one thread
		default:
			return nil, errUncovered
		}
	}
	return p, nil
}

// export reads the program through a file: releases of the library before 2.6 know no other way.
func export(f *libseccomp.ScmpFilter) ([]byte, error) {
	fd, err := unix.MemfdCreate("bpf", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "bpf")
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, 0, 1<<20))
}

func action(a configs.Action, errno *uint) (libseccomp.ScmpAction, error) {
	code := int16(unix.EPERM)
	if errno != nil {
		code = int16(*errno)
	}
	switch a {
	case configs.Kill, configs.KillThread:
		return libseccomp.ActKillThread, nil
	case configs.KillProcess:
		return libseccomp.ActKillProcess, nil
	case configs.Errno:
		return libseccomp.ActErrno.SetReturnCode(code), nil
	case configs.Trace:
		return libseccomp.ActTrace.SetReturnCode(code), nil
	case configs.Trap:
		return libseccomp.ActTrap, nil
	case configs.Allow:
		return libseccomp.ActAllow, nil
	case configs.Log:
		return libseccomp.ActLog, nil
	case configs.Notify: // needs an agent
		return 0, errUncovered
	}
	return 0, errors.New("invalid action, cannot use in rule")
}

var compares = map[configs.Operator]libseccomp.ScmpCompareOp{
	configs.EqualTo: libseccomp.CompareEqual, configs.NotEqualTo: libseccomp.CompareNotEqual, configs.GreaterThan: libseccomp.CompareGreater,
	configs.GreaterThanOrEqualTo: libseccomp.CompareGreaterEqual, configs.LessThan: libseccomp.CompareLess,
	configs.LessThanOrEqualTo: libseccomp.CompareLessOrEqual, configs.MaskEqualTo: libseccomp.CompareMaskedEqual,
}

func addRule(f *libseccomp.ScmpFilter, call *configs.Syscall, def libseccomp.ScmpAction) error {
	act, err := action(call.Action, call.ErrnoRet)
	if err != nil {
		return fmt.Errorf("action in seccomp profile is invalid: %w", err)
	}
	if act == def {
		return nil
	}
	nr, err := libseccomp.GetSyscallFromName(call.Name)
	if err != nil {
		return nil //nolint:nilerr // a call that this library does not know is left to the default
	}
	var all []libseccomp.ScmpCondition
	var perArg [6]int
	split := false
	for _, a := range call.Args {
		op, ok := compares[a.Op]
		if !ok {
			return errors.New("invalid operator, cannot use in rule")
		}
		c, err := libseccomp.MakeCondition(a.Index, op, a.Value, a.ValueTwo)
		if err != nil {
			return fmt.Errorf("error creating seccomp syscall condition for syscall %s: %w", call.Name, err)
		}
		perArg[a.Index]++
		split = split || perArg[a.Index] > 1
		all = append(all, c)
	}
	rules := [][]libseccomp.ScmpCondition{all}
	if split { // several conditions on one argument are alternatives
		rules = nil
		for _, c := range all {
			rules = append(rules, []libseccomp.ScmpCondition{c})
		}
	}
	for _, r := range rules {
		if len(r) == 0 {
			err = f.AddRule(nr, act)
		} else {
			err = f.AddRuleConditional(nr, act, r)
		}
		if err != nil {
			return fmt.Errorf("error adding seccomp filter rule for syscall %s: %w", call.Name, err)
		}
	}
	return nil
}

// auditArch is the kernel's name of an architecture in seccomp_data. Others get no stub; then they are not covered.
var auditArch = map[libseccomp.ScmpArch]uint32{
	libseccomp.ArchAMD64: unix.AUDIT_ARCH_X86_64, libseccomp.ArchX32: unix.AUDIT_ARCH_X86_64, libseccomp.ArchX86: unix.AUDIT_ARCH_I386,
	libseccomp.ArchARM64: unix.AUDIT_ARCH_AARCH64, libseccomp.ArchARM: unix.AUDIT_ARCH_ARM,
}

const x32Bit = 1 << 30

// unknownCalls returns code to run before the filter: a call that is newer than all that the profile names answers ENOSYS
// instead of the default error, so that programs fall back to older calls. Source: libcontainer's patchbpf, the same rule.
func unknownCalls(c *configs.Seccomp) ([]byte, error) {
	if c.DefaultErrnoRet != nil && *c.DefaultErrnoRet == uint(unix.ENOSYS) || c.DefaultAction == configs.Allow || c.DefaultAction == configs.Log || c.DefaultAction == configs.Trace {
		return nil, nil
	}
	native, err := libseccomp.GetNativeArch()
	if err != nil {
		return nil, err
	}
	archs := []libseccomp.ScmpArch{native}
	for _, name := range c.Architectures {
		a, err := libseccomp.GetArchFromString(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(archs, a) {
			archs = append(archs, a)
		}
	}
	var out bpf
	for _, a := range archs {
		audit, ok := auditArch[a]
		if !ok {
			return nil, errUncovered
		}
		last := libseccomp.ScmpSyscall(0)
		for _, call := range c.Syscalls {
			if nr, err := libseccomp.GetSyscallFromNameByArch(call.Name, a); err == nil && nr > last {
				last = nr
			}
		}
		if last == 0 {
			continue
		}
		// Each block falls through to the next one, and the last to the filter.
		x86 := audit == unix.AUDIT_ARCH_X86_64
		skip := uint8(3)
		if x86 {
			skip++
		}
		out.load(4)
		out.jump(unix.BPF_JEQ, audit, 0, skip)
		out.load(0)
		switch {
		case a == libseccomp.ArchX32:
			out.jump(unix.BPF_JSET, x32Bit, 0, 2)
		case x86:
			out.jump(unix.BPF_JSET, x32Bit, 2, 0)
		}
		out.jump(unix.BPF_JGT, uint32(last), 0, 1)
		out.ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	}
	return out.Bytes(), nil
}

// bpf appends instructions of the classic filter machine.
type bpf struct{ bytes.Buffer }

func (b *bpf) add(code uint16, jt, jf uint8, k uint32) {
	var i [8]byte
	binary.NativeEndian.PutUint16(i[:], code)
	i[2], i[3] = jt, jf
	binary.NativeEndian.PutUint32(i[4:], k)
	b.Write(i[:])
}

func (b *bpf) load(off uint32) { b.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, off) }
func (b *bpf) ret(v uint32)    { b.add(unix.BPF_RET|unix.BPF_K, 0, 0, v) }
func (b *bpf) jump(op uint16, k uint32, yes, no uint8) {
	b.add(unix.BPF_JMP|unix.BPF_K|op, yes, no, k)
}
