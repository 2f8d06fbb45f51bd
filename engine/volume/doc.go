// Package volume owns named and anonymous volumes, their directories and who uses them.
package volume
