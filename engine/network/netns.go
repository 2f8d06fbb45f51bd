package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/network/bridge"
)

func (m *Manager) nsPath(id string) string { return filepath.Join(m.o.ExecRoot, "netns", id) }

// newNS opens the namespace pinned at path, making it if it is not there. The thread that made it is not used again.
func newNS(path string) (netns.NsHandle, error) {
	if h, err := netns.GetFromPath(path); err == nil {
		var st unix.Statfs_t
		if unix.Fstatfs(int(h), &st) == nil && st.Type == unix.NSFS_MAGIC {
			return h, nil
		}
		_ = h.Close() // a plain file: the mount is gone
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return -1, err
	}
	_ = f.Close() // only a mount point
	res := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			res <- err
			return
		}
		// Interfaces to come have no IPv6 unless their network has it. Loopback keeps ::1.
		_ = bridge.Sysctl("net/ipv6/conf/default/disable_ipv6", "1") // a kernel without IPv6 has no such file
		res <- unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "bind", unix.MS_BIND, "")
	}()
	if err := <-res; err != nil {
		return -1, errors.Join(err, os.Remove(path))
	}
	return netns.GetFromPath(path)
}

func (m *Manager) dropNS(id string) error {
	path := m.nsPath(id)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network namespace: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// inNS runs f on a thread that is in the namespace. The thread is discarded, so f need not restore anything.
func inNS(ns netns.NsHandle, f func() error) error {
	res := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, see above
		if err := unix.Setns(int(ns), unix.CLONE_NEWNET); err != nil {
			res <- err
			return
		}
		res <- f()
	}()
	return <-res
}
