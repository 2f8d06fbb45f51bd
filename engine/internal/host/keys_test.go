package host

import (
	"os"
	"testing"
)

func TestLimitsAreOnlyRaised(t *testing.T) {
	root := tree(t, map[string]string{"low": "200\n", "high": "5000\n"}) + "/"
	raise(root, map[string]int{"low": 1000, "high": 1000, "missing": 1000})
	for name, want := range map[string]string{"low": "1000", "high": "5000\n"} {
		if b, _ := os.ReadFile(root + name); string(b) != want {
			t.Errorf("%s: %q, want %q", name, b, want)
		}
	}
	if _, err := os.Stat(root + "missing"); err == nil {
		t.Error("a limit that the kernel does not have was made")
	}
}
