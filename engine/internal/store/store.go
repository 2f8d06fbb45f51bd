package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/berthd/berth/engine/internal/fsx"
)

// Bucket names one table of the drawing in doc.go.
type Bucket string

// The tables.
const (
	Meta       Bucket = "meta"
	Containers Bucket = "containers"
	Names      Bucket = "names"
	Networks   Bucket = "networks"
	Endpoints  Bucket = "endpoints"
	IPAM       Bucket = "ipam"
	Ports      Bucket = "ports"
	Volumes    Bucket = "volumes"
)

var buckets = []Bucket{Meta, Containers, Names, Networks, Endpoints, IPAM, Ports, Volumes}

// schema is the version of the layout that this code writes; it is kept under meta/schema.
const schema = 1

var root = []byte("v1")

// DB is an open engine.db. Safe for concurrent use; many readers never wait for the writer.
type DB struct{ b *bbolt.DB }

// Open opens or creates the database. Only one process can hold it; a second one gets an error after two seconds.
//
// A new file is built under a temporary name and renamed when complete: bbolt's very first initialisation does not
// survive a power cut in the middle (etcd issue 16596).
func Open(path string) (*DB, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	}
	b, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := &DB{b: b}
	if err := db.check(); err != nil {
		_ = b.Close() // the error that matters is err
		return nil, err
	}
	return db, nil
}

func open(path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
}

func create(path string) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b, err := open(tmp)
	if err != nil {
		return err
	}
	err = b.Update(func(tx *bbolt.Tx) error {
		r, err := tx.CreateBucketIfNotExists(root)
		if err != nil {
			return err
		}
		m, err := r.CreateBucketIfNotExists([]byte(Meta))
		if err != nil {
			return err
		}
		return m.Put([]byte("schema"), []byte(strconv.Itoa(schema)))
	})
	if err = errors.Join(err, b.Sync(), b.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return fsx.SyncDir("store.create", filepath.Dir(path))
}

// check refuses a newer layout and creates tables that an older file lacks.
func (db *DB) check() error {
	return db.b.Update(func(tx *bbolt.Tx) error {
		r, err := tx.CreateBucketIfNotExists(root)
		if err != nil {
			return err
		}
		for _, n := range buckets {
			if _, err := r.CreateBucketIfNotExists([]byte(n)); err != nil {
				return err
			}
		}
		v := string(r.Bucket([]byte(Meta)).Get([]byte("schema")))
		if v != strconv.Itoa(schema) {
			return fmt.Errorf("engine.db has schema %q, this program knows %d", v, schema)
		}
		return nil
	})
}

// Close waits for open transactions and releases the file.
func (db *DB) Close() error { return db.b.Close() }

// View runs f on a consistent read-only picture.
func (db *DB) View(f func(*Tx) error) error {
	return db.b.View(func(tx *bbolt.Tx) error { return f(&Tx{tx.Bucket(root)}) })
}

// Update runs f and commits what it wrote; if f fails nothing is changed. When it returns nil the change is on disk.
func (db *DB) Update(f func(*Tx) error) error {
	return db.b.Update(func(tx *bbolt.Tx) error { return f(&Tx{tx.Bucket(root)}) })
}

// Tx is a transaction. Keys may hold slashes; they are plain strings.
type Tx struct{ r *bbolt.Bucket }

// Get decodes the record at key into v and reports whether there is one.
func (tx *Tx) Get(b Bucket, key string, v any) (bool, error) {
	raw := tx.r.Bucket([]byte(b)).Get([]byte(key))
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return true, fmt.Errorf("record %s/%s: %w", b, key, err)
	}
	return true, nil
}

// Has reports whether key exists.
func (tx *Tx) Has(b Bucket, key string) bool { return tx.r.Bucket([]byte(b)).Get([]byte(key)) != nil }

// Put stores v as JSON under key.
func (tx *Tx) Put(b Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s/%s: %w", b, key, err)
	}
	return tx.r.Bucket([]byte(b)).Put([]byte(key), raw)
}

// Delete removes key; it succeeds if there is none.
func (tx *Tx) Delete(b Bucket, key string) error { return tx.r.Bucket([]byte(b)).Delete([]byte(key)) }

// Scan calls f for every key that begins with prefix, in byte order. decode fills a value from the record.
// f must not change the bucket.
func (tx *Tx) Scan(b Bucket, prefix string, f func(key string, decode func(v any) error) error) error {
	c := tx.r.Bucket([]byte(b)).Cursor()
	p := []byte(prefix)
	for k, raw := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, raw = c.Next() {
		key := string(k)
		err := f(key, func(v any) error {
			if err := json.Unmarshal(raw, v); err != nil {
				return fmt.Errorf("record %s/%s: %w", b, key, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
