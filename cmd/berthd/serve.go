package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/berthd/berth/cmd/berthd/config"
	"github.com/berthd/berth/cmd/internal/resident"
	"github.com/berthd/berth/cmd/internal/version"
	"github.com/berthd/berth/compat"
	"github.com/berthd/berth/engine"
	"github.com/berthd/berth/engine/build/buildkit"
)

// running is the daemon at work.
type running struct {
	args   []string
	config atomic.Pointer[config.Config]
	log    logger
	engine *engine.Engine
	api    *compat.Server
}

// serve answers requests until ctx ends.
func (d *running) serve(ctx context.Context, reload <-chan os.Signal) error {
	c, e := d.config.Load(), d.engine
	doors, tc, err := openDoors(c, d.log.Logger)
	if err != nil {
		return err
	}
	api := &compat.Server{Version: version.Version, Log: d.log.With("component", "api"), Experimental: c.Experimental, Backend: compat.Backend{
		Containers: e.Containers, Images: e.Images, Networks: e.Networks, Volumes: e.Volumes, Build: e.Build, BuildFilter: buildkit.Filter, Events: e.Events, System: d.facts(),
	}}
	api.ClassicBuild.Store(classic(c))
	d.api = api
	handler := api.Handler()
	errs := make(chan error, len(doors))
	for _, o := range doors {
		d.log.Info("API listens", "address", o.Addr().String())
		srv := newServer(handler, o, d.log.Logger, tc)
		go func() {
			if o.rules.TCP && tc != nil {
				errs <- srv.ServeTLS(o, "", "")
				return
			}
			errs <- srv.Serve(o)
		}()
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd there is nobody to tell
	settled := time.AfterFunc(time.Second, func() {
		if err := resident.Trim(); err != nil {
			d.log.Debug("memory of the start is kept", "error", err)
		}
	})
	defer settled.Stop()
	for {
		select {
		case err := <-errs:
			return err
		case <-reload:
			d.reload()
			continue
		case <-ctx.Done():
		}
		break
	}
	d.log.Info("ending")
	for _, o := range doors {
		_ = o.Close() // nothing more is taken
	}
	return nil
}

// classic reports whether clients are to build the classic way.
func classic(c *config.Config) bool {
	on, said := c.Features["buildkit"]
	return said && !on
}

// newServer speaks HTTP/1.1 and HTTP/2, with and without TLS: builders speak gRPC on the main socket. Strangers can reach TCP, so
// there a head must come soon; on a local socket slow clients are not worth a hurry.
func newServer(h http.Handler, o door, log *slog.Logger, tc *tls.Config) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	patience := 5 * time.Minute
	if o.rules.TCP {
		patience = 10 * time.Second // the handshake's too
	}
	return &http.Server{
		Handler: h, Protocols: p, ReadHeaderTimeout: patience, MaxHeaderBytes: compat.MaxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), TLSConfig: tc,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return o.rules.With(ctx) },
	}
}

// reload reads the file again. What is wrong with it is told, and nothing changes then.
func (d *running) reload() {
	old := d.config.Load()
	d.log.Info("reloading the configuration", "file", old.File)
	next, err := old.Reload(d.args)
	if err == nil {
		err = fixed(old, next)
	}
	if err != nil {
		d.log.Error("the configuration is not reloaded", "error", err)
		return
	}
	d.config.Store(next)
	d.log.adjust(next)
	d.api.ClassicBuild.Store(classic(next))
	d.engine.Reload(engine.Reloadable{LiveRestore: next.LiveRestore, Attributes: next.Attributes()})
}

// fixed refuses to change what the image store takes over at its start only.
func fixed(old, next *config.Config) error {
	for _, o := range []struct {
		name string
		same bool
	}{
		{"insecure-registries", slices.Equal(old.Insecure, next.Insecure)}, {"registry-mirrors", slices.Equal(old.Mirrors, next.Mirrors)},
		{"max-concurrent-downloads", old.MaxDownloads == next.MaxDownloads}, {"max-concurrent-uploads", old.MaxUploads == next.MaxUploads}, {"max-download-attempts", old.MaxAttempts == next.MaxAttempts},
	} {
		if !o.same {
			return fmt.Errorf("%s cannot be changed in a running daemon yet", o.name)
		}
	}
	return nil
}
