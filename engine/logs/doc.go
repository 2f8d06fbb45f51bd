// Package logs owns the format of container logs: writing them (the shim), reading and following them (the daemon).
package logs
