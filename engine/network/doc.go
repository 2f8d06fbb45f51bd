// Package network owns networks, endpoints and sandboxes: the segments containers join, each container's place in them,
// and the network namespaces they live in.
//
// Rows come first. Plan, PlanConnect and PlanDisconnect are pure and run inside the container's own store transaction: they
// pick addresses and host ports. Apply and Change make the host look as planned and are idempotent; Release undoes it and
// succeeds when nothing is there. Create writes a network's row, then makes its bridge; Remove deletes the row if nobody is
// on the network, then the bridge. Every effect is found again by its name: bridges carry their network's id as alias, veths
// hang on a bridge and are named after their endpoint, a namespace's file after its container. Reconcile, called once before
// the API listens, brings both sides together.
//
// Sub-rooms: bridge makes links, firewall compiles all rules from all rows into one transaction, dns answers names. They know
// nothing of rows. macvlan and ipvlan are vlan.go here; host and none need nothing.
//
// Names are answered from a directory in memory that follows the rows (directory.go); each container on a user-defined
// network has a resolver with sockets in its own namespace (resolver.go). Published ports are the kernel's work; what it
// cannot translate, ::1 and the other address family, is relayed by the daemon (relay.go).
//
// What outside programs see is tested by hack/networks, from a second host.
package network
