//go:build cgo && linux

package fastinit

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	devices "github.com/opencontainers/cgroups/devices/config"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/shim/internal/proc"
)

// newNamespaces are the ones the init process is cloned into; cgroup is left when the process is in its cgroups.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID

var namespaceFlags = map[configs.NamespaceType]int{
	configs.NEWNS: unix.CLONE_NEWNS, configs.NEWUTS: unix.CLONE_NEWUTS, configs.NEWIPC: unix.CLONE_NEWIPC, configs.NEWPID: unix.CLONE_NEWPID,
	configs.NEWNET: unix.CLONE_NEWNET, configs.NEWCGROUP: unix.CLONE_NEWCGROUP,
}

// initPlan describes the start of a container's first process. groups is where its cgroups are; flags are for clone.
//
// Errors: errUncovered.
func initPlan(id string, c *configs.Config, ps *specs.Process, groups map[string]string, f *program) (_ *plan, flags uintptr, err error) {
	if err := covered(c, ps); err != nil {
		return nil, 0, err
	}
	p := &plan{}
	p.op(opTasks, tasksFiles(groups))
	if c.OomScoreAdj != nil {
		p.op(opOOMAdj, *c.OomScoreAdj)
	}
	fork := false
	for _, ns := range c.Namespaces {
		flag, ok := namespaceFlags[ns.Type]
		switch {
		case !ok, ns.Path == "" && flag == unix.CLONE_NEWNET, ns.Path != "" && flag == unix.CLONE_NEWNS, ns.Path != "" && flag == unix.CLONE_NEWCGROUP:
			return nil, 0, errUncovered
		case ns.Path != "":
			p.op(opSetns, flag, ns.Path)
			fork = fork || flag == unix.CLONE_NEWPID
		case flag == unix.CLONE_NEWCGROUP:
			p.op(opUnshare, flag)
		default:
			flags |= uintptr(flag)
		}
	}
	if flags&unix.CLONE_NEWNS == 0 {
		return nil, 0, errUncovered
	}
	if fork {
		p.op(opFork)
	}
	p.op(opKeyring, "_ses."+id, uint32(0x80000))
	p.op(opRoot, c.Rootfs)
	if err := p.mounts(c, groups); err != nil {
		return nil, 0, err
	}
	if err := p.dev(c); err != nil {
		return nil, 0, err
	}
	p.op(opPivot)
	p.op(opDevNull)
	if ps.Cwd != "" {
		p.op(opMkdirs, ps.Cwd)
	}
	p.console(ps, true)
	for _, m := range c.Mounts {
		if m.Flags&unix.MS_RDONLY != 0 && m.Device != "bind" && (m.Device == "tmpfs" || m.Destination == "/dev") {
			p.op(opSeal, m.Destination)
		}
	}
	if c.Readonlyfs {
		p.op(opSeal, "/")
	}
	if c.Umask != nil {
		p.op(opUmask, *c.Umask)
	} else {
		p.op(opUmask, uint32(0o022))
	}
	if c.Hostname != "" {
		p.op(opHostname, c.Hostname)
	}
	if c.Domainname != "" {
		p.op(opDomainname, c.Domainname)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Sysctl)) {
		p.op(opSysctl, "sys/"+strings.ReplaceAll(k, ".", "/"), c.Sysctl[k])
	}
	for _, r := range c.ReadonlyPaths {
		if !path.IsAbs(r) {
			return nil, 0, errUncovered
		}
		p.op(opReadonly, r)
	}
	if len(c.MaskPaths) > 0 {
		seen := map[string]bool{}
		var masks []string
		for _, m := range c.MaskPaths {
			if !path.IsAbs(m) {
				return nil, 0, errUncovered
			}
			if m = path.Clean(m); !seen[m] {
				seen[m] = true
				masks = append(masks, m)
			}
		}
		p.op(opMask, masks)
	}
	return p, flags, p.process(ps, f, c.Rootfs, true)
}

// tasksFiles are the files of version 1 through which a process enters by itself; version 2 is entered at birth.
func tasksFiles(groups map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if name != "" {
			out = append(out, groups[name]+"/tasks")
		}
	}
	return out
}

// dev fills /dev: nodes, the terminal multiplexer, links.
func (p *plan) dev(c *configs.Config) error {
	for _, d := range c.Devices {
		if d.Path == "" || path.Clean(d.Path) == "/dev/ptmx" {
			continue
		}
		kind := map[devices.Type]uint32{devices.CharDevice: unix.S_IFCHR, devices.BlockDevice: unix.S_IFBLK, devices.FifoDevice: unix.S_IFIFO}[d.Type]
		if kind == 0 || !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path {
			return errUncovered
		}
		p.op(opNode, d.Path, kind|uint32(d.FileMode), uint32(d.Major), uint32(d.Minor), d.Uid, d.Gid)
	}
	p.op(opUnlink, "/dev/ptmx")
	p.op(opLink, "pts/ptmx", "/dev/ptmx")
	links := [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}}
	if _, err := os.Stat("/proc/kcore"); err == nil {
		links = append(links, [2]string{"/proc/kcore", "/dev/core"})
	}
	for _, l := range links {
		p.op(opLink, l[0], l[1])
	}
	return nil
}

func (p *plan) console(ps *specs.Process, mount bool) {
	if !ps.Terminal {
		return
	}
	var rows, cols uint
	if s := ps.ConsoleSize; s != nil {
		rows, cols = s.Height, s.Width
	}
	p.op(opConsole, mount, uint32(rows), uint32(cols))
}

// process is the end of every plan: limits, filter, user, program. root is where the container's /etc/passwd is looked for.
func (p *plan) process(ps *specs.Process, f *program, root string, wait bool) error {
	for _, r := range ps.Rlimits {
		n, err := proc.Rlimit(r.Type)
		if err != nil {
			return err
		}
		p.op(opRlimit, n, r.Soft, r.Hard)
	}
	if ps.NoNewPrivileges {
		p.op(opNoNewPrivs)
	}
	// Without no_new_privs loading a filter is a privilege, so it comes before capabilities are dropped; otherwise it is the
	// last thing, so that it need not allow what happens in between.
	if f != nil && !ps.NoNewPrivileges {
		p.op(opSeccomp, f.flags, f.code)
	}
	caps, err := capabilitySets(ps.Capabilities)
	if err != nil {
		return err
	}
	args := []any{ps.Cwd, ps.User.UID, ps.User.GID, caps[0], caps[1], caps[2], caps[3], caps[4], len(ps.User.AdditionalGids)}
	for _, g := range ps.User.AdditionalGids {
		args = append(args, g)
	}
	p.op(opUser, args...)
	env, search, err := environment(ps.Env, root, ps.User.UID)
	switch {
	case err != nil && wait:
		return during(err)
	case err != nil:
		return starting(err)
	}
	p.op(opLookup, ps.Args[0], search)
	if f != nil && ps.NoNewPrivileges {
		p.op(opSeccomp, f.flags, f.code)
	}
	p.op(opWait, wait)
	p.op(opExec, ps.Args, env)
	return nil
}

// environment keeps the last of several values, as libcontainer does, and adds HOME if there is none.
func environment(in []string, root string, uid uint32) (env []string, search string, err error) {
	seen := map[string]bool{}
	for _, kv := range slices.Backward(in) {
		k, v, ok := strings.Cut(kv, "=")
		switch {
		case !ok:
			return nil, "", errors.New("invalid environment variable: missing '='")
		case k == "":
			return nil, "", errors.New("invalid environment variable: name cannot be empty")
		case seen[k]:
			continue
		case strings.IndexByte(kv, 0) >= 0:
			return nil, "", fmt.Errorf("invalid environment variable %q: contains nul byte (\\x00)", k)
		case k == "HOME" && v == "":
			continue
		case k == "PATH":
			search = v
		}
		seen[k] = true
		env = append(env, kv)
	}
	slices.Reverse(env)
	if !seen["HOME"] {
		env = append(env, "HOME="+home(root, uid))
	}
	return env, search, nil
}

// home reads /etc/passwd of the container; only a regular file inside its root counts.
func home(root string, uid uint32) string {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, "etc/passwd", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "/"
	}
	f := os.NewFile(uintptr(fd), "passwd")
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "/"
	}
	us, err := user.ParsePasswdFilter(io.LimitReader(f, 10<<20), func(u user.User) bool { return u.Uid == int(uid) })
	if err != nil || len(us) == 0 {
		return "/"
	}
	return us[0].Home
}
