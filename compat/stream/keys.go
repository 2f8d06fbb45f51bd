package stream

import (
	"fmt"
	"strings"
)

// DefaultKeys is ctrl-p,ctrl-q.
var DefaultKeys = []byte{16, 17}

// ParseKeys reads "ctrl-p,ctrl-q", "a,b", …; "" is the default.
func ParseKeys(s string) ([]byte, error) {
	if s == "" {
		return DefaultKeys, nil
	}
	var out []byte
	for _, k := range strings.Split(s, ",") {
		c, ctrl := strings.CutPrefix(strings.ToLower(k), "ctrl-")
		switch {
		case !ctrl && len(k) == 1:
			out = append(out, k[0])
		case ctrl && len(c) == 1 && c[0] >= 'a' && c[0] <= 'z':
			out = append(out, c[0]-'a'+1)
		case ctrl && len(c) == 1 && strings.Contains("@[\\]^_", c):
			out = append(out, c[0]&31)
		default:
			return nil, fmt.Errorf("Invalid detach keys (%s) provided", s) //nolint:staticcheck // clients match the text
		}
	}
	return out, nil
}
