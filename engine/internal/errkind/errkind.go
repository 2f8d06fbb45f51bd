// Package errkind makes errors that carry one of containerd's errdefs kinds and show exactly the text they were given.
//
// Clients of the Docker API match on error texts, so a kind must not leak into the message the way
// fmt.Errorf("…: %w", errdefs.ErrNotFound) does. An error made here answers errdefs.IsNotFound and friends through
// errors.Is, and its Error() is the formatted text alone. A %w verb in the format keeps the cause reachable too.
//
// No domain words live here; it may be imported by every package below engine/.
package errkind

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

type kindError struct {
	error
	kind error
}

func (e *kindError) Unwrap() error { return e.error }

// Is lets errors.Is find the kind without the kind being part of the text.
func (e *kindError) Is(target error) bool { return errors.Is(e.kind, target) }

func newError(kind error, format string, args []any) error {
	return &kindError{error: fmt.Errorf(format, args...), kind: kind}
}

// With gives err the kind (one of errdefs.Err…) and keeps its text. A nil err stays nil.
func With(kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{error: err, kind: kind}
}

// NotFound formats an error of kind errdefs.ErrNotFound.
func NotFound(format string, args ...any) error { return newError(errdefs.ErrNotFound, format, args) }

// InvalidArgument formats an error of kind errdefs.ErrInvalidArgument.
func InvalidArgument(format string, args ...any) error {
	return newError(errdefs.ErrInvalidArgument, format, args)
}

// Conflict formats an error of kind errdefs.ErrConflict.
func Conflict(format string, args ...any) error { return newError(errdefs.ErrConflict, format, args) }

// NotModified formats an error of kind errdefs.ErrNotModified.
func NotModified(format string, args ...any) error {
	return newError(errdefs.ErrNotModified, format, args)
}

// NotImplemented formats an error of kind errdefs.ErrNotImplemented.
func NotImplemented(format string, args ...any) error {
	return newError(errdefs.ErrNotImplemented, format, args)
}

// Unavailable formats an error of kind errdefs.ErrUnavailable.
func Unavailable(format string, args ...any) error {
	return newError(errdefs.ErrUnavailable, format, args)
}

// PermissionDenied formats an error of kind errdefs.ErrPermissionDenied.
func PermissionDenied(format string, args ...any) error {
	return newError(errdefs.ErrPermissionDenied, format, args)
}

// Unauthenticated formats an error of kind errdefs.ErrUnauthenticated.
func Unauthenticated(format string, args ...any) error {
	return newError(errdefs.ErrUnauthenticated, format, args)
}

// Internal formats an error of kind errdefs.ErrInternal.
func Internal(format string, args ...any) error { return newError(errdefs.ErrInternal, format, args) }
