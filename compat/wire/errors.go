package wire

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

type kindError struct {
	error
	kind error
}

// Is lets errors.Is find the kind without the kind being part of the text.
func (e kindError) Is(t error) bool { return t == e.kind }

func (e kindError) Unwrap() error { return e.error }

// ErrTooLarge is the kind of errors about a body that is larger than allowed.
var ErrTooLarge = errors.New("too large")

// Invalid is an error of kind ErrInvalidArgument with exactly this text.
func Invalid(format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), errdefs.ErrInvalidArgument}
}

// Forbidden is an error of kind ErrPermissionDenied with exactly this text.
func Forbidden(format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), errdefs.ErrPermissionDenied}
}

// NotFound is an error of kind ErrNotFound with exactly this text.
func NotFound(format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), errdefs.ErrNotFound}
}

// Internal is an error of kind ErrInternal: where dockerd itself says 500 to a client's mistake.
func Internal(format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), errdefs.ErrInternal}
}

// NotYet is the answer of an operation that is not there yet.
func NotYet(op string) error {
	return kindError{fmt.Errorf("%s is not implemented yet", op), errdefs.ErrNotImplemented}
}

// Unavailable is an error of kind ErrUnavailable.
func Unavailable(text string) error { return kindError{errors.New(text), errdefs.ErrUnavailable} }

// Missing is an error of kind ErrNotFound with exactly this text.
func Missing(format string, args ...any) error {
	return kindError{fmt.Errorf(format, args...), errdefs.ErrNotFound}
}
