package wire

import (
	"net/url"
	"reflect"
)

// This file and versions_*.go hold everything that differs between API versions, in one list. Requests are raised to the newest
// shape before a handler sees them, responses are lowered from it afterwards; nothing else compares versions.
//
// Source: the version table of the wire notes; the routers of Engine 28.5.

// change is one difference. It applies to requests with since <= version < until (minor numbers).
type change struct {
	since, until int
	of           reflect.Type
	raise        func(v any) (warning string, err error) // requests
	lower        func(v any) any                         // responses
}

func (c *change) applies(version int) bool { return c.since <= version && version < c.until }

const always = 1 << 10

// request is a change of a decoded body, for versions below until.
func request[T any](until int, f func(*T)) change {
	return checked(until, func(v *T) error { f(v); return nil })
}

// checked is a request that can be refused.
func checked[T any](until int, f func(*T) error) change {
	return change{until: until, of: reflect.TypeFor[*T](), raise: func(v any) (string, error) { return "", f(v.(*T)) }}
}

// from makes a change apply to versions since on, too.
func (c change) from(since int) change {
	c.since, c.until = since, always
	return c
}

// response is a change of an answer, for versions below until.
func response[T any](until int, f func(T) T) change {
	return change{until: until, of: reflect.TypeFor[T](), lower: func(v any) any { return f(v.(T)) }}
}

var changes = append(append(raises(), containerAnswers()...), append(imageAnswers(), systemAnswers()...)...)

// Raise brings a decoded request body, a pointer, to the newest version's shape. Warnings are for the client.
func Raise(version int, v any) (warnings []string, err error) {
	t := reflect.TypeOf(v)
	for i := range changes {
		c := &changes[i]
		if c.of != t || c.raise == nil || !c.applies(version) {
			continue
		}
		w, err := c.raise(v)
		if err != nil {
			return nil, err
		}
		if w != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

// Lower brings an answer to the shape of an older version. The value may be changed in place: it must be the request's own.
func Lower(version int, v any) any {
	t := reflect.TypeOf(v)
	for i := range changes {
		if c := &changes[i]; c.of == t && c.lower != nil && c.applies(version) {
			v = c.lower(v)
		}
	}
	return v
}

// ignored are query parameters that did not exist below a version: older clients that send them mean nothing by it.
var ignored = []struct {
	until int
	op    string
	keys  []string
}{
	{32, "POST /images/create", []string{"platform"}},
	{32, "POST /build", []string{"platform"}},
	{40, "POST /build", []string{"outputs"}},
	{41, "POST /containers/create", []string{"platform"}},
	{41, "GET /containers/{id...}/stats", []string{"one-shot"}},
	{42, "POST /containers/{id...}/stop", []string{"signal"}},
	{42, "POST /containers/{id...}/restart", []string{"signal"}},
	{42, "GET /system/df", []string{"type"}},
	{42, "GET /images/json", []string{"shared-size"}},
	{46, "POST /images/{name...}/push", []string{"platform"}},
	{47, "GET /images/json", []string{"manifests"}},
	{48, "GET /images/{name...}/get", []string{"platform"}},
	{48, "GET /images/get", []string{"platform"}},
	{48, "POST /images/load", []string{"platform"}},
	{48, "GET /images/{name...}/history", []string{"platform"}},
	{48, "GET /images/{name...}/json", []string{"manifests"}},
	{49, "GET /images/{name...}/json", []string{"platform"}},
	{50, "DELETE /images/{name...}", []string{"platforms"}},
}

// RaiseQuery drops what an operation did not take yet.
func RaiseQuery(version int, op string, q url.Values) {
	for _, i := range ignored {
		if i.op == op && version < i.until {
			for _, k := range i.keys {
				q.Del(k)
			}
		}
	}
}

// WaitFlushes reports whether the head of a wait's answer goes out before the exit.
func WaitFlushes(version int) bool { return version >= 30 }

// TypedStreams reports whether a stream's content type tells that it is multiplexed.
func TypedStreams(version int) bool { return version >= 42 }

// PrunesNamedVolumes reports whether a prune of volumes takes all that are unused, not anonymous ones alone.
func PrunesNamedVolumes(version int) bool { return version < 42 }

// EventVisible hides events that a version does not know: an image's creation.
func EventVisible(version int, typ, action string) bool {
	return version >= 46 || typ != "image" || action != "create"
}

// OldIPC reports whether a container without an IPC mode shares it.
func OldIPC(version int) bool { return version < 40 }

// OldCgroupns reports whether a container without a cgroup namespace mode is in the host's, on cgroup v1.
func OldCgroupns(version int) bool { return version < 41 }
