package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/berthd/berth/conformance"
)

// replay plays transcripts to an endpoint that is made for it.
func replay(args []string) error {
	f := flag.NewFlagSet("replay", flag.ExitOnError)
	host := f.String("host", "unix:///var/run/docker.sock", "endpoint; what it holds changes")
	_ = f.Parse(args) // exits by itself
	played, differing := 0, 0
	for _, file := range f.Args() {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		p, d, err := conformance.Replay(*host, raw, os.Stdout)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		played, differing = played+p, differing+d
	}
	fmt.Printf("%d exchanges replayed, %d differ\n", played, differing)
	return nil
}
