package wire

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"fmt"
)

type kindError struct {
	error
	kind error
}

func (e kindError) Is(t error) bool { return t == e.kind }

// Invalid is an error of kind ErrInvalidArgument with exactly this text.
func Invalid(format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), errdefs.ErrInvalidArgument}
}

// NotYet is the answer of an operation that is not there yet.
func NotYet(op string) error {
	return kindError{fmt.Errorf("%s is not implemented yet", op), errdefs.ErrNotImplemented}
}

// Unavailable is an error of kind ErrUnavailable.
func Unavailable(text string) error { return kindError{fmt.Errorf("%s", text), errdefs.ErrUnavailable} }

// Bool reads a query parameter as dockerd does: everything is true but the words for false.
func Bool(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// Filters is a parsed filters parameter.
type Filters map[string][]string

// ParseFilters accepts both forms, {"k":{"v":true}} and {"k":["v"]}. Keys that are not allowed are refused.
func ParseFilters(s string, allowed ...string) (Filters, error) {
	out := Filters{}
	if s == "" {
		return out, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &raw); err != nil {
		return nil, Invalid("invalid filter")
	}
	if len(raw) > 64 {
		return nil, Invalid("invalid filter: more than 64 keys")
	}
	for k, v := range raw {
		ok := false
		for _, a := range allowed {
			ok = ok || a == k
		}
		if !ok {
			return nil, Invalid("invalid filter '%s'", k)
		}
		var list []string
		var set map[string]bool
		if json.Unmarshal(v, &list) != nil {
			if json.Unmarshal(v, &set) != nil {
				return nil, Invalid("invalid filter")
			}
			for x := range set {
				list = append(list, x)
			}
		}
		out[k] = list
	}
	return out, nil
}

// Labels reports whether all wanted labels (k or k=v) are there.
func Labels(want []string, have map[string]string) bool {
	for _, w := range want {
		k, v, eq := strings.Cut(w, "=")
		got, ok := have[k]
		if !ok || eq && got != v {
			return false
		}
	}
	return true
}

// Time reads seconds with an optional fraction; "" and "0" are the zero time.
func Time(name, s string) (time.Time, error) {
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil { // so long ago
		return time.Now().UTC().Add(-d), nil
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return time.Time{}, Invalid("invalid value for '%s': invalid timestamp %q", name, s)
	}
	r.Mul(r, big.NewRat(1e9, 1))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	return time.Unix(0, n.Int64()).UTC(), nil
}

// Int reads a number; "" is def.
func Int(name, s string, def int) (int, error) {
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, Invalid("invalid %s %q: invalid syntax", name, s)
	}
	return n, nil
}
