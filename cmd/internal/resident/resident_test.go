package resident

import (
	"slices"
	"strings"
	"testing"
)

const sample = `00400000-00401000 r-xp 00000000 08:01 1 /bin/prog
Rss:                   4 kB
Anonymous:             0 kB
00500000-00502000 r--p 00000000 08:01 1 /bin/prog
Rss:                   8 kB
Anonymous:             4 kB
00600000-00601000 rw-p 00000000 08:01 1 /bin/prog
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 08:01 2 /lib/other.so
Anonymous:             0 kB
`

func TestOnlyUnchangedPagesOfTheProgram(t *testing.T) {
	got, err := unchanged(strings.NewReader(sample), "/bin/prog")
	if err != nil {
		t.Fatal(err)
	}
	if want := [][2]uintptr{{0x400000, 0x401000}}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestTheProgramGoesOn(t *testing.T) {
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	if s := strings.Repeat("x", 3); s != "xxx" { // code and constants are mapped again when needed
		t.Error(s)
	}
}
