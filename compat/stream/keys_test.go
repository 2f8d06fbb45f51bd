package stream

import "testing"

func TestDetachKeysAcrossReads(t *testing.T) {
	f := keyFilter{keys: DefaultKeys}
	var got []byte
	hit := false
	for _, part := range []string{"ab\x10", "c\x10", "\x10", "\x11never"} {
		var out []byte
		out, hit = f.feed([]byte(part))
		got = append(got, out...)
	}
	if !hit || string(got) != "ab\x10c\x10" {
		t.Fatalf("hit %v, passed on %q", hit, got)
	}
}

func TestParseKeys(t *testing.T) {
	for in, want := range map[string]string{"": "\x10\x11", "ctrl-a,b": "\x01b", "ctrl-@": "\x00", "ctrl-[": "\x1b"} {
		if got, err := ParseKeys(in); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"bogus,x", "ctrl-1", "ctrl-ab", ","} {
		if _, err := ParseKeys(in); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
}
