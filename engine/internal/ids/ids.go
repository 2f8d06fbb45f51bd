// Package ids makes and recognises the identifiers of engine objects: 64 lowercase hexadecimal digits, of which people
// see the first twelve.
package ids

import (
	"crypto/rand"
	"encoding/hex"
)

// Len is the length of a full id, ShortLen of the form shown to people, both in characters.
const (
	Len      = 64
	ShortLen = 12
)

// New returns a random id of 64 lowercase hex digits. Its first twelve are never all decimal: such a short id, used as a
// host name, would read as a number.
func New() string {
	var b [Len / 2]byte
	for {
		_, _ = rand.Read(b[:]) // documented never to fail
		s := hex.EncodeToString(b[:])
		for _, c := range s[:ShortLen] {
			if c >= 'a' {
				return s
			}
		}
	}
}

// Short returns the first twelve characters, or all of a shorter string.
func Short(id string) string {
	if len(id) > ShortLen {
		return id[:ShortLen]
	}
	return id
}

// IsFull reports whether s has the form of a full id.
func IsFull(s string) bool { return len(s) == Len && IsHex(s) }

// IsHex reports whether s consists of lowercase hex digits only. The empty string does not count.
func IsHex(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
