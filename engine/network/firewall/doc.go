// Package firewall keeps berth's one nftables table: address translation for published ports, masquerading, and the drops
// that keep networks apart and unpublished ports unreachable. It speaks netlink; no program is run.
//
// Compile turns the desired state into rules and is pure; its text is what golden files hold. Table.Sync replaces the table
// in a single transaction, so there is no moment without rules. A published port is one map element: Publish and Unpublish
// need no other change. Watch puts the table back when somebody else removes it.
//
// A packet that our table lets pass can still be dropped by another table. Where the tables of iptables (in its nftables
// form) are present, their FORWARD chain gets accept rules for our bridges, and a chain DOCKER-USER there is jumped to
// first: rules that an administrator puts into it are honoured. Chains of the legacy iptables cannot be reached.
package firewall
