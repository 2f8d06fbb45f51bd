// Package event is the engine's vocabulary of happenings and the bus that carries them to clients.
//
// Publish never blocks and is called after the commit that made the event true. The engine's own parts do not subscribe.
package event
