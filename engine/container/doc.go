// Package container owns containers: what the user asked for, the phase each is in, and every operation on them.
//
// Manager is the only writer of container rows. Readers get immutable snapshots without a lock. One operation slot per
// container serialises lifecycle operations; the mutex covers only decide, commit, swap and publish. See the phase table
// in phase.go.
package container
