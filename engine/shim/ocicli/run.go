//go:build linux

package ocicli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/shim/internal/proc"
)

// adopters counts the programs whose orphans the shim takes. Outside of that it adopts nobody: an orphan of a container in the
// host's pid namespace is init's to reap.
var adopters struct {
	sync.Mutex
	n int
}

// adopt makes orphans of programs that run until release is called children of this process.
func adopt() (release func(), err error) {
	set := func(on uintptr) error {
		return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, on, 0, 0, 0))
	}
	adopters.Lock()
	defer adopters.Unlock()
	if adopters.n == 0 {
		if err := set(1); err != nil {
			return nil, err
		}
	}
	adopters.n++
	return func() {
		adopters.Lock()
		defer adopters.Unlock()
		if adopters.n--; adopters.n == 0 {
			_ = set(0) // it worked the other way
		}
	}, nil
}

// program is a runtime with its global options.
type program struct {
	rt   shim.Runtime
	root string // its state
}

// command is one call. log takes the runtime's own words, as JSON lines.
func (p *program) command(log string, args ...string) *exec.Cmd {
	argv := append([]string{"--root", p.root, "--log", log, "--log-format", "json"}, p.rt.Args...)
	cmd := exec.Command(p.rt.Path, append(argv, args...)...)
	cmd.Dir = "/"
	// A runtime may look for helpers of its own.
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// call runs a command that makes no process. Its error has the runtime's own words.
func (p *program) call(dir string, args ...string) (out []byte, err error) {
	log, err := os.CreateTemp(dir, "log-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd := p.command(log.Name(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, p.words(log.Name(), stderr.String(), err)
	}
	return stdout.Bytes(), nil
}

// words is what the runtime said about its failure: the last error in its log, else its stderr.
func (p *program) words(log, stderr string, err error) error {
	b, _ := os.ReadFile(log) // nothing: stderr may tell
	msg := ""
	for line := range strings.Lines(string(b)) {
		var l struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Level == "error" {
			msg = l.Msg
		}
	}
	if msg == "" {
		msg = strings.TrimSpace(stderr)
	}
	if msg == "" {
		msg = fmt.Sprintf("%s: %s", filepath.Base(p.rt.Path), err)
	}
	return errors.New(normalise(msg))
}

var notInPath = regexp.MustCompile("executable file `([^`]*)` not found in \\$PATH(: No such file or directory)?")

// normalise writes a runtime's words as clients know them from runc: they tell causes apart by text, letter by letter.
func normalise(msg string) string {
	msg = notInPath.ReplaceAllString(msg, `exec: "$1": executable file not found in $$PATH`)
	for _, e := range []syscall.Errno{unix.ENOENT, unix.EACCES, unix.EISDIR, unix.ENOTDIR, unix.ENOEXEC} {
		text := e.Error()
		msg = strings.ReplaceAll(msg, strings.ToUpper(text[:1])+text[1:], text)
	}
	return msg
}

// spawn runs a command that makes a process with stdio s and returns the process's pid and, with a terminal, its console.
func (p *program) spawn(dir string, s proc.Stdio, args func(pidFile, consoleSocket string) []string) (pid int, console *os.File, err error) {
	tmp, err := os.MkdirTemp(dir, "call-")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(tmp)
	log, pidFile := filepath.Join(tmp, "log"), filepath.Join(tmp, "pid")
	var sock *listener
	if s.TTY {
		if sock, err = listen(tmp); err != nil {
			return 0, nil, err
		}
		defer sock.Close()
	}
	cmd := p.command(log, args(pidFile, sock.path())...)
	if !s.TTY {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, s.Stdout, s.Stderr
	}
	release, err := adopt()
	if err != nil {
		return 0, nil, err
	}
	err = cmd.Run()
	release()
	if err != nil {
		return 0, nil, p.words(log, "", err)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, nil, err
	}
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		return 0, nil, fmt.Errorf("pid file of %s: %w", p.rt.Path, err)
	}
	if sock != nil {
		console, err = sock.receive()
	}
	return pid, console, err
}

// listener is the socket on which a runtime hands over a terminal.
type listener struct {
	dir *os.File // keeps the address short: sockets have only 108 bytes for a path
	fd  int
}

func listen(dir string) (*listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	l := &listener{dir: d}
	if l.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, errors.Join(os.NewSyscallError("socket", err), d.Close())
	}
	err = unix.Bind(l.fd, &unix.SockaddrUnix{Name: l.path()})
	if err == nil {
		err = unix.Listen(l.fd, 1)
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("console socket", err), unix.Close(l.fd), d.Close())
	}
	return l, nil
}

func (l *listener) path() string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d/c", os.Getpid(), l.dir.Fd())
}

// receive takes the terminal. The runtime has ended: what it sent is here already, or never comes.
func (l *listener) receive() (*os.File, error) {
	if err := unix.SetNonblock(l.fd, true); err != nil {
		return nil, err
	}
	conn, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("the runtime sent no console: %w", err)
	}
	defer unix.Close(conn)
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive console: %w", err)
	}
	return proc.Console(oob[:n])
}

// Close frees it.
func (l *listener) Close() {
	_ = unix.Close(l.fd) // nobody uses it any more
	_ = l.dir.Close()    // as above
}
