package fsx

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteFile("t", path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	for _, op := range []string{"write", "sync", "rename"} {
		restore := SetFault(func(label, o string) error {
			if label == "t" && o == op {
				return boom
			}
			return nil
		})
		err := WriteFile("t", path, []byte("new"), 0o640)
		restore()
		if !errors.Is(err, boom) {
			t.Fatalf("%s: got %v", op, err)
		}
		if b, _ := os.ReadFile(path); string(b) != "old" {
			t.Fatalf("%s: content %q", op, b)
		}
	}
	if err := WriteFile("t", path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	ents, _ := os.ReadDir(dir)
	if len(ents) != 1 {
		t.Fatalf("temporary files left: %v", ents)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", st.Mode())
	}
}
