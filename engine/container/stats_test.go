package container

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInterfaces(t *testing.T) {
	p := filepath.Join(t.TempDir(), "dev")
	table := "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo:  1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 290 3 5 6 0 0 0 0 70 8 9 10 0 0 0 0\n"
	if err := os.WriteFile(p, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := interfaces(p)
	if err != nil || len(got) != 1 || got["eth0"] != (NetworkUse{290, 3, 5, 6, 70, 8, 9, 10}) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestSystemCPU(t *testing.T) {
	a, err := systemCPU()
	if err != nil || a == 0 {
		t.Errorf("%d %v", a, err)
	}
}
