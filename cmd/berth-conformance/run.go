package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/berthd/berth/conformance"
)

var errFailed = errors.New("not all cases passed")

func run(args []string) error {
	f := flag.NewFlagSet("run", flag.ExitOnError)
	o := conformance.Options{}
	f.StringVar(&o.Host, "host", "unix:///var/run/docker.sock", "endpoint")
	f.StringVar(&o.APIVersion, "api-version", "", "version of requests")
	f.StringVar(&o.Match, "match", "", "only cases whose name matches this regular expression")
	f.IntVar(&o.Jobs, "jobs", 1, "cases at a time")
	f.BoolVar(&o.Loose, "loose", false, "answers that are not as specified are told, but fail no case")
	archive := f.String("image", "", "a docker-archive with busybox:latest, instead of the one that the suite makes")
	jsonFile := f.String("json", "", "report as JSON")
	junitFile := f.String("junit", "", "report for CI systems")
	htmlFile := f.String("report", "", "report as a page")
	matrix := f.Bool("matrix", false, "print what was used of each operation")
	_ = f.Parse(args) // exits by itself

	var made bytes.Buffer
	o.Image = &made
	if *archive != "" {
		r, err := os.Open(*archive)
		if err != nil {
			return err
		}
		defer r.Close()
		o.Image = r
	} else if err := conformance.WriteImage(&made); err != nil {
		return err
	}
	o.Progress = func(r conformance.Result) {
		switch r.Outcome {
		case conformance.Failed:
			fmt.Printf("FAIL %s: %s\n", r.Name, r.Why)
		case conformance.Skipped:
			fmt.Printf("SKIP %s: %s\n", r.Name, r.Why)
		}
		if o.Loose {
			for _, x := range r.Findings {
				fmt.Printf("SPEC %s: %s\n", r.Name, x)
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cases := conformance.Cases()
	rep, err := conformance.Run(ctx, o, cases)
	if err != nil {
		return err
	}
	rows, err := conformance.Matrix(rep, cases)
	if err != nil {
		return err
	}
	if *matrix {
		if err := conformance.WriteMatrix(os.Stdout, rows); err != nil {
			return err
		}
	}
	err = errors.Join(
		writeTo(*jsonFile, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", " ")
			return e.Encode(rep)
		}),
		writeTo(*junitFile, rep.JUnit),
		writeTo(*htmlFile, func(w io.Writer) error { return rep.HTML(w, rows) }),
	)
	if rep.Count(conformance.Failed) > 0 || rep.Count(conformance.Passed) == 0 {
		err = errors.Join(err, errFailed)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", rep.Count(conformance.Passed), rep.Count(conformance.Failed), rep.Count(conformance.Skipped))
	if errors.Is(err, errFailed) {
		os.Exit(1) // the last line is the count
	}
	return err
}

// ops prints the operations and the cases that name them.
func ops([]string) error {
	rows, err := conformance.Matrix(&conformance.Report{}, conformance.Cases())
	if err != nil {
		return err
	}
	covered := 0
	for _, r := range rows {
		fmt.Printf("%s  %s %s: %d cases\n", r.Operation.ID, r.Operation.Method, r.Operation.Path, len(r.Cases))
		for _, k := range r.Cases {
			fmt.Println("   ", k)
		}
		if len(r.Cases) > 0 {
			covered++
		}
	}
	fmt.Printf("%d of %d operations have cases\n", covered, len(rows))
	return nil
}

func image(args []string) error {
	if len(args) != 1 {
		return errors.New("image needs the name of the file to write")
	}
	return writeTo(args[0], func(w io.Writer) error { return conformance.WriteImage(w) })
}

// writeTo makes the file; no name, no file.
func writeTo(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
