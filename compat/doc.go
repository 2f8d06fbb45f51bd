// Package compat speaks the Docker Engine API over HTTP. Handlers parse, convert, make one call, convert and write; they pick
// no status, touch no file and compare no versions.
package compat
