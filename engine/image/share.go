package image

import (
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Stores are the objects that hold images, for the builder: what it makes is an image of this engine without a copy.
type Stores struct {
	DB          *metadata.DB
	Namespace   string
	Snapshotter string // its name in DB
}

// Stores returns them.
func (s *Service) Stores() Stores {
	return Stores{DB: s.db, Namespace: namespace, Snapshotter: s.snName}
}

// Named is told by the builder that it gave an image a name; fresh if the name is new. It publishes what dockerd publishes.
func (s *Service) Named(name string, id digest.Digest, fresh bool) {
	s.forget(id)
	if strings.HasPrefix(name, danglingPrefix) {
		s.publish("create", id.String(), id.String())
		return
	}
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return // only normalised names get into the store
	}
	action := "tag"
	if fresh {
		action = "create"
	}
	s.publish(action, id.String(), reference.FamiliarString(n))
}

// RegistryPolicy tells the builder how this engine talks to a registry.
func (s *Service) RegistryPolicy(host string) (mirrors []string, insecure bool) {
	return s.registry.Policy(host)
}

// Decompress recognises gzip, zstd, bzip2 and xz by their first bytes; anything else passes through.
func Decompress(r io.Reader) (io.ReadCloser, error) { return decompress(r) }
