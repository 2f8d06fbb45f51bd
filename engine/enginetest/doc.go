// Package enginetest is for tests alone: a private daemon in a network namespace of its own, and CheckInvariants, which holds
// everything that the daemon keeps on the host against its rows.
//
// The daemon is the real binary, so what it does on the host is real too: tests that use it need root, carry the build tag root
// and find the binaries in bin/ (make build).
package enginetest
