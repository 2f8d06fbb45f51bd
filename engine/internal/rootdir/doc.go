// Package rootdir is the only door through which the engine reads and writes files inside a container's root.
//
// Everything in there is hostile: names, links, and processes that change both during a walk. Every path is resolved by the
// kernel with the root as its upper end (openat2, RESOLVE_IN_ROOT, no magic links), and everything below is reached by
// descriptor and name without following links. Nothing is ever opened by joining strings. It knows no containers, only
// directories. Test it with links that point out: see rootdir_test.go.
package rootdir
