package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// StatusError is an answer that was not expected.
type StatusError struct {
	Method, URL string
	Code        int
	Codes       []string      // of the registry's error document
	Message     string        // its first message
	After       time.Duration // when to try again; 0 = not said
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("unexpected status from %s request to %s: %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Status is the HTTP status a registry answered with, or 0.
func Status(err error) int {
	var se *StatusError
	if errors.As(err, &se) {
		return se.Code
	}
	var te *transport.Error
	if errors.As(err, &te) {
		return te.StatusCode
	}
	return 0
}

// Denied reports whether the registry refused access, as it also does for what does not exist.
func Denied(err error) bool {
	s := Status(err)
	return s == http.StatusUnauthorized || s == http.StatusForbidden
}

// Retryable reports whether another try may help, and when the registry wants it; 0 = soon.
func Retryable(err error) (time.Duration, bool) {
	var se *StatusError
	if errors.As(err, &se) {
		return se.After, se.Code == http.StatusTooManyRequests || se.Code == http.StatusRequestTimeout || se.Code >= 500
	}
	if s := Status(err); s != 0 {
		return 0, s == http.StatusTooManyRequests || s >= 500
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, ErrStalled) || errors.Is(err, ErrInterrupted) {
		return 0, true
	}
	var ne net.Error
	var oe *net.OpError
	if errors.As(err, &oe) && oe.Op == "dial" {
		return 0, false // nobody there; waiting would only hide it
	}
	return 0, errors.As(err, &ne) && ne.Timeout()
}

// check turns an unexpected answer into an error and closes it.
func check(resp *http.Response, want ...int) error {
	for _, w := range want {
		if resp.StatusCode == w {
			return nil
		}
	}
	defer resp.Body.Close()
	e := &StatusError{Method: resp.Request.Method, URL: redact(resp.Request.URL), Code: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.After = min(time.Duration(s)*time.Second, time.Minute)
	} else if t, err := http.ParseTime(resp.Header.Get("Retry-After")); err == nil {
		e.After = max(0, min(time.Until(t), time.Minute))
	}
	var doc struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if decode(resp.Body, 64<<10, &doc) == nil {
		for _, d := range doc.Errors {
			e.Codes = append(e.Codes, d.Code)
			if e.Message == "" {
				e.Message = d.Message
			}
		}
	}
	return e
}

// redact leaves out what may be secret in the address of a storage server.
func redact(u *url.URL) string {
	v := *u
	v.RawQuery, v.User = "", nil
	return v.String()
}
