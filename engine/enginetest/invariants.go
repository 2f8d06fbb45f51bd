//go:build root

package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// CheckInvariants ends the test if something on the host has no owner, or a row means what cannot be: the daemon must be up
// and have nothing to do. What the engine tears down behind an answer gets five seconds.
func CheckInvariants(t testing.TB, d *Daemon) {
	t.Helper()
	var bad []string
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if bad = d.violations(t); len(bad) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	t.Fatalf("%d invariants are broken:\n  %s\n%s", len(bad), strings.Join(bad, "\n  "), d.Log())
}

func (d *Daemon) violations(t testing.TB) (bad []string) {
	known, running := map[string]bool{}, map[string]bool{}
	for _, c := range d.Containers(t) {
		known[c.ID] = true
		switch c.State {
		case "running", "paused":
			running[c.ID] = true
		case "created", "exited", "restarting":
		default:
			bad = append(bad, "container "+c.ID+" is "+c.State)
		}
	}
	owned := func(what string, ids []string, owner map[string]bool) {
		for _, id := range ids {
			if !owner[id] {
				bad = append(bad, what+" of "+id+" has no owner")
			}
		}
	}
	owned("directory", entries(filepath.Join(d.Dir, "data", "containers")), known)
	owned("bundle", entries(filepath.Join(d.Dir, "exec", "shim")), running)
	owned("mount", idsIn(d.mounts()), running)
	owned("cgroup", idsIn(d.cgroups("")), running)
	for _, ns := range entries(filepath.Join(d.Dir, "exec", "netns")) {
		if !running[ns] && !strings.HasPrefix(ns, ":") { // a namespace in reserve belongs to nobody yet
			bad = append(bad, "network namespace "+ns+" has no owner")
		}
	}
	if n, pids := len(entries(filepath.Join(d.Dir, "exec", "shims"))), d.shims(); n != len(pids) {
		bad = append(bad, fmt.Sprintf("%d shim directories, processes %v", n, pids))
	}
	rows, err := buckets(filepath.Join(d.Dir, "data", "engine.db"), "v1")
	if err != nil {
		return append(bad, err.Error())
	}
	for id, raw := range rows["containers"] {
		var r struct {
			State struct{ Phase any }
		}
		_ = json.Unmarshal(raw, &r) // a row that is none is not known below
		if !known[id] {
			bad = append(bad, "row of "+id+" is not listed")
		}
	}
	for name, id := range rows["names"] {
		if !known[strings.Trim(string(id), `"`)] {
			bad = append(bad, "name "+name+" has no owner")
		}
	}
	for key := range rows["endpoints"] {
		if _, id, _ := strings.Cut(key, "/"); !running[id] {
			bad = append(bad, "endpoint "+key+" has no owner")
		}
	}
	ports := 0
	for _, b := range []string{"ipam", "ports"} {
		for key, raw := range rows[b] {
			if b == "ports" && !strings.Contains(key, ":") { // an IPv4-only network's ports of the other family are relayed
				ports++
			}
			if id := idPattern.FindAllString(string(raw), -1); len(id) > 0 && !running[id[len(id)-1]] {
				bad = append(bad, b+" "+key+" has no owner: "+string(raw))
			}
		}
	}
	bad = append(bad, d.network(len(rows["endpoints"]), ports)...)
	meta, err := metadata(filepath.Join(d.Dir, "data", "meta.db"))
	if err != nil {
		return append(bad, err.Error())
	}
	for _, l := range meta.leases {
		if id, ok := strings.CutPrefix(l, "container/"); ok && !known[id] || strings.HasPrefix(l, "working/") {
			bad = append(bad, "lease "+l+" has no owner")
		}
	}
	owned("snapshot", meta.active, known)
	return bad
}

// network holds links and published ports against the rows.
func (d *Daemon) network(endpoints, ports int) (bad []string) {
	out, err := d.Inside("ip", "-o", "link").Output()
	if err != nil {
		return []string{err.Error()}
	}
	if n := strings.Count(string(out), " master "); n > endpoints {
		bad = append(bad, fmt.Sprintf("%d links on bridges for %d endpoints:\n%s", n, endpoints, out))
	}
	out, err = d.Inside("nft", "list", "ruleset").Output()
	if err != nil {
		return append(bad, err.Error())
	}
	if n := len(published.FindAllString(string(out), -1)); n != ports {
		bad = append(bad, fmt.Sprintf("%d ports in the rules for %d rows:\n%s", n, ports, out))
	}
	return bad
}

var (
	idPattern = regexp.MustCompile(`[0-9a-f]{64}`)
	published = regexp.MustCompile(`\d+ : \d+\.\d+\.\d+\.\d+ \. \d+`)
)

func entries(dir string) []string {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil // not made yet
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

func idsIn(paths []string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, idPattern.FindAllString(p, 1)...)
	}
	return out
}

// mounts is what is mounted below the daemon's directory, outer ones first.
func (d *Daemon) mounts() []string {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], d.Dir+"/") {
			out = append(out, f[1])
		}
	}
	return out
}

// cgroups is the daemon's groups in all hierarchies, outer ones first.
func (d *Daemon) cgroups(below string) []string {
	var out []string
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		roots, _ := filepath.Glob(pattern + d.Cgroup + below) // the pattern is sound
		for _, r := range roots {
			_ = filepath.WalkDir(r, func(p string, e fs.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					out = append(out, p)
				}
				return nil
			})
		}
	}
	return out
}

// shims is the processes that serve a directory of this daemon.
func (d *Daemon) shims() []int {
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is sound
	var out []int
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil || !strings.HasPrefix(string(b), "berth-shim\x00serve\x00"+d.Dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p))); err == nil {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

// opened gives f a copy of a database that the daemon holds locked.
func opened(file string, f func(tx *bbolt.Tx) error) (err error) {
	src, err := os.Open(file)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.CreateTemp("", "berthdb")
	if err != nil {
		return err
	}
	defer os.Remove(dst.Name())
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: copied in the midst of a write: %v", file, p) // the caller looks again
		}
	}()
	db, err := bbolt.Open(dst.Name(), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	return errors.Join(db.View(f), db.Close())
}

// buckets reads every bucket below root, flattened: name, key, value.
func buckets(file, root string) (map[string]map[string][]byte, error) {
	out := map[string]map[string][]byte{}
	err := opened(file, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(root)).ForEachBucket(func(name []byte) error {
			m := map[string][]byte{}
			out[string(name)] = m
			return tx.Bucket([]byte(root)).Bucket(name).ForEach(func(k, v []byte) error {
				m[string(k)] = append([]byte{}, v...)
				return nil
			})
		})
	})
	return out, err
}

type stores struct{ leases, active []string }

// metadata reads the leases, and the keys of the snapshots that are named as containers are.
func metadata(file string) (s stores, err error) {
	err = opened(file, func(tx *bbolt.Tx) error {
		v1 := tx.Bucket([]byte("v1"))
		if v1 == nil {
			return nil
		}
		return v1.ForEachBucket(func(ns []byte) error {
			n := v1.Bucket(ns)
			if b := n.Bucket([]byte("leases")); b != nil {
				_ = b.ForEachBucket(func(k []byte) error { s.leases = append(s.leases, string(k)); return nil })
			}
			if b := n.Bucket([]byte("snapshots")); b != nil {
				return b.ForEachBucket(func(driver []byte) error {
					return b.Bucket(driver).ForEachBucket(func(k []byte) error {
						if id := string(k); idPattern.FindString(id) == id {
							s.active = append(s.active, id)
						}
						return nil
					})
				})
			}
			return nil
		})
	})
	return s, err
}
