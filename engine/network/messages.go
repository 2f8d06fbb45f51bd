package network

import (
	"fmt"

	"github.com/berthd/berth/engine/internal/errkind"
)

// Texts that clients match, in dockerd's words.

func errNotFound(ref string) error { return errkind.NotFound("network %s not found", ref) }

func errOverlap() error {
	return errkind.PermissionDenied("invalid pool request: Pool overlaps with other one on this address space")
}

func errPredefined(name string) error {
	return errkind.PermissionDenied("operation is not permitted on predefined %s network ", name)
}

func errTaken() error { return errkind.PermissionDenied("Address already in use") }

func errNoSubnet(ip string) error {
	return errkind.InvalidArgument("no configured subnet contains IP address %s", ip)
}

// errExternal is why a port could not be published.
func errExternal(ep *Endpoint, err error) error {
	return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", ep.Container, ep.ID, err)
}
