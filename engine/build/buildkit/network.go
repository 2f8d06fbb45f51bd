package buildkit

import (
	"context"
	"sync"

	"github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/engine/internal/ids"
)

func providers(n Networks) map[pb.NetMode]network.Provider {
	return map[pb.NetMode]network.Provider{
		pb.NetMode_UNSET: &bridgeProvider{n},
		pb.NetMode_HOST:  network.NewHostProvider(),
		pb.NetMode_NONE:  network.NewNoneProvider(),
	}
}

// bridgeProvider gives each step a sandbox of its own on the default bridge.
type bridgeProvider struct{ n Networks }

func (p *bridgeProvider) Close() error { return nil }

func (p *bridgeProvider) New(ctx context.Context, _ string, _ network.NamespaceOptions) (network.Namespace, error) {
	s := &sandbox{n: p.n, id: ids.New()}
	var err error
	if s.path, err = p.n.Attach(ctx, s.id); err != nil {
		return nil, err
	}
	return s, nil
}

type sandbox struct {
	n        Networks
	id, path string
	once     sync.Once
	err      error
}

func (s *sandbox) Set(spec *specs.Spec) error {
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = s.path
			return nil
		}
	}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.path})
	return nil
}

func (s *sandbox) Sample() (*types.NetworkSample, error) { return nil, nil }

func (s *sandbox) Close() error {
	s.once.Do(func() { s.err = s.n.Detach(context.Background(), s.id) }) //nolint:forbidigo // clean-up is not the client's to cancel
	return s.err
}
