// Package logs owns the format of container logs: writing them (the shim), reading and following them (the daemon).
//
// Two kinds of files: json-file is dockerd's form, which other tools read; local is berth's own compact one (see localFormat),
// which holds every byte as it was written and can be read backwards. Both rotate by size and may compress old files. Readers
// take a shared lock on the log's directory to open files at one moment between two rotations; the writer waits for them, but
// not for long. Remote drivers (package drivers) are fed by the daemon from a local log that keeps what was not sent.
package logs
