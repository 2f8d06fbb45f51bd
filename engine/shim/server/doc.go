// Package server is the shim's own side: the process that parents the containers of one group, reaps them, owns their stdio
// and writes their logs.
//
// Order on an exit, fixed: reap, write exit.json, drain stdio, close the log, answer Wait, end the clients' streams. Whoever
// hears of the exit can already read the whole log.
package server
