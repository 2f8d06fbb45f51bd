package firewall

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// Table is the named table. Safe for concurrent use.
type Table struct {
	name  string
	mu    sync.Mutex // one transaction at a time
	state State      // what the kernel was last told
	ready bool       // Sync was called
}

// New makes the handle; nothing is touched.
func New(name string) *Table { return &Table{name: name} }

func (t *Table) table() *nftables.Table {
	return &nftables.Table{Name: t.name, Family: nftables.TableFamilyINet}
}

// Sync makes the table exactly what the state says, in one transaction. The previous rules stay if it fails.
func (t *Table) Sync(s State) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sync(s); err != nil {
		return err
	}
	t.state, t.ready = s, true
	return nil
}

// SetBridges exchanges the networks and keeps the ports.
func (t *Table) SetBridges(bridges []Bridge, closeForward bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := State{Bridges: bridges, Ports: t.state.Ports, CloseForward: closeForward}
	if err := t.sync(s); err != nil {
		return err
	}
	t.state, t.ready = s, true
	return nil
}

func (t *Table) sync(s State) error {
	rs := Compile(t.name, s)
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tab := t.table()
	c.AddTable(tab) // so that the deletion cannot fail
	c.DelTable(tab)
	c.AddTable(tab)
	var names []nftables.SetElement
	for _, b := range rs.bridges {
		names = append(names, nftables.SetElement{Key: ifname(b)})
	}
	if err := c.AddSet(&nftables.Set{Table: tab, Name: bridgeSet, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}, names); err != nil {
		return err
	}
	elems := elements(s.Ports)
	for i, m := range maps {
		set := m.set(tab)
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
		for part := range slices.Chunk(elems[i], batch) {
			if err := c.SetAddElements(set, part); err != nil {
				return err
			}
		}
	}
	for _, ch := range rs.chains {
		nc := c.AddChain(&nftables.Chain{Name: ch.name, Table: tab, Type: ch.typ, Hooknum: ch.hook, Priority: ch.prio})
		for _, r := range ch.rule {
			c.AddRule(&nftables.Rule{Table: tab, Chain: nc, Exprs: r.exprs})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return foreign(t.name, rs.bridges)
}

// batch is how many elements go into one message: a netlink attribute ends at 64 KiB.
const batch = 256

func elements(ports []Port) (out [len(maps)][]nftables.SetElement) {
	for _, p := range ports {
		i, e := element(p)
		out[i] = append(out[i], e)
	}
	return out
}

// Publish adds ports to a table that Sync made; Unpublish removes them and succeeds if they are gone.
func (t *Table) Publish(ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.change(ports, (*nftables.Conn).SetAddElements); err != nil {
		return fmt.Errorf("nftables: publish: %w", err)
	}
	t.state.Ports = append(slices.Clip(t.state.Ports), ports...)
	return nil
}

// Unpublish is the inverse of Publish.
func (t *Table) Unpublish(ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	gone := make(map[Port]bool, len(ports))
	for _, p := range ports {
		gone[p] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := make([]Port, 0, len(t.state.Ports))
	var have []Port
	for _, p := range t.state.Ports {
		if gone[p] {
			have = append(have, p)
		} else {
			kept = append(kept, p)
		}
	}
	t.state.Ports = kept
	if len(have) == 0 {
		return nil
	}
	if err := t.change(have, (*nftables.Conn).SetDeleteElements); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: unpublish: %w", err)
	}
	return nil
}

func (t *Table) change(ports []Port, f func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	for i, es := range elements(ports) {
		for part := range slices.Chunk(es, batch) {
			if err := f(c, maps[i].set(t.table()), part); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}

// Remove deletes the table and what was put into other tables.
func (t *Table) Remove() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready = false
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.AddTable(t.table())
	c.DelTable(t.table())
	return errors.Join(c.Flush(), foreign(t.name, nil))
}

// Preset says which ports the first Sync or SetBridges shall publish. Nothing is written.
func (t *Table) Preset(ports []Port) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.Ports = ports
}
