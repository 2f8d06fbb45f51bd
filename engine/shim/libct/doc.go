// Package libct runs containers with libcontainer. It is the only importer of opencontainers/runc and, with the shim's main
// program, the only code that needs cgo; without cgo it is empty.
package libct
