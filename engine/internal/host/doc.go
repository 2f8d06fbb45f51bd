// Package host reads facts of the machine that do not change while the engine runs: which limits the kernel's cgroups can
// enforce, which CPUs and memory nodes there are. It holds no words of containers; what a missing fact means is for others
// to say. Everything is read once, by Read.
package host
