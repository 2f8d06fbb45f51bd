package compat

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/shim"
)

// statusClientGone is logged only: nobody reads the answer.
const statusClientGone = 499

// statuses is the one place where a kind of error becomes an HTTP status.
var statuses = map[error]int{
	errdefs.ErrNotModified:        http.StatusNotModified,
	errdefs.ErrInvalidArgument:    http.StatusBadRequest,
	errdefs.ErrOutOfRange:         http.StatusBadRequest,
	errdefs.ErrFailedPrecondition: http.StatusBadRequest,
	errdefs.ErrUnauthenticated:    http.StatusUnauthorized,
	errdefs.ErrPermissionDenied:   http.StatusForbidden,
	errdefs.ErrNotFound:           http.StatusNotFound,
	errdefs.ErrConflict:           http.StatusConflict,
	errdefs.ErrAlreadyExists:      http.StatusConflict,
	errdefs.ErrNotImplemented:     http.StatusNotImplemented,
	errdefs.ErrUnavailable:        http.StatusServiceUnavailable,
	context.Canceled:              statusClientGone,
}

// status of an error: the outermost kind in its chain decides.
func status(err error) int {
	var se *shim.StartError
	if errors.As(err, &se) {
		if se.Cause == shim.CauseOther {
			return http.StatusInternalServerError
		}
		return http.StatusBadRequest
	}
	if errors.Is(err, wire.ErrTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	if code, ok := statuses[kindOf(err)]; ok {
		return code
	}
	return http.StatusInternalServerError
}

// kindOf is the outermost kind in a chain, depth first; nil if there is none. errdefs.Resolve looks at what an error wraps before
// it asks the error itself, so it would miss the kinds that are given without a text of their own.
func kindOf(err error) error {
	for err != nil {
		if reflect.TypeOf(err).Comparable() && statuses[err] != 0 {
			return err
		}
		if e, ok := err.(interface{ Is(error) bool }); ok {
			for k := range statuses {
				if e.Is(k) {
					return k
				}
			}
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, x := range e.Unwrap() {
				if k := kindOf(x); k != nil {
					return k
				}
			}
			return nil
		default:
			if k := errdefs.Resolve(err); k != errdefs.ErrUnknown { //nolint:errorlint // a kind, not a chain
				return k
			}
			return nil
		}
	}
	return nil
}
