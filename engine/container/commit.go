package container

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/internal/errkind"
)

// CommitOptions of Commit.
type CommitOptions struct {
	Repo, Tag       string // name of the new image; no Repo: none
	Author, Comment string
	Config          *image.Config // nil: the container's; otherwise it goes over the container's
	Changes         []string      // Dockerfile instructions on top
	Pause           bool          // a running container is frozen meanwhile
}

// Commit makes an image from a container and returns its id. The container need not run.
//
// Errors: ErrNotFound; ErrInvalidArgument for names and instructions; ErrConflict for a container that is being removed.
func (m *Manager) Commit(ctx context.Context, ref string, o CommitOptions) (id string, err error) {
	if ref == "" {
		return "", errkind.InvalidArgument("invalid name or ID supplied: %q", ref)
	}
	if _, err := image.Name(o.Repo, o.Tag); err != nil {
		return "", err
	}
	e, err := m.find(ref)
	if err != nil {
		return "", err
	}
	s := e.now.Load()
	if s.State.Phase == Removing || s.State.Phase == Dead {
		return "", errkind.Conflict("You cannot commit container %s which is being removed", s.ID)
	}
	own := imageConfig(s.Spec)
	config := own
	if o.Config != nil {
		config = *o.Config
	}
	if config, err = image.ParseChanges(o.Changes, config); err != nil {
		return "", err
	}
	if o.Pause {
		thaw, err := m.frozen(ctx, e)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, thaw()) }()
	}
	d, err := m.d.Images.Commit(ctx, string(s.ID), image.CommitOptions{
		Image: s.Spec.Image.ID, Manifest: s.Spec.Image.Manifest, Repo: o.Repo, Tag: o.Tag, Author: o.Author, Comment: o.Comment,
		CreatedBy: strings.Join(s.Spec.Process.Argv(), " "), Config: config.Over(own),
	})
	if err != nil {
		return "", err
	}
	name := ""
	if n, err := image.Name(o.Repo, o.Tag); err == nil && n != nil {
		name = n.String()
	}
	m.publish(e.now.Load(), "commit", "comment", o.Comment, "imageID", d.String(), "imageRef", name)
	return d.String(), nil
}

// frozen pauses a container that runs; the function it returns undoes that. One that does not run needs nothing.
func (m *Manager) frozen(ctx context.Context, e *entry) (thaw func() error, err error) {
	nothing := func() error { return nil }
	if e.now.Load().State.Phase != Running {
		return nothing, nil
	}
	switch err := m.Pause(ctx, string(e.id)); {
	case errdefs.IsConflict(err): // stopped or paused by somebody else meanwhile
		return nothing, nil
	case err != nil:
		return nil, err
	}
	return func() error {
		err := m.Unpause(context.WithoutCancel(ctx), string(e.id))
		if errdefs.IsConflict(err) || e.now.Load().State.Phase != Paused {
			return nil // ended or thawed meanwhile
		}
		return err
	}, nil
}

// imageConfig is the part of a specification that an image can have.
func imageConfig(s *Spec) image.Config {
	p := s.Process
	c := image.Config{
		User: p.User, ExposedPorts: s.Network.ExposedPorts, Env: p.Env, Entrypoint: p.Entrypoint, Cmd: p.Cmd, Volumes: s.Storage.Volumes, WorkingDir: p.WorkingDir,
		Labels: s.Labels, StopSignal: s.Stop.Signal, StopTimeout: s.Stop.Timeout, ArgsEscaped: p.ArgsEscaped, OnBuild: p.OnBuild, Shell: p.Shell,
	}
	if len(c.Volumes) == 0 {
		c.Volumes = nil
	}
	if h := s.Health; h != nil {
		c.Healthcheck = (*image.Healthcheck)(h)
	}
	return c
}

// Change is one difference between a container and what it started from.
type Change = image.Change

// Changes lists what a container changed in its root file system; nil if nothing.
func (m *Manager) Changes(ctx context.Context, ref string) ([]Change, error) {
	e, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	return m.d.Images.Changes(ctx, string(e.id))
}
