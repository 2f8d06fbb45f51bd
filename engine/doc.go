// Package engine builds the parts of a Docker engine and owns them. It has no domain logic of its own.
package engine
