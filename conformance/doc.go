// Package conformance holds cases that any Docker endpoint can be held to. It is a black box: it imports neither engine nor
// compat. A case is right only if the real dockerd passes it too.
package conformance
