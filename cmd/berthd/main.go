// Command berthd is the daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/cmd/berthd/config"
	"github.com/berthd/berth/cmd/internal/resident"
	"github.com/berthd/berth/cmd/internal/version"
	"github.com/berthd/berth/compat"
	"github.com/berthd/berth/engine"
	"github.com/berthd/berth/engine/build/buildkit"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/image/registry"
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
	log := logger(c)
	ec, err := engineConfig(c, log)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	e, err := engine.Open(ctx, ec)
	if err != nil {
		return err
	}
	if c.Sweep {
		err := e.Destroy(ctx)
		e.Shutdown(context.Background())
		return err
	}
	if err := os.WriteFile(c.Pidfile, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o644); err != nil {
		return err
	}
	defer os.Remove(c.Pidfile)
	err = serve(ctx, c, e, log)
	limit := time.Duration(c.ShutdownTimeout+10) * time.Second
	sctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	e.Shutdown(sctx)
	return err
}

func logger(c *config.Config) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn}[c.LogLevel]
	if c.LogLevel == "error" || c.LogLevel == "fatal" {
		level = slog.LevelError
	}
	if c.Debug {
		level = slog.LevelDebug
	}
	logrus.SetOutput(io.Discard) // containerd's libraries talk about harmless things; their errors come back as values
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func engineConfig(c *config.Config, log *slog.Logger) (engine.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return engine.Config{}, err
	}
	shm, err := units.RAMInBytes(c.ShmSize)
	if err != nil {
		return engine.Config{}, err
	}
	ec := engine.Config{
		DataRoot: c.DataRoot, ExecRoot: c.ExecRoot, ShimBinary: filepath.Join(filepath.Dir(self), "berth-shim"), StorageDriver: c.StorageDriver, BridgeName: c.Bridge, BridgeIP: c.Prefix,
		MTU: c.MTU, Firewall: c.IPTables, Forward: c.IPForward, ICC: c.ICC, Masq: c.IPMasq, LiveRestore: c.LiveRestore,
		Registry: registry.Config{Insecure: c.Insecure, Mirrors: c.Mirrors}, MaxDownloads: c.Downloads, MaxUploads: c.Uploads, MaxAttempts: c.Attempts,
		DefaultInit: c.Init, InitPath: c.InitPath, CgroupParent: c.CgroupParent, DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOpts, LogDriver: c.LogDriver, LogOptions: map[string]string{}, ShmSize: shm, Version: version.Version, Log: log,
	}
	if ec.InitPath == "" {
		for _, p := range []string{"/usr/libexec/docker/docker-init", "/usr/bin/docker-init", "/usr/sbin/docker-init", "/usr/bin/tini-static"} {
			if _, err := os.Stat(p); err == nil {
				ec.InitPath = p
				break
			}
		}
	}
	for _, m := range c.Mirrors {
		if _, err := registry.ParseMirror(m); err != nil {
			return ec, err
		}
	}
	for _, o := range c.LogOpts {
		k, v, _ := strings.Cut(o, "=")
		ec.LogOptions[k] = v
	}
	for _, u := range c.Ulimits {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return ec, err
		}
		ec.Ulimits = append(ec.Ulimits, container.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	return ec, nil
}

func serve(ctx context.Context, c *config.Config, e *engine.Engine, log *slog.Logger) error {
	var lns []net.Listener
	for _, h := range c.Hosts {
		l, err := listen(h, c.Group, log)
		if err != nil {
			return err
		}
		lns = append(lns, l...)
	}
	api := &compat.Server{Version: version.Version, Log: log.With("component", "api"), Backend: compat.Backend{
		Containers: e.Containers, Images: e.Images, Networks: e.Networks, Volumes: e.Volumes, Build: e.Build, BuildFilter: buildkit.Filter, Events: e.Events, System: facts(c, e),
	}}
	srv := &http.Server{Handler: api.Handler(), ReadHeaderTimeout: 5 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	errs := make(chan error, len(lns))
	for _, l := range lns {
		log.Info("API listens", "address", l.Addr().String())
		go func() { errs <- srv.Serve(l) }()
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd there is nobody to tell
	settled := time.AfterFunc(time.Second, func() {
		if err := resident.Trim(); err != nil {
			log.Debug("memory of the start is kept", "error", err)
		}
	})
	defer settled.Stop()
	select {
	case err := <-errs:
		return err
	case <-ctx.Done():
	}
	log.Info("ending")
	for _, l := range lns {
		_ = l.Close() // nothing more is taken
	}
	return nil
}

func listen(host, group string, log *slog.Logger) ([]net.Listener, error) {
	scheme, addr, _ := strings.Cut(host, "://")
	switch scheme {
	case "fd":
		ls, err := activation.Listeners()
		if err == nil && len(ls) == 0 {
			err = errors.New("no sockets found via socket activation: make sure the service was started by systemd")
		}
		return ls, err
	case "tcp":
		log.Warn("the API listens on TCP without TLS: whoever reaches it is root here", "address", addr)
		l, err := net.Listen("tcp", addr)
		return []net.Listener{l}, err
	}
	if conn, err := net.Dial("unix", addr); err == nil {
		_ = conn.Close() // only asked
		return nil, fmt.Errorf("%s is in use by another daemon", addr)
	}
	if err := os.Remove(addr); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", addr)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if g, err := user.LookupGroup(group); err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		if err := os.Chown(addr, 0, gid); err != nil {
			return nil, err
		}
	} else if group != "docker" {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// facts gathers what does not change once; the rest when asked.
func facts(c *config.Config, e *engine.Engine) func() compat.Info {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail
	var si unix.Sysinfo_t
	_ = unix.Sysinfo(&si) // cannot fail
	osName := "Linux"
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				osName = strings.Trim(strings.TrimSpace(v), `"`)
			}
		}
	}
	cg := "1"
	if engine.CgroupV2() {
		cg = "2"
	}
	_, swapErr := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	base := compat.Info{
		ID: e.ID, Root: c.DataRoot, Kernel: unix.ByteSliceToString(u.Release[:]), OS: osName, Arch: unix.ByteSliceToString(u.Machine[:]), CPUs: runtime.NumCPU(),
		Memory: int64(si.Totalram) * int64(si.Unit), CgroupVersion: cg, Commit: version.Commit, GoVersion: runtime.Version(), LiveRestore: c.LiveRestore, Debug: c.Debug,
		InsecureRegistries: c.Insecure, Mirrors: c.Mirrors, Labels: c.Labels, SwapLimit: swapErr == nil || cg == "2", PidsLimit: true,
	}
	return func() compat.Info {
		i := base
		i.Name, _ = os.Hostname()
		i.Goroutines = runtime.NumGoroutine()
		if ents, err := os.ReadDir("/proc/self/fd"); err == nil {
			i.Files = len(ents)
		}
		return i
	}
}
