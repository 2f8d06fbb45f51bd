// Package crashtest kills the daemon at every step of its work, starts it again, and holds the host against the rows.
//
// Its tests need root and carry the build tag root; make integration runs them.
package crashtest
