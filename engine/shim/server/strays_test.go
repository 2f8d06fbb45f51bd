//go:build cgo && linux

package server

import (
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestStraysAreReapedAndOthersAreNot(t *testing.T) {
	spawn := func() int {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	stray, mine := spawn(), spawn()
	for deadline := time.Now().Add(10 * time.Second); len(zombies()) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the children do not end", zombies())
		}
	}
	tk := &task{init: &process{exited: make(chan struct{}), pid: mine}, execs: map[string]*process{}}
	s := &Server{log: slog.New(slog.DiscardHandler), tasks: map[string]*task{"t": tk}, busy: 1}
	s.reapStrays(tk)
	if !slices.Contains(zombies(), stray) {
		t.Error("reaped while a process was in the making")
	}
	s.busy = 0
	s.reapStrays(tk)
	if z := zombies(); slices.Contains(z, stray) || !slices.Contains(z, mine) {
		t.Errorf("left %v, want %d alone", z, mine)
	}
	if _, err := syscall.Wait4(mine, nil, 0, nil); err != nil {
		t.Error(err)
	}
}
