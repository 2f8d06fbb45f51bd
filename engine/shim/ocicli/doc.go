// Package ocicli runs containers with any OCI runtime program, such as runc or crun: the backend for runtimes that daemon.json
// names. It speaks the command line that those programs share (create, start, kill, exec, pause, resume, ps, update, delete)
// and never searches PATH: the engine gives an absolute path.
//
// A runtime program ends as soon as it has made a process. The process must become a child of the shim, or nobody could tell how
// it ended: while a program runs, the shim adopts orphans (see adopt).
//
// Start reading at Create. Tests that need root run with Debian's runc and crun.
package ocicli
