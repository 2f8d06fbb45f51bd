//go:build !cgo || !linux

// Command berth-shim needs cgo and Linux.
package main

func main() { panic("berth-shim was built without cgo") }
