package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/conformance/spec"
)

// Options say what to run and where.
type Options struct {
	Host       string // unix:///path or tcp://host:port
	APIVersion string // as "1.44"; empty means 1.41, the newest that every engine in use speaks
	Match      string // regular expression on names; empty means all
	Jobs       int    // cases at a time
	Image      io.Reader
	Loose      bool         // answers that are not as specified are reported, but fail no case
	Progress   func(Result) // called from one goroutine at a time
}

// Outcome of one case.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// Result is one case and what came of it.
type Result struct {
	Name    string        `json:"name"`
	Ops     []string      `json:"operations"`
	Outcome Outcome       `json:"outcome"`
	Why     string        `json:"why,omitempty"` // of a failure or a skip
	Took    time.Duration `json:"nanoseconds"`
	// Findings are the places where answers were not as specified.
	Findings []spec.Finding `json:"findings,omitempty"`
}

// Engine is the endpoint as it names itself.
type Engine struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	APIVersion string `json:"apiVersion"`
}

// Report is a run.
type Report struct {
	Engine     Engine    `json:"engine"`
	APIVersion string    `json:"apiVersion"`
	Started    time.Time `json:"started"`
	Results    []Result  `json:"results"` // in the order of the cases
	// Coverage is what was used, by operation.
	Coverage map[string]*Coverage `json:"coverage"`
}

// Count is how many cases came out so.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, x := range r.Results {
		if x.Outcome == o {
			n++
		}
	}
	return n
}

// Run brings the image in and runs the cases. An error means that the run could not be begun; failures are in the report.
func Run(ctx context.Context, o Options, cases []Case) (*Report, error) {
	match, err := regexp.Compile(o.Match)
	if err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	if o.APIVersion == "" {
		o.APIVersion = "1.41"
	}
	c, err := NewClient(o.Host)
	if err != nil {
		return nil, err
	}
	c.ctx, c.version = ctx, o.APIVersion
	rep := &Report{APIVersion: o.APIVersion, Started: time.Now().UTC()}
	if rep.Engine, err = c.engine(); err != nil {
		return nil, err
	}
	if o.Image != nil {
		if err := c.load(o.Image); err != nil {
			return nil, err
		}
	}
	if c.watch, err = newWatch(); err != nil {
		return nil, err
	}
	r := runner{o: o, c: c, rep: rep}
	for _, k := range cases {
		if match.MatchString(k.Name) {
			r.cases = append(r.cases, k)
		}
	}
	rep.Results = make([]Result, len(r.cases))
	r.all(ctx)
	rep.Coverage = c.watch.coverage()
	return rep, nil
}

type runner struct {
	o     Options
	c     *Client
	rep   *Report
	cases []Case
	mu    sync.Mutex // guards Progress
}

// all runs the cases that may run beside each other, then the rest one by one.
func (r *runner) all(ctx context.Context) {
	slots := make(chan struct{}, max(1, r.o.Jobs))
	var wg sync.WaitGroup
	for i, k := range r.cases {
		if k.apart() {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			r.one(ctx, i, k)
			<-slots
		})
	}
	wg.Wait()
	for i, k := range r.cases {
		if k.apart() {
			r.one(ctx, i, k)
		}
	}
}

func (r *runner) one(ctx context.Context, i int, k Case) {
	res := Result{Name: k.Name, Ops: k.Ops, Outcome: Passed}
	begun := time.Now()
	if res.Why = r.skip(k); res.Why != "" {
		res.Outcome = Skipped
	} else {
		c := r.c.forCase(i, later(r.o.APIVersion, k.MinAPI))
		err := runCase(ctx, c, k)
		c.made.mu.Lock()
		res.Findings = unique(c.made.findings)
		c.made.mu.Unlock()
		if len(res.Findings) > 0 && !r.o.Loose {
			err = errors.Join(err, fmt.Errorf("not as specified: %v", res.Findings))
		}
		if err != nil {
			res.Outcome, res.Why = Failed, err.Error()
		}
	}
	res.Took = time.Since(begun)
	r.rep.Results[i] = res
	if r.o.Progress != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.o.Progress(res)
	}
}

// unique leaves one of those that say the same.
func unique(fs []spec.Finding) []spec.Finding {
	seen := map[string]bool{}
	return slices.DeleteFunc(fs, func(f spec.Finding) bool {
		was := seen[f.String()]
		seen[f.String()] = true
		return was
	})
}

// skip is the reason why k is not run here; empty runs it.
func (r *runner) skip(k Case) string {
	if have := r.rep.Engine.APIVersion; k.MinAPI != "" && later(have, k.MinAPI) != have {
		return fmt.Sprintf("needs API %s, the engine speaks %s", k.MinAPI, have)
	}
	return ""
}

// later is the newer of two API versions.
func later(a, b string) string {
	if minor(b) > minor(a) {
		return b
	}
	return a
}

func minor(v string) int {
	n := 0
	_, _ = fmt.Sscanf(v, "1.%d", &n) // zero for what is no version
	return n
}

// engine asks who answers.
func (c *Client) engine() (Engine, error) {
	a, err := c.Do("GET", "!/version", nil)
	if err != nil || a.Status != 200 {
		return Engine{}, errors.Join(err, fmt.Errorf("no Docker endpoint answers at %s://%s", c.network, c.address))
	}
	word := func(key string) string { s, _ := a.JSON()[key].(string); return s }
	e := Engine{Name: "dockerd", Version: word("Version"), APIVersion: word("ApiVersion")}
	if p, ok := a.JSON()["Platform"].(obj); ok {
		if n, _ := p["Name"].(string); n != "" {
			e.Name = n
		}
	}
	return e, nil
}

// load brings the image in.
func (c *Client) load(image io.Reader) error {
	a, err := c.Do("POST", "/images/load?quiet=1", image)
	if err != nil {
		return fmt.Errorf("load of the test image: %w", err)
	}
	if a.Status != 200 || !bytes.Contains(a.Body, []byte("Loaded image: busybox:latest")) {
		return fmt.Errorf("load of the test image: %d %s", a.Status, strings.TrimSpace(string(a.Body)))
	}
	return nil
}
