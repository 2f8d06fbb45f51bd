// Command bench measures two Docker endpoints side by side in one interleaved run and prints a ratio for each row.
//
// Only ratios mean something: absolute times depend on the machine and on what else it does. Every row is repeated,
// first on one endpoint, then on the other, and the medians are compared.
//
//	bench --berth unix:///run/a.sock --berth-marker /run/berth --dockerd unix:///run/b.sock --dockerd-marker /run/ref
//
// The markers are strings that occur in the command lines of an engine's processes and of no others; they are used to add
// up memory.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// row is one figure. lower tells whether smaller is better; target is the ratio berth/dockerd to reach.
type row struct {
	name   string
	unit   string
	lower  bool
	target float64
	reps   int
	run    func(e *engine) (float64, error)
}

type result struct {
	Row     string  `json:"row"`
	Unit    string  `json:"unit"`
	Berth   float64 `json:"berth"`
	Dockerd float64 `json:"dockerd"`
	Ratio   float64 `json:"ratio"`
	Target  string  `json:"target"`
	Reached bool    `json:"reached"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	defer func() {
		for i := len(cleanups) - 1; i >= 0; i-- {
			err = errors.Join(err, cleanups[i]())
		}
	}()
	var (
		berth         = flag.String("berth", "", "socket of berthd, unix://…")
		dockerd       = flag.String("dockerd", "", "socket of dockerd, unix://…")
		berthMarker   = flag.String("berth-marker", "", "part of the command line of berth's processes")
		dockerdMarker = flag.String("dockerd-marker", "", "part of the command line of dockerd's processes")
		image         = flag.String("image", "", "docker-archive with busybox:latest, loaded into both")
		scratch       = flag.String("scratch", "", "directory for the big image; without it there are no image rows")
		only          = flag.String("rows", "", "comma-separated parts of row names; empty for all")
		scale         = flag.Int("reps", 0, "repetitions of each row; 0 for the row's own")
		out           = flag.String("json", "", "write the results to this file")
	)
	flag.Parse()
	engines := []*engine{newEngine("berth", *berth, *berthMarker), newEngine("dockerd", *dockerd, *dockerdMarker)}
	for _, e := range engines {
		if err := e.prepare(*image); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	all := rows()
	if *scratch != "" {
		if err := bigArchive(*scratch); err != nil {
			return fmt.Errorf("big image: %w", err)
		}
		pusher = engines[1]
		all = append(all, imageRows()...)
	}
	var results []result
	fmt.Printf("%-34s %14s %14s %8s  %-9s\n", "row", "berth", "dockerd", "ratio", "target")
	for _, r := range all {
		if !selected(r.name, *only) {
			continue
		}
		if *scale > 0 {
			r.reps = *scale
		}
		res, err := measure(r, engines)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		results = append(results, res)
		mark := "ok"
		if !res.Reached {
			mark = "missed"
		}
		fmt.Printf("%-34s %14s %14s %8.3f  %-9s %s\n", r.name, format(res.Berth, r.unit), format(res.Dockerd, r.unit), res.Ratio, res.Target, mark)
	}
	if *out == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{"date": time.Now().UTC().Format(time.DateOnly), "rows": results}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*out, append(b, '\n'), 0o644)
}

func selected(name, only string) bool {
	if only == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(only, ","), func(p string) bool { return strings.Contains(name, p) })
}

// measure runs the row on both engines in turn, reps times, after one unmeasured round.
func measure(r row, engines []*engine) (result, error) {
	samples := make([][]float64, len(engines))
	for rep := -1; rep < r.reps; rep++ {
		for i, e := range engines {
			v, err := r.run(e)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", e.name, err)
			}
			if rep >= 0 {
				samples[i] = append(samples[i], v)
			}
		}
	}
	b, d := median(samples[0]), median(samples[1])
	res := result{Row: r.name, Unit: r.unit, Berth: b, Dockerd: d, Ratio: b / d}
	if r.lower {
		res.Target, res.Reached = fmt.Sprintf("<= %.2f", r.target), res.Ratio <= r.target
	} else {
		res.Target, res.Reached = fmt.Sprintf(">= %.2f", r.target), res.Ratio >= r.target
	}
	if r.target == 0 {
		res.Target, res.Reached = "-", true
	}
	return res, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

func format(v float64, unit string) string {
	switch unit {
	case "ms":
		return fmt.Sprintf("%.2f ms", v)
	case "MiB":
		return fmt.Sprintf("%.2f MiB", v)
	default:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
}
