package wire

import (
	"cmp"
	"errors"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

var errTooOld = errors.New("too old")

// IsTooOld reports whether a request asked for a version from before JSON errors.
func IsTooOld(err error) bool { return errors.Is(err, errTooOld) }

// SplitVersion takes the version off a path: /v1.41/info is /info and 41. A bare path means the newest. A path is returned with
// an error too, so that unknown paths can be told first.
func SplitVersion(p, oldest, newest string) (path string, minor int, err error) {
	top := numbers(newest)[1]
	v, rest, ok := strings.Cut(strings.TrimPrefix(p, "/v"), "/")
	if !strings.HasPrefix(p, "/v") || !ok || v == "" || strings.Trim(v, "0123456789.") != "" {
		return p, top, nil
	}
	path = "/" + rest
	n := numbers(v)
	switch {
	case compare(n, numbers(newest)) > 0:
		return path, top, Invalid("client version %s is too new. Maximum supported API version is %s", v, newest)
	case compare(n, numbers(oldest)) < 0:
		err := Invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, oldest)
		return path, top, kindError{err, errTooOld}
	}
	return path, n[1], nil
}

// numbers are the parts of a version; what is no number is 0, and there are two at least.
func numbers(v string) []int {
	out := []int{}
	for _, p := range strings.Split(v, ".") {
		n, _ := strconv.Atoi(p) // 0 is meant
		out = append(out, n)
	}
	return append(out, 0)
}

func compare(a, b []int) int {
	for i := range max(len(a), len(b)) {
		x, y := 0, 0
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// CheckFloor refuses an operation that the version of a request does not have yet, or no more; 0 is no limit.
func CheckFloor(method, pattern string, version, floor, ceiling int) error {
	if version < floor {
		return Invalid("%s %s requires minimum API version 1.%d", method, strings.ReplaceAll(pattern, "...}", ":.*}"), floor)
	}
	if ceiling > 0 && version > ceiling {
		return kindError{errors.New("page not found"), errdefs.ErrNotFound}
	}
	return nil
}
