package network

import (
	"context"
	"errors"

	"github.com/berthd/berth/engine/internal/store"
)

// Attach gives something that is no container, such as a build step, a namespace with an endpoint on the default bridge. It is
// swept like a container's after a crash: nobody claims its id then.
func (m *Manager) Attach(ctx context.Context, id string) (path string, err error) {
	in := Intent{Mode: Bridge, Attachments: map[string]Attachment{Bridge: {}}}
	draw := NewDraw(in)
	var eps []Endpoint
	err = m.o.DB.Update(func(tx *store.Tx) error {
		var err error
		eps, err = m.Plan(tx, id, "build", in, draw)
		return err
	})
	if err != nil {
		return "", err
	}
	sb, err := m.Apply(ctx, id, eps)
	if err != nil {
		return "", errors.Join(err, m.Detach(context.WithoutCancel(ctx), id))
	}
	return sb.Path, nil
}

// Detach undoes Attach. Idempotent.
func (m *Manager) Detach(ctx context.Context, id string) error {
	var eps []Endpoint
	err := m.o.DB.View(func(tx *store.Tx) error {
		eps = nil
		for _, n := range m.List() {
			var ep Endpoint
			ok, err := tx.Get(store.Endpoints, string(n.ID)+"/"+id, &ep)
			if err != nil {
				return err
			}
			if ok {
				eps = append(eps, ep)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(m.Release(ctx, id, eps), m.o.DB.Update(func(tx *store.Tx) error { return m.Forget(tx, id) }))
}

// HostGateway is the address by which containers on the default bridge reach the host.
func (m *Manager) HostGateway() string { return m.o.BridgeIP.Addr().String() }
