//go:build cgo && linux

// Command berth-shim parents the containers of one group. It is started by berthd; people do not run it.
//
//	berth-shim serve DIR    serve the group whose listening socket is descriptor 3
//	berth-shim init         first stage of a container (libcontainer)
//	berth-shim stage        a container's process before it is that (fastinit); never reaches main
package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/berthd/berth/cmd/internal/resident"
	"github.com/berthd/berth/engine/shim/libct"
	"github.com/berthd/berth/engine/shim/server"
)

// libcontainer leaves a thread in a container's mount namespace and lets it end. The first thread cannot end, and what
// /proc/self tells is its view: it does nothing but wait.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libct.Init()
	}
	if len(os.Args) != 3 || os.Args[1] != "serve" {
		fmt.Fprintln(os.Stderr, "berth-shim is started by berthd")
		os.Exit(2)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(os.Args[2]) }()
	if err := <-ended; err != nil {
		slog.Error("shim ends", "error", err)
		os.Exit(1)
	}
}

func serve(dir string) error {
	// Best effort: lowering needs a capability that not every host grants.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	// Caught and dropped, not ignored: what is ignored here would be ignored in the containers as well.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT)
	debug.SetMemoryLimit(32 << 20)
	f := os.NewFile(3, "listener")
	syscall.CloseOnExec(3)
	ln, err := net.FileListener(f)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	time.AfterFunc(time.Second, func() { _ = resident.Trim() }) // best effort
	s, err := server.New(dir, ln.(*net.UnixListener), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return s.Serve()
}
