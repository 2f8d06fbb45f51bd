// Package shim is the daemon's side of the process that parents containers: launching, finding again and talking to
// shims, and the formats both sides share.
//
// A shim is the only witness of its processes: it reaps them, writes exit.json before anybody is told, reads their output
// and writes the log. The daemon may vanish at any instruction; a later one calls Reattach.
//
// The shim's own side lives in the sub-packages server (service, process table, stream hub), fastinit (the quick backend, for
// what containers commonly ask for) and libct (libcontainer, for the rest).
package shim
