package ids

import "testing"

func TestNewIsFullAndUnique(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := New()
		if !IsFull(id) || seen[id] {
			t.Fatalf("bad or repeated id %q", id)
		}
		seen[id] = true
	}
}

func TestForms(t *testing.T) {
	for s, want := range map[string]bool{"": false, "0af": true, "0AF": false, "xyz": false} {
		if IsHex(s) != want {
			t.Errorf("IsHex(%q) = %v", s, !want)
		}
	}
	if Short("0123456789abcdef") != "0123456789ab" || Short("ab") != "ab" {
		t.Error("Short")
	}
}
