//go:build cgo && linux

package fastinit

// #include "stage.h"
import "C"

import (
	"encoding/binary"
)

// plan collects operations in the form stage.h describes.
type plan struct {
	b     []byte
	forks bool // it holds a fork: the process is not the one launched
}

// op appends one operation. Accepted: int, uint32, uint64, bool, string, []byte, []string (counted).
func (p *plan) op(code int, args ...any) {
	p.forks = p.forks || code == opFork
	p.b = binary.NativeEndian.AppendUint32(p.b, uint32(code))
	at := len(p.b)
	p.b = binary.NativeEndian.AppendUint32(p.b, 0)
	for _, a := range args {
		switch v := a.(type) {
		case int:
			p.u32(uint32(v))
		case uint32:
			p.u32(v)
		case bool:
			if v {
				p.u32(1)
			} else {
				p.u32(0)
			}
		case uint64:
			p.b = binary.NativeEndian.AppendUint64(p.b, v)
		case string:
			p.str(v)
		case []byte:
			p.u32(uint32(len(v)))
			p.b = append(append(p.b, v...), 0)
		case []string:
			p.u32(uint32(len(v)))
			for _, s := range v {
				p.str(s)
			}
		case []propagation:
			p.u32(uint32(len(v)))
			for _, x := range v {
				p.b = binary.NativeEndian.AppendUint64(p.b, x.kind)
				p.u32(uint32(x.recursive))
			}
		default:
			panic("fastinit: a plan cannot hold this")
		}
	}
	binary.NativeEndian.PutUint32(p.b[at:], uint32(len(p.b)-at-4))
}

func (p *plan) u32(v uint32) { p.b = binary.NativeEndian.AppendUint32(p.b, v) }

func (p *plan) str(s string) {
	p.u32(uint32(len(s)))
	p.b = append(append(p.b, s...), 0)
}

type propagation struct {
	kind      uint64 // MS_PRIVATE, …
	recursive int    // 0 or 1
}

const (
	opTasks      = C.OP_TASKS
	opOOMAdj     = C.OP_OOM_ADJ
	opSetns      = C.OP_SETNS
	opSetnsFD    = C.OP_SETNS_FD
	opFork       = C.OP_FORK
	opUnshare    = C.OP_UNSHARE
	opRoot       = C.OP_ROOT
	opMount      = C.OP_MOUNT
	opBind       = C.OP_BIND
	opNode       = C.OP_NODE
	opLink       = C.OP_LINK
	opUnlink     = C.OP_UNLINK
	opPivot      = C.OP_PIVOT
	opDevNull    = C.OP_DEV_NULL
	opMkdirs     = C.OP_MKDIRS
	opConsole    = C.OP_CONSOLE
	opSeal       = C.OP_SEAL
	opHostname   = C.OP_HOSTNAME
	opDomainname = C.OP_DOMAINNAME
	opSysctl     = C.OP_SYSCTL
	opReadonly   = C.OP_READONLY
	opMask       = C.OP_MASK
	opRlimit     = C.OP_RLIMIT
	opKeyring    = C.OP_KEYRING
	opNoNewPrivs = C.OP_NO_NEW_PRIVS
	opSeccomp    = C.OP_SECCOMP
	opUmask      = C.OP_UMASK
	opUser       = C.OP_USER
	opLookup     = C.OP_LOOKUP
	opWait       = C.OP_WAIT
	opExec       = C.OP_EXEC
)
