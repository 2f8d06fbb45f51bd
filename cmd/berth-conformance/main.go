// Command berth-conformance holds a Docker endpoint to the Engine API.
//
//	berth-conformance run --host unix:///var/run/docker.sock [--match REGEXP] [--jobs N] …
//	berth-conformance ops
//	berth-conformance image OUT.tar
package main

import (
	"fmt"
	"os"
)

const usage = `usage:
  berth-conformance run [--host unix:///path|tcp://host:port] [--api-version 1.NN] [--match regexp] [--jobs N]
                        [--report page] [--json file] [--junit file] [--matrix] [--loose] [--image archive]
  berth-conformance ops            tells the operations of the specification and the cases of each
  berth-conformance diff [--host …] --against unix:///path
                                   compares what containers see on two endpoints
  berth-conformance replay [--host …] TRANSCRIPT…
                                   sends recorded requests and tells where the answers differ
  berth-conformance image FILE     writes the test image that the cases use
`

func main() {
	commands := map[string]func(args []string) error{"run": run, "image": image, "ops": ops, "diff": diff, "replay": replay}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "berth-conformance:", err)
		os.Exit(1)
	}
}
