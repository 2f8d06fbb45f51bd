// Package config reads berthd's flags and daemon.json. Names, rules and error texts are dockerd's: an unknown key is refused, and
// so is a value given in both places. What dockerd has and berth does not is known by name and refused, unless it is harmless.
//
// options.go is the list of all options; file.go merges the file; check.go looks at the whole; reload.go says what a running daemon
// can take over. Start reading at Parse.
package config
