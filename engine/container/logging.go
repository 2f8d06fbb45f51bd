package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/logs/drivers"
	"github.com/berthd/berth/engine/shim"
)

// logFile is the log that the shim writes for a container, and how. For a remote driver that is the spool which its forwarder
// reads; it keeps what was not sent, and clients read it too.
func (m *Manager) logFile(s *Snapshot) (logs.Config, string) {
	c := logs.Config{Driver: s.Spec.Log.Driver, Options: s.Spec.Log.Options}
	dir := m.dir(s.ID)
	switch {
	case drivers.Remote(c.Driver):
		spool := map[string]string{"max-size": "20m", "max-file": "5"} // dockerd's of its local copy
		for _, k := range []string{"max-size", "max-file", "compress"} {
			if v := s.Spec.Log.Options["cache-"+k]; v != "" {
				spool[k] = v
			}
		}
		for _, k := range []string{"mode", "max-buffer-size"} {
			if v := s.Spec.Log.Options[k]; v != "" {
				spool[k] = v
			}
		}
		return logs.Config{Driver: logs.Local, Options: spool, Retain: true}, filepath.Join(dir, "container-cached.log")
	case c.Driver == logs.Local:
		return c, filepath.Join(dir, "local-logs", "container.log")
	}
	return c, filepath.Join(dir, string(s.ID)+"-json.log")
}

// LogPath is the log's file, for inspect: dockerd shows that of json-file alone.
func (m *Manager) LogPath(id ID) string {
	s, err := m.Get(string(id))
	if err != nil || s.Spec.Log.Driver != logs.JSONFile {
		return ""
	}
	_, path := m.logFile(s)
	return path
}

// logInfo is what drivers, tags and attributes are made from.
func logInfo(s *Snapshot) drivers.Info {
	host, _ := os.Hostname() // "" is shown then
	return drivers.Info{
		ContainerID: string(s.ID), Name: s.Name, ImageID: s.Spec.Image.ID, ImageName: s.Spec.Image.Ref, Command: strings.Join(s.Spec.Process.Argv(), " "),
		Created: s.Created, Labels: s.Spec.Labels, Env: s.Spec.Process.Env, Hostname: host, Options: s.Spec.Log.Options,
	}
}

// logIO completes what the shim is told about a container's output. Everything that is wrong with the options is found here.
func (m *Manager) logIO(s *Snapshot, io *shim.IO) error {
	refuse := func(err error) error {
		return errkind.Internal("failed to create task for container: failed to initialize logging driver: %s", err)
	}
	io.Log, io.LogPath = m.logFile(s)
	if io.Log.Driver == logs.None {
		return nil
	}
	if err := logs.CheckValues(io.Log); err != nil {
		return refuse(err)
	}
	attrs, err := drivers.Attrs(logInfo(s))
	if err != nil {
		return refuse(err)
	}
	io.LogAttrs = attrs
	if drivers.Remote(s.Spec.Log.Driver) {
		f, err := drivers.Open(s.Spec.Log.Driver, logInfo(s))
		if err != nil {
			return refuse(err)
		}
		_ = f.Close() // the forwarder opens its own
	}
	return os.MkdirAll(filepath.Dir(io.LogPath), 0o710)
}

const (
	shipBatch = 256             // records in one call of a driver
	shipNote  = time.Second     // how often the place is noted
	shipFirst = time.Second / 4 // pause after a failure; doubles
	shipMost  = 30 * time.Second
	shipLast  = 5 * time.Second // how long a removal waits for what was not sent
)

// ship sends the log of a container with a remote driver, from where an earlier forwarder stopped, until all of this life is
// sent, the container is removed or the daemon ends.
func (m *Manager) ship(e *entry, r *run) {
	if s := e.now.Load(); !drivers.Remote(s.Spec.Log.Driver) {
		return
	}
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		select { // one at a time: the next life's records come after those of this one
		case e.shipping <- struct{}{}:
			defer func() { <-e.shipping }()
		case <-m.life.Done():
			return
		}
		ctx, cancel := context.WithCancel(m.life)
		defer cancel()
		go func() {
			select {
			case <-e.gone:
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := m.shipLife(ctx, e.now.Load(), r); err != nil && ctx.Err() == nil {
			m.d.Log.Error("sending a container's log", "container", e.id, "error", err)
		}
	}()
}

// shipRest gives the forwarder of a container that is being removed some time for what it has not sent, then ends it.
func (m *Manager) shipRest(e *entry) {
	if drivers.Remote(e.now.Load().Spec.Log.Driver) {
		select {
		case e.shipping <- struct{}{}:
			<-e.shipping
		case <-time.After(shipLast):
			m.d.Log.Warn("a removed container's log was not sent whole", "container", e.id)
		case <-m.life.Done():
		}
	}
	select {
	case <-e.gone: // an earlier attempt to remove it
	default:
		close(e.gone)
	}
}

func (m *Manager) shipLife(ctx context.Context, s *Snapshot, r *run) error {
	f, err := drivers.Open(s.Spec.Log.Driver, logInfo(s))
	if err != nil {
		return err
	}
	defer f.Close()
	cfg, path := m.logFile(s)
	c := cursor{path: logs.SentFile(path)}
	c.read()
	defer c.note(true)
	seq, err := logs.Read(ctx, cfg, path, logs.ReadOptions{Stdout: true, Stderr: true, Follow: true, Tail: -1, After: c.sent}, r.exited)
	if err != nil {
		return err
	}
	var batch []logs.Record
	for rec, err := range seq {
		if err != nil {
			return err
		}
		last := rec.Last
		rec.Line = append([]byte(nil), rec.Line...)
		batch = append(batch, rec)
		if !last && len(batch) < shipBatch {
			continue
		}
		if err := m.send(ctx, f, s.ID, batch); err != nil {
			return err
		}
		c.sent, batch = rec.Seq, batch[:0]
		c.note(false)
	}
	if len(batch) == 0 {
		return nil
	}
	if err := m.send(ctx, f, s.ID, batch); err != nil {
		return err
	}
	c.sent = batch[len(batch)-1].Seq
	return nil
}

// send tries until the receiver has the records.
func (m *Manager) send(ctx context.Context, f drivers.Forwarder, id ID, batch []logs.Record) error {
	for pause, told := shipFirst, false; ; pause = min(2*pause, shipMost) {
		err := f.Send(ctx, batch)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if !told {
			m.d.Log.Warn("a log receiver does not take records; they are kept", "container", id, "error", err)
			told = true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// cursor is the place of a forwarder in its spool: a file beside it, which the writer of the spool reads too. It lags a
// little, so after a crash some records are sent again; none is lost.
type cursor struct {
	path  string
	sent  uint64
	saved uint64
	at    time.Time
}

func (c *cursor) read() {
	b, _ := os.ReadFile(c.path) // not there: nothing was sent
	c.sent, _ = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	c.saved = c.sent
}

func (c *cursor) note(now bool) {
	if c.sent == c.saved || !now && time.Since(c.at) < shipNote {
		return
	}
	tmp := c.path + ".tmp"
	// Not durable on purpose: a lost place only repeats records.
	if os.WriteFile(tmp, fmt.Appendln(nil, c.sent), 0o600) == nil && os.Rename(tmp, c.path) == nil { //nolint:forbidigo // see above
		c.saved, c.at = c.sent, time.Now()
	}
}
