// Package libct runs containers with libcontainer: the complete backend, for what fastinit does not cover. The shim's backends
// are the only code that needs cgo; without it they are empty.
package libct
