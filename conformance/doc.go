// Package conformance holds cases that any Docker endpoint can be held to. It is a black box: it imports neither engine nor
// compat. A case is right only if the real dockerd passes it too.
//
// A case is written in a file of its area and listed in Cases. It makes what it needs through its T, whose client notes what
// comes into being and removes that, and nothing else, when the case is over. Every answer with JSON in it is also held against
// the specification of the version that was spoken (package spec); what is not as specified fails the case, unless
// spec/deviations.txt says that dockerd does so. Cases run beside each other, except those that say Alone and those that prune
// or measure the whole engine. The machine that runs the suite needs a static busybox; the engine's machine needs nothing.
package conformance
