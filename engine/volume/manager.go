package volume

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
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
type Manager struct {
	o Options

	mu struct {
		sync.Mutex                     // keeps making and removing apart; held over rows, not over data
		holds      map[string][]string // containers being made, by volume
		places     map[string]*place
	}
}

// Open prepares the directory.
func Open(o Options) (*Manager, error) {
	m := &Manager{o: o}
	m.mu.holds, m.mu.places = map[string][]string{}, map[string]*place{}
	return m, fsx.MkdirAll("volume.root", o.Root, 0o701)
}

// SetInUse tells where to ask which containers use a volume.
func (m *Manager) SetInUse(f func(name string) []string) { m.o.InUse = f }

// CreateOptions of Create.
type CreateOptions struct {
	Name, Driver    string
	Labels, Options map[string]string
	Pending         bool // only of volumes without a name; see Volume and Keep
	// Holder is a container that is being made with the volume: until Release, nobody removes it.
	Holder string
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
	if v := m.find(o); v != nil {
		return v, nil
	}
	if err := checkOptions(o.Name, o.Options); err != nil {
		return nil, err
	}
	v := &Volume{Name: o.Name, Driver: "local", Mountpoint: filepath.Join(m.o.Root, o.Name, "_data"), Created: time.Now().UTC(), Labels: o.Labels, Options: o.Options, Anonymous: anonymous, Pending: anonymous && o.Pending}
	if err := fsx.MkdirAll("volume.dir", filepath.Dir(v.Mountpoint), 0o701); err != nil {
		return nil, err
	}
	if err := fsx.MkdirAll("volume.data", v.Mountpoint, 0o755); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if had, err := m.Get(o.Name); err == nil { // somebody was faster
		m.holdLocked(o)
		return had, nil
	}
	if err := m.o.DB.Update(func(tx *store.Tx) error { return tx.Put(store.Volumes, v.Name, v) }); err != nil {
		return nil, err
	}
	m.holdLocked(o)
	m.event("create", v, map[string]string{"driver": v.Driver})
	return v, nil
}

// find returns the volume that has the name, and holds it; nil if there is none.
func (m *Manager) find(o CreateOptions) *Volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.Get(o.Name)
	if err != nil {
		return nil
	}
	m.holdLocked(o)
	return v
}

func (m *Manager) holdLocked(o CreateOptions) {
	if o.Holder != "" {
		m.mu.holds[o.Name] = append(m.mu.holds[o.Name], o.Holder)
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
func (m *Manager) Remove(ctx context.Context, name string, force bool) error {
	v, err := m.Get(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	p := m.place(name)
	if err := p.acquire(ctx); err != nil {
		return err
	}
	defer p.release()
	if err := m.forget(name); err != nil {
		return err
	}
	if err := m.removeData(v); err != nil {
		return err // no row: Sweep tries again
	}
	m.event("destroy", v, map[string]string{"driver": v.Driver})
	return nil
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

// forget deletes the row of a volume that nobody uses.
func (m *Manager) forget(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	users := slices.Clone(m.mu.holds[name])
	if m.o.InUse != nil {
		users = append(m.o.InUse(name), users...)
	}
	if len(users) > 0 {
		return errkind.Conflict("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	delete(m.mu.places, name)
	return m.o.DB.Update(func(tx *store.Tx) error { return tx.Delete(store.Volumes, name) })
}

// removeData removes a volume's directory; never what is mounted in it.
func (m *Manager) removeData(v *Volume) error {
	if err := v.unmount(); err != nil {
		return err
	}
	return fsx.RemoveAll("volume.remove", filepath.Join(m.o.Root, v.Name))
}

// Sweep removes volumes whose container never came to be, directories that no row names, and mounts that no container uses.
// Called when every use was noted, before anything is created.
func (m *Manager) Sweep(ctx context.Context) error {
	all, err := m.List()
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Pending {
			if err := m.Remove(ctx, v.Name, true); err != nil {
				return err
			}
		}
	}
	ents, err := os.ReadDir(m.o.Root)
	if err != nil {
		return err
	}
	for _, e := range ents {
		v, err := m.Get(e.Name())
		if err != nil {
			v = &Volume{Name: e.Name(), Mountpoint: filepath.Join(m.o.Root, e.Name(), "_data")}
			if err := m.removeData(v); err != nil {
				return err
			}
			continue
		}
		if !v.mounts() {
			continue
		}
		p := m.place(v.Name)
		if err := p.acquire(ctx); err != nil {
			return err
		}
		if len(p.users) == 0 {
			err = v.unmount()
		} else {
			err = nil
		}
		p.release()
		if err != nil {
			return err
		}
	}
	return nil
}
