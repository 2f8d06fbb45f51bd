// Package image owns names, content and snapshots: what an image is, how it comes in and how a container gets a root file
// system from it. The stores are containerd's, used as libraries in process.
//
// The id of an image is the digest of its target descriptor (manifest or index), as in Engine 29. A container holds a
// lease; an image in use is not deleted.
package image
