// Package fsx is the only way engine code creates, replaces or removes files of its own.
//
// A write is acknowledged only when it would survive a power cut: temporary file, fsync, rename, fsync of the directory.
// Every call carries a label; a test can make exactly that step fail (see SetFault), so crash tests need no mocks.
// It knows no domain words.
package fsx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// Fault decides whether the step named by label and op ("write", "sync", "rename", "syncdir", "remove", "mkdir") fails.
type Fault func(label, op string) error

var fault atomic.Pointer[Fault]

// SetFault installs f for tests and returns a function that takes it back. nil means no faults.
func SetFault(f Fault) (restore func()) {
	old := fault.Swap(&f)
	return func() { fault.Store(old) }
}

func inject(label, op string) error {
	if f := fault.Load(); f != nil && *f != nil {
		return (*f)(label, op)
	}
	return nil
}

// WriteFile replaces path with data so that after a crash either the old or the new content is there, whole.
// perm is used as given, whatever the umask.
func WriteFile(label, path string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name()) // the error that matters is err
		}
	}()
	if err := inject(label, "write"); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := inject(label, "sync"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := inject(label, "rename"); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(label, dir)
}

// SyncDir makes renames, creations and removals in dir durable.
func SyncDir(label, dir string) error {
	if err := inject(label, "syncdir"); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// MkdirAll creates path and its missing parents and makes the new entry durable.
func MkdirAll(label, path string, perm fs.FileMode) error {
	if st, err := os.Stat(path); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		return nil
	}
	if err := inject(label, "mkdir"); err != nil {
		return err
	}
	if err := os.MkdirAll(path, perm); err != nil {
		return err
	}
	return SyncDir(label, filepath.Dir(path))
}

// RemoveAll removes path and what is below it; it succeeds if nothing is there.
func RemoveAll(label, path string) error {
	if err := inject(label, "remove"); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Step is a place between two effects at which a test can end the process; see SetFault. What a fault answers is not looked at.
func Step(label string) { _ = inject(label, "step") }
