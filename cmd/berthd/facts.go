package main

import (
	"context"
	"debug/buildinfo"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/cmd/internal/version"
	"github.com/berthd/berth/compat"
	"github.com/berthd/berth/engine"
)

// facts gathers what does not change once; the rest when asked.
func (d *running) facts() func() compat.Info {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail
	var si unix.Sysinfo_t
	_ = unix.Sysinfo(&si) // cannot fail
	osName, osVersion := distribution("/etc/os-release")
	base := compat.Info{
		ID: d.engine.ID, Kernel: unix.ByteSliceToString(u.Release[:]), OS: osName, OSVersion: osVersion, Arch: unix.ByteSliceToString(u.Machine[:]), CPUs: runtime.NumCPU(),
		Memory: int64(si.Totalram) * int64(si.Unit), Commit: version.Commit, GoVersion: runtime.Version(), InitBinary: "docker-init",
		HTTPProxy: proxy("HTTP_PROXY"), HTTPSProxy: proxy("HTTPS_PROXY"), NoProxy: proxy("NO_PROXY"),
	}
	components := sync.OnceValue(d.components) // looked up when somebody asks
	return func() compat.Info {
		c, e := d.config.Load(), d.engine.Info()
		i := base
		i.Name, _ = os.Hostname() // "" is shown
		i.Root, i.Debug, i.LiveRestore, i.Labels, i.InsecureRegistries, i.Mirrors = c.DataRoot, c.Debug, e.LiveRestore, c.Labels, c.Insecure, c.Mirrors
		i.Goroutines = runtime.NumGoroutine()
		if ents, err := os.ReadDir("/proc/self/fd"); err == nil {
			i.Files = len(ents)
		}
		i.CgroupVersion = "1"
		if e.CgroupV2 {
			i.CgroupVersion = "2"
		}
		i.LogDriver, i.DefaultRuntime = e.LogDriver, e.DefaultRuntime
		i.MemoryLimit, i.SwapLimit, i.OomKillDisable, i.CPUShares, i.CPUQuota = e.MemoryLimit, e.SwapLimit, e.OomKillDisable, e.CPUShares, e.CPUQuota
		i.CPUSet, i.PidsLimit, i.Forwarding = e.CPUSet, e.PidsLimit, e.IPv4Forwarding
		if c.IPTables {
			i.Firewall = "nftables"
		}
		i.Runtimes = map[string][]string{"runc": {"runc"}}
		for name, r := range e.Runtimes {
			i.Runtimes[name] = append([]string{r.Path}, r.Args...)
		}
		i.SecurityOptions = securityOptions(e, c.NoNewPrivileges)
		i.Warnings = append(openDoorWarnings(c.Hosts, c.TLS, c.TLSVerify), e.Warnings...)
		for _, p := range c.Pools {
			i.Pools = append(i.Pools, compat.Pool{Base: p.Base.String(), Size: p.Size})
		}
		i.Components = components()
		return i
	}
}

func securityOptions(e engine.Info, noNewPrivileges bool) []string {
	var out []string
	if e.AppArmor {
		out = append(out, "name=apparmor")
	}
	out = append(out, "name=seccomp,profile="+e.Seccomp)
	if e.CgroupV2 {
		out = append(out, "name=cgroupns")
	}
	if noNewPrivileges {
		out = append(out, "name=no-new-privileges")
	}
	return out
}

// openDoorWarnings names the addresses at which strangers can come in.
func openDoorWarnings(hosts []string, tls, verify bool) []string {
	var out []string
	for _, h := range hosts {
		addr, ok := strings.CutPrefix(h, "tcp://")
		switch {
		case !ok || verify:
		case tls:
			out = append(out, "WARNING: API is accessible on https://"+addr+" without TLS client verification.")
		default:
			out = append(out, "WARNING: API is accessible on http://"+addr+" without encryption.")
		}
	}
	return out
}

// distribution reads the name and version of the system.
func distribution(file string) (name, version string) {
	name = "Linux"
	b, _ := os.ReadFile(file) // without it, it has no name
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "PRETTY_NAME":
			name = v
		case "VERSION_ID":
			version = v
		}
	}
	return name, version
}

// proxy is an environment variable without the password that its URL may hold.
func proxy(name string) string {
	v := os.Getenv(name)
	if v == "" {
		v = os.Getenv(strings.ToLower(name))
	}
	u, err := url.Parse(v)
	if err != nil || u.User == nil {
		return v
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}

// components are the libraries that do the work of dockerd's helpers, and the init program of containers.
func (d *running) components() []compat.Component {
	var out []compat.Component
	find := func(mods []*debug.Module, path, name string) {
		for _, m := range mods {
			if m.Path == path {
				out = append(out, compat.Component{Name: name, Version: strings.TrimPrefix(m.Version, "v")})
			}
		}
	}
	if bi, ok := debug.ReadBuildInfo(); ok {
		find(bi.Deps, "github.com/containerd/containerd/v2", "containerd")
	}
	if self, err := os.Executable(); err == nil {
		if bi, err := buildinfo.ReadFile(filepath.Join(filepath.Dir(self), "berth-shim")); err == nil {
			find(bi.Deps, "github.com/opencontainers/runc", "runc")
		}
	}
	if p := d.engine.Info().InitProgram; p != "" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b, _ := exec.CommandContext(ctx, p, "--version").Output() // it may be another program
		if m := regexp.MustCompile(`version (\d[\w.]*)`).FindSubmatch(b); m != nil {
			out = append(out, compat.Component{Name: "docker-init", Version: string(m[1])})
		}
	}
	return out
}
