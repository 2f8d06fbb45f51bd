package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bury ends what is left of a container whose shim is gone: its processes have no parent that would kill or reap them, and its
// cgroups nobody who would remove them. They are found by the bundle. Idempotent; returns when none of the processes lives.
//
// Errors: the processes do not die before ctx ends.
func (c *Client) Bury(ctx context.Context, id string) error {
	raw, err := os.ReadFile(filepath.Join(c.BundleDir(id), "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it never got so far
	}
	if err != nil {
		return err
	}
	var spec struct {
		Linux struct{ CgroupsPath string }
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		return fmt.Errorf("bundle of %s: %w", id, err)
	}
	if filepath.Base(spec.Linux.CgroupsPath) != id {
		return nil // a cgroup that others may share
	}
	var groups []string
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		found, err := filepath.Glob(filepath.Join(root, spec.Linux.CgroupsPath))
		if err != nil {
			return err
		}
		groups = append(groups, found...)
	}
	for {
		left := 0
		for _, g := range groups {
			left += killGroup(g)
		}
		if left == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes of container %s outlive its shim: %w", left, id, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
	for _, g := range groups {
		err = errors.Join(err, removeGroup(g))
	}
	return err
}

// killGroup kills every process of a cgroup and those below it and counts them. A frozen group cannot fork away meanwhile; the
// kill takes effect when it is thawed.
func killGroup(dir string) int {
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) != nil {
		state := filepath.Join(dir, "freezer.state")
		_ = os.WriteFile(state, []byte("FROZEN"), 0)                    // only the freezer's hierarchy has it
		defer func() { _ = os.WriteFile(state, []byte("THAWED"), 0) }() // as above
	}
	n := 0
	for _, d := range below(dir) {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		if err != nil {
			continue // it is gone
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				n++
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
	}
	return n
}

// below lists a cgroup and those below it, the deepest last.
func below(dir string) (out []string) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error { // what goes away meanwhile is no concern
		if err == nil && d.IsDir() {
			out = append(out, p)
		}
		return nil
	})
	return out
}

func removeGroup(dir string) (err error) {
	all := below(dir)
	slices.Reverse(all)
	for _, d := range all {
		for range 100 { // the kernel takes a moment to see that it is empty
			if err = unix.Rmdir(d); err == nil || errors.Is(err, unix.ENOENT) {
				err = nil
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return err
}
