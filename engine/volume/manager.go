package volume

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/engine/event"
	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/fsx"
	"github.com/berthd/berth/engine/internal/ids"
	"github.com/berthd/berth/engine/internal/store"
)

// Options of a Manager.
type Options struct {
	DB      *store.DB
	Root    string // data-root/volumes
	Publish func(event.Event)
	InUse   func(name string) []string // containers that use the volume
}

// Manager owns the volumes of the local driver. Safe for concurrent use.
type Manager struct{ o Options }

// Open prepares the directory.
func Open(o Options) (*Manager, error) {
	return &Manager{o}, fsx.MkdirAll("volume.root", o.Root, 0o701)
}

// SetInUse tells where to ask which containers use a volume.
func (m *Manager) SetInUse(f func(name string) []string) { m.o.InUse = f }

// CreateOptions of Create.
type CreateOptions struct {
	Name, Driver    string
	Labels, Options map[string]string
	Pending         bool // only of volumes without a name; see Volume and Keep
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CheckName refuses names that cannot be volumes, in dockerd's words.
func CheckName(name string) error {
	if len(name) == 1 {
		return errkind.InvalidArgument("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	}
	if !validName.MatchString(name) {
		return errkind.InvalidArgument(`create %s: %q includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`, name, name)
	}
	return nil
}

// Create makes a volume, or returns the one that has the name.
func (m *Manager) Create(_ context.Context, o CreateOptions) (*Volume, error) {
	if o.Driver != "" && o.Driver != "local" {
		return nil, errkind.NotFound("create %s: error looking up volume plugin %s: plugin %q not found", o.Name, o.Driver, o.Driver)
	}
	for _, k := range slices.Sorted(maps.Keys(o.Options)) {
		return nil, errkind.InvalidArgument("create %s: invalid option: %q", o.Name, k)
	}
	anonymous := o.Name == ""
	if anonymous {
		o.Name = ids.New()
		o.Labels = maps.Clone(o.Labels)
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels["com.docker.volume.anonymous"] = ""
	}
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	if v, err := m.Get(o.Name); err == nil {
		return v, nil
	}
	v := &Volume{Name: o.Name, Driver: "local", Mountpoint: filepath.Join(m.o.Root, o.Name, "_data"), Created: time.Now().UTC(), Labels: o.Labels, Options: o.Options, Anonymous: anonymous, Pending: anonymous && o.Pending}
	if err := fsx.MkdirAll("volume.dir", filepath.Dir(v.Mountpoint), 0o701); err != nil {
		return nil, err
	}
	if err := fsx.MkdirAll("volume.data", v.Mountpoint, 0o755); err != nil {
		return nil, err
	}
	if err := m.o.DB.Update(func(tx *store.Tx) error { return tx.Put(store.Volumes, v.Name, v) }); err != nil {
		return nil, err
	}
	m.publish("create", v)
	return v, nil
}

func (m *Manager) publish(action string, v *Volume) {
	if m.o.Publish != nil {
		m.o.Publish(event.Event{Type: event.Volume, Action: action, ID: v.Name, Attributes: map[string]string{"driver": v.Driver}, Time: time.Now().UTC()})
	}
}

// Get returns a volume. ErrNotFound: "get x: no such volume".
func (m *Manager) Get(name string) (*Volume, error) {
	v := &Volume{}
	found := false
	err := m.o.DB.View(func(tx *store.Tx) (err error) {
		found, err = tx.Get(store.Volumes, name, v)
		return err
	})
	if err == nil && !found {
		err = errkind.NotFound("get %s: no such volume", name)
	}
	return v, err
}

// List returns all volumes, by name.
func (m *Manager) List() ([]*Volume, error) {
	var out []*Volume
	err := m.o.DB.View(func(tx *store.Tx) error {
		return tx.Scan(store.Volumes, "", func(_ string, decode func(any) error) error {
			v := &Volume{}
			out = append(out, v)
			return decode(v)
		})
	})
	return out, err
}

// Remove deletes a volume and its data. ErrConflict while containers use it, also if they are stopped.
func (m *Manager) Remove(_ context.Context, name string, force bool) error {
	v, err := m.Get(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	if m.o.InUse != nil {
		if users := m.o.InUse(name); len(users) > 0 {
			return errkind.Conflict("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
		}
	}
	if err := m.o.DB.Update(func(tx *store.Tx) error { return tx.Delete(store.Volumes, name) }); err != nil {
		return err
	}
	m.publish("destroy", v)
	return fsx.RemoveAll("volume.remove", filepath.Join(m.o.Root, name))
}

// Keep ends the pending of a volume, in the transaction that writes the row of its container.
func (m *Manager) Keep(tx *store.Tx, name string) error {
	v := &Volume{}
	if ok, err := tx.Get(store.Volumes, name, v); !ok || err != nil {
		return err
	}
	v.Pending = false
	return tx.Put(store.Volumes, name, v)
}

// Sweep removes volumes whose container never came to be, and directories that no row names. Before anything is created.
func (m *Manager) Sweep() error {
	all, err := m.List()
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Pending {
			if err := m.Remove(context.Background(), v.Name, true); err != nil {
				return err
			}
		}
	}
	ents, err := os.ReadDir(m.o.Root)
	if err != nil {
		return err
	}
	for _, e := range ents {
		if _, err := m.Get(e.Name()); err != nil {
			if err := fsx.RemoveAll("volume.sweep", filepath.Join(m.o.Root, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
