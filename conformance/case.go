package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Case is one story about an endpoint. It makes what it needs, looks at what clients see, and returns an error that says what
// was seen and what was wanted.
type Case struct {
	Name string
	// Ops names the operations of the specification that the case covers (operationId in swagger.yaml).
	Ops []string
	Run func(t *T) error
	// MinAPI is the first API version at which the case means something, as "1.44"; empty means any. Its requests go out at
	// this version when the run's own is older; an endpoint that does not speak it skips the case.
	MinAPI string
	// Timeout ends a case that hangs; zero means a minute.
	Timeout time.Duration
	// Alone keeps other cases from running beside this one: for what looks at, or changes, the whole of an engine.
	Alone bool
}

// since is k for API versions from v on.
func (k Case) since(v string) Case { k.MinAPI = v; return k }

// alone is k with nothing beside it.
func (k Case) alone() Case { k.Alone = true; return k }

// within is k with a limit of its own.
func (k Case) within(d time.Duration) Case { k.Timeout = d; return k }

// apart tells whether k runs with nothing beside it. Engines refuse a second prune or disk usage while one is under way.
func (k Case) apart() bool {
	return k.Alone || slices.ContainsFunc(k.Ops, func(op string) bool { return strings.HasSuffix(op, "Prune") || op == "SystemDataUsage" })
}

// T is a running case. Its client notes what the case makes, so that all of it is removed afterwards, and that alone.
type T struct {
	*Client
	n int // containers named so far
}

// runCase runs k and cleans up after it. The client is the case's own.
func runCase(ctx context.Context, c *Client, k Case) error {
	limit := k.Timeout
	if limit == 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the case took longer than %v", limit))
	defer cancel()
	c.ctx = ctx
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("the case panicked: %v", p)
			}
		}()
		done <- k.Run(&T{Client: c})
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		// Requests end with the context; a case that still does not come back is left behind.
		err = context.Cause(ctx)
		select {
		case late := <-done:
			err = errors.Join(err, late)
		case <-time.After(5 * time.Second):
		}
	}
	return errors.Join(err, c.cleanUp())
}
