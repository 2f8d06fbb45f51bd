// Package volume owns named and anonymous volumes, their directories and who uses them.
//
// A volume with options has a file system of its own: the first container that starts with it mounts it, the last one's end
// unmounts it. What an earlier daemon mounted is found in the kernel's list. A volume that a container is being made with
// cannot be removed before the container's row says so itself. What is mounted in a volume is never removed with it.
package volume
