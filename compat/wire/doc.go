// Package wire converts between the API's types and the engine's. It is pure: no I/O, no engine calls.
package wire
