// Package event is the engine's vocabulary of happenings and the bus that carries them to clients.
//
// Publish never blocks and is called after the commit that made the event true. The newest events are in memory; all go to a
// journal on disk (two files, 64 MiB together at most), so that a client that asks for the past gets it over restarts of the
// daemon, and one that reads slowly misses nothing. The engine's own parts do not subscribe.
package event
