package container

import (
	"context"
	"io"
)

// Export writes the root file system of a container as a tar archive to the writer that begin returns; volumes are not part of
// it. It works in every phase.
func (m *Manager) Export(ctx context.Context, ref string, begin func() io.Writer) error {
	e, err := m.find(ref)
	if err != nil {
		return err
	}
	v, done, err := m.view(ctx, e, true)
	if err != nil {
		return err
	}
	defer done()
	if err := v.PackAll(ctx, begin()); err != nil {
		return err
	}
	m.publish(e.now.Load(), "export")
	return nil
}
