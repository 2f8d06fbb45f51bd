// Package dns is the resolver that containers on user-defined networks ask at 127.0.0.11. A Server answers for one network
// namespace: names that its Names knows at once, the rest from upstream.
//
// Upstreams are asked one after the other with a short head start, and the first useful answer counts; a query goes out with
// an id and a port of its own, drawn at random, and an answer that does not fit is not heard. Messages are passed on as they
// are, so what they carry beyond a question (EDNS) is kept. A truncated answer reaches the client, which asks again over TCP,
// and so does the server then.
//
// Number, size and time of everything a container can cause are bounded.
package dns
