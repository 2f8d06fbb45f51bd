package volume

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/store"
)

func open(t *testing.T, inUse func(string) []string) *Manager {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	m, err := Open(Options{DB: db, Root: filepath.Join(t.TempDir(), "volumes"), InUse: inUse})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNobodyRemovesAVolumeWhileAContainerIsMadeWithIt(t *testing.T) {
	m := open(t, nil)
	for range 2 { // new, and had already
		if _, err := m.Create(t.Context(), CreateOptions{Name: "vol", Holder: "c1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Remove(t.Context(), "vol", true); !errdefs.IsConflict(err) || err.Error() != "remove vol: volume is in use - [c1, c1]" {
		t.Fatalf("%v", err)
	}
	m.Release("c1")
	if err := m.Remove(t.Context(), "vol", false); err != nil {
		t.Fatal(err)
	}
}

func TestASlowMountDelaysOnlyItsVolume(t *testing.T) {
	m := open(t, nil)
	for _, n := range []string{"slow", "other"} {
		if _, err := m.Create(t.Context(), CreateOptions{Name: n}); err != nil {
			t.Fatal(err)
		}
	}
	p := m.place("slow")
	if err := p.acquire(t.Context()); err != nil { // as a mount that hangs does
		t.Fatal(err)
	}
	if err := m.Mount(t.Context(), "other", "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.List(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Mount(ctx, "slow", "c"); err == nil {
		t.Fatal("it was mounted twice at a time")
	}
}

func TestSweepRemovesWhatNoRowNames(t *testing.T) {
	m := open(t, nil)
	if _, err := m.Create(t.Context(), CreateOptions{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(m.o.Root, "stray", "_data")
	if err := os.MkdirAll(stray, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	ents, err := os.ReadDir(m.o.Root)
	if err != nil || len(ents) != 1 || ents[0].Name() != "kept" {
		t.Fatalf("%v, %v", ents, err)
	}
}

func TestMountOptions(t *testing.T) {
	for in, want := range map[string]struct {
		flags uintptr
		data  string
	}{
		"":                        {},
		"size=1m,uid=7":           {0, "size=1m,uid=7"},
		"ro,noexec,addr=1.2.3.4":  {unix.MS_RDONLY | unix.MS_NOEXEC, "addr=1.2.3.4"},
		"ro,rw,bind":              {unix.MS_BIND, ""},
		"rbind,rslave":            {unix.MS_BIND | unix.MS_REC | unix.MS_SLAVE, ""},
		"defaults,nosuid,,mode=1": {unix.MS_NOSUID, "mode=1"},
	} {
		if flags, data := parseMount(in); flags != want.flags || data != want.data {
			t.Errorf("%q: %#x %q, want %#x %q", in, flags, data, want.flags, want.data)
		}
	}
}

func TestResolveAddr(t *testing.T) {
	if got, err := resolveAddr("vers=4,addr=localhost"); err != nil || !strings.HasSuffix(got, "addr=127.0.0.1") && !strings.HasSuffix(got, "addr=::1") {
		t.Fatalf("%q, %v", got, err)
	}
	if got, err := resolveAddr("addr=10.0.0.1"); err != nil || got != "addr=10.0.0.1" {
		t.Fatalf("%q, %v", got, err)
	}
}
