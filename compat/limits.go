package compat

import (
	"net/http"

	"github.com/berthd/berth/compat/wire"
)

// Limits on the head of a request. Source: the table of input limits in the hardening notes; each is far above what clients send.
const (
	// MaxHeader is for a server's MaxHeaderBytes: what no request may pass. Build credentials have a limit of their own.
	MaxHeader         = maxHeaders + maxRegistryConfig
	maxHeaders        = 64 << 10
	maxRegistryAuth   = 16 << 10
	maxRegistryConfig = 64 << 10
	maxURL            = 16 << 10
)

// checkHead refuses heads that are too large, naming the part.
func checkHead(r *http.Request) error {
	if n := len(r.RequestURI); n > maxURL {
		return wire.Invalid("the URL is too long: %d bytes, at most %d are allowed", n, maxURL)
	}
	total := 0
	for k, vs := range r.Header {
		limit := 0
		switch k {
		case "X-Registry-Auth":
			limit = maxRegistryAuth
		case "X-Registry-Config":
			limit = maxRegistryConfig
		}
		for _, v := range vs {
			if limit > 0 && len(v) > limit {
				return wire.Invalid("the header %s is too long: %d bytes, at most %d are allowed", k, len(v), limit)
			}
			if k != "X-Registry-Config" {
				total += len(k) + len(v) + 4 // ": " and CRLF
			}
		}
	}
	if total > maxHeaders {
		return wire.Invalid("the headers are too long: %d bytes, at most %d are allowed", total, maxHeaders)
	}
	return nil
}
