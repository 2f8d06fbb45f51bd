//go:build cgo && linux

package fastinit

import (
	"encoding/binary"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Orders of messages in which the set-up of a process that forks may be told.
func TestFollowKnowsTheProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		order string
		want  string // part of the error
	}{
		"pid first":          {"PR", ""},
		"last word first":    {"RP", ""},
		"error before pid":   {"EP", "no such file"},
		"error after pid":    {"PE", "no such file"},
		"error without fork": {"E", "no such file"},
		"nothing":            {"", "ended while it was being set up"},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			theirs := os.NewFile(uintptr(pair[1]), "theirs")
			st := &stage{control: os.NewFile(uintptr(pair[0]), "control"), forks: true}
			first, second := spawn(t), spawn(t)
			if err := st.watch(first); err != nil {
				t.Fatal(err)
			}
			for _, kind := range tc.order {
				m := binary.NativeEndian.AppendUint32(nil, uint32(kind))
				value := 0
				if kind == 'P' {
					value = second
				}
				if kind == 'E' {
					value = int(syscall.ENOENT)
				}
				m = binary.NativeEndian.AppendUint32(m, uint32(value))
				m = append(binary.NativeEndian.AppendUint32(m, 0), "what"...)
				if _, err := theirs.Write(m); err != nil {
					t.Fatal(err)
				}
			}
			_ = theirs.Close()
			err = st.follow()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			want := first
			if strings.Contains(tc.order, "P") {
				want = second
			} else if _, err := syscall.Wait4(second, nil, 0, nil); err != nil {
				t.Error(err)
			}
			if st.pid != want {
				t.Errorf("pid %d, want %d", st.pid, want)
			}
			if ws, err := st.wait(); err != nil || ws.ExitStatus() != 0 {
				t.Error(ws, err)
			}
		})
	}
}

func spawn(t *testing.T) int {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
