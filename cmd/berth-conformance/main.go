// Command berth-conformance holds a Docker endpoint to the Engine API.
//
//	berth-conformance run --host unix:///var/run/docker.sock --image busybox.tar [--match TEXT]
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/berthd/berth/conformance"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != "run" {
		fmt.Fprintln(os.Stderr, "usage: berth-conformance run --host unix://… --image busybox.tar [--match text]")
		os.Exit(2)
	}
	f := flag.NewFlagSet("run", flag.ExitOnError)
	host := f.String("host", "unix:///var/run/docker.sock", "endpoint")
	image := f.String("image", "", "docker-archive with busybox:latest")
	match := f.String("match", "", "only cases whose name contains this")
	_ = f.Parse(os.Args[2:]) // exits by itself
	passed, failed := 0, 0
	c := conformance.NewClient(*host)
	if err := c.Load(*image); err != nil {
		fmt.Fprintln(os.Stderr, "the image cannot be loaded:", err)
		os.Exit(1)
	}
	for _, k := range conformance.Cases() {
		if !strings.Contains(k.Name, *match) {
			continue
		}
		if err := c.Run(k); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", k.Name, err)
			continue
		}
		passed++
	}
	fmt.Printf("%d passed, %d failed, 0 skipped\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
