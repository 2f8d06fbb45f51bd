// Package store keeps the engine's rows: JSON records in one bbolt file, engine.db.
//
//	engine.db
//	└─ v1
//	   ├─ meta/<key>                 schema version, engine id, created
//	   ├─ containers/<id>            record
//	   ├─ names/<name>               container id
//	   ├─ networks/<id>              record
//	   ├─ endpoints/<net>/<ctr>      record
//	   ├─ ipam/<net>/<address>       container id
//	   ├─ ports/<proto>/<ip>/<port>  container id
//	   └─ volumes/<name>             record
//
// Guarantees: Update returns nil only when the transaction is on disk. One Update is one transition: rows, names,
// addresses and ports change together or not at all. Records decode to fresh values; nothing handed out is shared.
// Transactions must be pure: no clock, no random numbers, no I/O inside; values are passed in.
//
// The package knows no domain words beyond the bucket names and is the only importer of bbolt outside engine/image.
package store
