package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// pidfile holds the daemon's pid. The lock tells whether its owner lives, so that a file that a killed daemon left, whoever has that
// number now, stops nobody.
type pidfile struct{ f *os.File }

func writePidfile(path string) (*pidfile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("pid file found, ensure berthd is not running or delete %s", path)
		}
		return nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &pidfile{f}, nil
}

// lock waits a moment: a daemon that was killed holds its files until the kernel has taken it apart.
func lock(f *os.File) (err error) {
	for range 40 {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func (p *pidfile) remove() {
	_ = os.Remove(p.f.Name()) // it may be gone already
	_ = p.f.Close()           // ends the lock
}
