// Package spec is the Engine API's specification as data: the operations, parameters, statuses and schemas of every version
// from 1.25 to 1.51, and a check of answers against them.
//
// index.json is made from the swagger files of the API module by `go test ./conformance/spec -update`; a test says when it is
// out of date. A definition that stays the same over versions is stored once. What the specification says and no dockerd
// does is written down in deviations.txt.
package spec
