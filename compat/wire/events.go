package wire

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/engine/event"
)

// EventWanted tells whether filters let an event through. Values of one key are alternatives, keys all have to hold, and keys
// that nobody knows are ignored. Source: dockerd 29, GET /events, with recordings of every filter.
func EventWanted(f Filters, e *event.Event) bool {
	name := e.Attributes["name"]
	// A whole id or name, or how it begins; of any type, as in dockerd.
	fuzzy := func(key string) bool {
		return some(f[key], func(v string) bool { return strings.HasPrefix(e.ID, v) || strings.HasPrefix(name, v) })
	}
	for _, key := range []string{"container", "daemon", "plugin", "volume", "network", "node", "service", "secret", "config"} {
		if !fuzzy(key) {
			return false
		}
	}
	return some(f["type"], func(v string) bool { return v == string(e.Type) }) &&
		some(f["event"], func(v string) bool { return v == e.Action || v == family(e.Action) }) &&
		some(f["scope"], func(v string) bool { return v == "local" }) &&
		some(f["image"], func(v string) bool { return slices.Contains(imageNames(e), v) }) &&
		Labels(f["label"], e.Attributes)
}

// some tells whether ok holds for a value; without values it does.
func some(values []string, ok func(string) bool) bool {
	return len(values) == 0 || slices.ContainsFunc(values, ok)
}

// family is the word before what follows in the actions that carry a command line or a state.
func family(action string) string {
	word, _, _ := strings.Cut(action, ":")
	if word == "exec_create" || word == "exec_start" || word == "health_status" {
		return word
	}
	return action
}

// imageNames is what an image filter can say to mean the event: id and name, with and without tag.
func imageNames(e *event.Event) []string {
	name := e.Attributes["image"]
	if e.Type == event.Image {
		name = e.Attributes["name"]
	}
	return []string{e.ID, name, untagged(e.ID), untagged(name)}
}

func untagged(ref string) string {
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") && !strings.Contains(ref, "@") && !strings.HasPrefix(ref, "sha256:") {
		return ref[:i]
	}
	return ref
}

// Timestamp reads seconds since the epoch with up to nine digits of a fraction, which is all that dockerd's events take: the
// CLI turns other forms into it. Empty is the zero time.
func Timestamp(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	bad := func(what, part string, err error) error {
		var num *strconv.NumError
		if errors.As(err, &num) {
			err = num.Err
		}
		return Invalid("invalid value for '%s': invalid timestamp %q: invalid %s %q: %v", name, s, what, part, err)
	}
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, bad("seconds", whole, err)
	}
	if fraction == "" {
		return time.Unix(sec, 0).UTC(), nil
	}
	if _, err := strconv.ParseInt(fraction, 10, 64); err != nil {
		return time.Time{}, bad("nanoseconds", fraction, err)
	}
	nano, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, bad("nanoseconds", fraction, err)
	}
	return time.Unix(sec, nano).UTC(), nil
}
