package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPidfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "pid")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil { // stale, and that pid lives
		t.Fatal(err)
	}
	p, err := writePidfile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != strconv.Itoa(os.Getpid()) {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := writePidfile(path); err == nil || !strings.Contains(err.Error(), "pid file found") {
		t.Errorf("a second daemon: %v", err)
	}
	p.remove()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
	p, err = writePidfile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.remove()
}
