package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"

	"github.com/berthd/berth/conformance"
)

// diff looks into containers on two endpoints.
func diff(args []string) error {
	f := flag.NewFlagSet("diff", flag.ExitOnError)
	host := f.String("host", "unix:///var/run/docker.sock", "endpoint")
	against := f.String("against", "", "the endpoint to compare with")
	_ = f.Parse(args) // exits by itself
	if *against == "" {
		return errors.New("diff needs --against")
	}
	var image bytes.Buffer
	if err := conformance.WriteImage(&image); err != nil {
		return err
	}
	n, err := conformance.Inside(context.Background(), os.Stdout, *host, *against, func() io.Reader { return bytes.NewReader(image.Bytes()) })
	if err != nil {
		return err
	}
	if n > 0 {
		os.Exit(1) // the last line is the count
	}
	return nil
}
