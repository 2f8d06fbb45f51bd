// Package oci turns a container into an OCI runtime specification. It is pure: what it needs to know of the host is given.
// The defaults a container sees equal dockerd's: capabilities, seccomp, masked paths, mounts, devices.
package oci
