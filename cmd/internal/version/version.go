// Package version holds what the linker knows about this build.
package version

// Version of berth; Commit is set when linking.
var (
	Version = "0.1.0"
	Commit  = "unknown"
)
