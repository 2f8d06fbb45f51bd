// Command berthd is the daemon.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/berthd/berth/cmd/berthd/config"
	"github.com/berthd/berth/cmd/internal/version"
	"github.com/berthd/berth/engine"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "berthd:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	c, err := config.Parse(args)
	if err != nil {
		return err
	}
	switch {
	case c.Version:
		fmt.Printf("berth version %s, build %s\n", version.Version, version.Commit)
		return nil
	case c.Validate:
		fmt.Println("configuration OK")
		return nil
	}
	log := newLogger(c)
	ec, err := engineConfig(c, log.Logger)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGPIPE)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	if c.Sweep {
		return sweep(ctx, ec)
	}
	pid, err := writePidfile(c.Pidfile)
	if err != nil {
		return fmt.Errorf("failed to start daemon: %w", err)
	}
	defer pid.remove()
	e, err := engine.Open(ctx, ec)
	if err != nil {
		return err
	}
	d := &running{args: args, log: log, engine: e}
	d.config.Store(c)
	err = d.serve(ctx, reload)
	limit := time.Duration(d.config.Load().ShutdownTimeout+10) * time.Second
	sctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	e.Shutdown(sctx)
	return err
}

// sweep removes what an engine leaves on the host on purpose.
func sweep(ctx context.Context, ec engine.Config) error {
	e, err := engine.Open(ctx, ec)
	if err != nil {
		return err
	}
	// Containers that outlived a crash go first: while they run, their cgroups and links stay.
	e.Containers.Shutdown(ctx)
	err = e.Destroy(ctx)
	e.Shutdown(context.WithoutCancel(ctx))
	return err
}
