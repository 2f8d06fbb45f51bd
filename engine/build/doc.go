// Package build is the vocabulary of image builds: what is asked for, what is reported, and what a builder is. It is light on
// purpose; the technology behind it lives in the sub-package buildkit, so that nothing that only talks about builds compiles or
// starts it.
package build
