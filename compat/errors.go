package compat

import (
	"context"
	"errors"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/shim"
)

// status is the one place where a kind of error becomes an HTTP status.
func status(err error) int {
	var se *shim.StartError
	switch {
	case errors.As(err, &se):
		if se.Cause == shim.CauseOther {
			return http.StatusInternalServerError
		}
		return http.StatusBadRequest
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err), errdefs.IsFailedPrecondition(err):
		return http.StatusBadRequest
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err):
		return http.StatusConflict
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		return 499
	}
	return http.StatusInternalServerError
}
