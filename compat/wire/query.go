package wire

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bool reads a query parameter as dockerd does: everything is true but the words for false.
func Bool(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
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

// Unsigned reads a number of 32 bits.
func Unsigned(name, s string) (uint32, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err == nil && n >= 0 && n <= math.MaxUint32:
		return uint32(n), nil
	case err == nil, errors.Is(err, strconv.ErrRange):
		return 0, Invalid("invalid %s %q: value out of range", name, s)
	}
	return 0, Invalid("invalid %s %q: invalid syntax", name, s)
}

// Time reads seconds with an optional fraction, as logs take them; name is the parameter as errors show it. "" and "0" are the zero
// time.
func Time(name, s string) (time.Time, error) {
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	bad := func(what, text string, err error) error {
		cause := errors.Unwrap(err)
		return Invalid("invalid value for %s: invalid timestamp %q: invalid %s %q: %w", name, s, what, text, cause)
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, bad("seconds", whole, err)
	}
	if frac == "" {
		return time.Unix(sec, 0).UTC(), nil
	}
	nano, err := strconv.ParseInt((frac + "000000000")[:max(9, len(frac))], 10, 64)
	if err != nil {
		return time.Time{}, bad("nanoseconds", frac, err)
	}
	for i := len(frac); i > 9; i-- {
		nano /= 10
	}
	return time.Unix(sec, nano).UTC(), nil
}

// moments are the forms of a date that prune filters take, without a zone in the daemon's own.
var moments = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15:04Z07:00", "2006-01-02Z07:00", "2006-01-02",
}

// Moment reads a point in time as prune filters take it: a duration back from now, a date, or seconds.
func Moment(name, s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range moments {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil { //nolint:gosmopolitan // as dockerd
			return t, nil
		}
	}
	return Time("'"+name+"'", s)
}
