package store

import (
	"errors"
	"path/filepath"
	"testing"
)

type row struct{ A []string }

func TestRowsSurviveReopenAndFailedUpdatesLeaveNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *Tx) error { return tx.Put(Containers, "a", row{[]string{}}) }); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err = db.Update(func(tx *Tx) error {
		if err := tx.Put(Containers, "b", row{}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var keys []string
	err = db.View(func(tx *Tx) error {
		var r row
		ok, err := tx.Get(Containers, "a", &r)
		if err != nil || !ok || r.A == nil {
			t.Errorf("row a: %v %v %v (an empty list must not become null)", ok, err, r)
		}
		return tx.Scan(Containers, "", func(k string, _ func(any) error) error { keys = append(keys, k); return nil })
	})
	if err != nil || len(keys) != 1 || keys[0] != "a" {
		t.Fatalf("keys %v, err %v", keys, err)
	}
}

func TestScanStopsAtPrefixAndSecondOpenerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.db")
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_ = db.Update(func(tx *Tx) error {
		for _, k := range []string{"n1/a", "n1/b", "n2/a"} {
			if err := tx.Put(Endpoints, k, row{}); err != nil {
				return err
			}
		}
		return nil
	})
	n := 0
	_ = db.View(func(tx *Tx) error {
		return tx.Scan(Endpoints, "n1/", func(string, func(any) error) error { n++; return nil })
	})
	if n != 2 {
		t.Fatalf("scanned %d", n)
	}
	if _, err := Open(path); err == nil {
		t.Fatal("a second process-like opener got in")
	}
}
