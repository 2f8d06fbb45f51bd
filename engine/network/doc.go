// Package network owns networks, endpoints and sandboxes: the segments containers join, each container's place in them,
// and the network namespaces they live in.
//
// Plan is pure and runs inside the container's own store transaction: it picks addresses and host ports. Apply makes the
// host look as planned and is idempotent; Release undoes it and succeeds when nothing is there. Firewall rules are
// compiled from all rows together and applied as one nftables transaction.
package network
