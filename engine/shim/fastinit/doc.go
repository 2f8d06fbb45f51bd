// Package fastinit starts containers and execs without libcontainer's cost: the shim makes a flat plan from the OCI
// specification, and a small program in C carries it out and becomes the process. No Go runtime starts on the way, the
// seccomp filter is compiled once, and no cgroup lock is waited for.
//
// It covers what containers commonly ask for; Covers says what is left to libct (user namespaces, hooks, labels, shared
// propagation, seccomp agents, …). A process started here sees what it would see under libct: a test compares both.
//
// What holds: paths in the container's root are resolved by openat2 inside it or component by component, mounts are made
// detached and put onto descriptors, the stage runs from the shim's sealed copy, is not dumpable and keeps nothing of the
// host open when it changes the user.
//
// Start reading at stage.h (the plan's form), then plan.go and container.go. It needs cgo; without it the package is empty.
package fastinit
