// Package buildkit is the builder: BuildKit's controller in this process, with one worker whose content store, snapshotter,
// leases and collection are the objects engine/image works with. A built image is therefore there when the build ends: nothing
// is copied or exported.
//
// Steps run in shims like containers do (executor.go), on a sandbox of the default bridge (network.go). Nothing is opened before
// the first use (core.go). The classic build request is translated to a solve of the same kind (classic.go).
//
// It is the only importer of BuildKit.
package buildkit
