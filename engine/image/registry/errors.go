package registry

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// Status is the HTTP status a registry answered with, or 0.
func Status(err error) int {
	var te *transport.Error
	if errors.As(err, &te) {
		return te.StatusCode
	}
	return 0
}

// Retryable reports whether another try may help.
func Retryable(err error) bool {
	s := Status(err)
	return s == 0 || s == http.StatusTooManyRequests || s >= 500
}
