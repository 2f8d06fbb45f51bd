package compat

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"

	"github.com/berthd/berth/compat/wire"
	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/logs"
	"github.com/berthd/berth/engine/logs/drivers"
)

// Component is a part with a version of its own.
type Component struct{ Name, Version string }

// Pool is a range that subnets of a size are cut from.
type Pool struct {
	Base string
	Size int
}

// Info is what the host and the daemon are.
type Info struct {
	ID, Name, Root, Kernel, OS, OSVersion, Arch        string
	CPUs                                               int
	Memory                                             int64
	Commit, GoVersion                                  string
	LiveRestore, Debug                                 bool
	Goroutines, Files                                  int
	InsecureRegistries, Mirrors, Labels                []string
	HTTPProxy, HTTPSProxy, NoProxy                     string
	CgroupVersion, LogDriver, InitBinary               string
	MemoryLimit, SwapLimit, OomKillDisable             bool
	CPUShares, CPUQuota, CPUSet, PidsLimit, Forwarding bool
	Firewall                                           string              // "" if no rules are set
	Runtimes                                           map[string][]string // path and arguments
	DefaultRuntime                                     string
	SecurityOptions, Warnings                          []string
	Pools                                              []Pool
	// Components beside the engine itself: containerd, runc and docker-init.
	Components []Component
}

func (i *Info) component(name string) string {
	for _, c := range i.Components {
		if c.Name == name {
			return c.Version
		}
	}
	return ""
}

func (s *Server) builderVersion() string {
	if s.Build == nil || s.ClassicBuild.Load() {
		return "1"
	}
	return "2"
}

func (s *Server) version(*Ctx) (any, error) {
	i := s.System()
	arch := cmp.Or(map[string]string{"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}[i.Arch], i.Arch)
	type component struct {
		Name, Version string
		Details       map[string]string
	}
	cs := []component{{"Engine", s.Version, map[string]string{
		"ApiVersion": MaxVersion, "Arch": arch, "BuildTime": "", "Experimental": strconv.FormatBool(s.Experimental), "GitCommit": i.Commit, "GoVersion": i.GoVersion,
		"KernelVersion": i.Kernel, "MinAPIVersion": MinVersion, "Os": "linux",
	}}}
	for _, c := range i.Components {
		cs = append(cs, component{c.Name, c.Version, map[string]string{"GitCommit": ""}})
	}
	return struct {
		Platform      struct{ Name string }
		Components    []component
		Version       string
		APIVersion    string `json:"ApiVersion"`
		MinAPIVersion string
		GitCommit     string
		GoVersion     string
		Os            string
		Arch          string
		KernelVersion string
		Experimental  bool `json:",omitempty"`
		BuildTime     string
	}{struct{ Name string }{"berth"}, cs, s.Version, MaxVersion, MinVersion, i.Commit, i.GoVersion, "linux", arch, i.Kernel, s.Experimental, ""}, nil
}

func (s *Server) info(c *Ctx) (any, error) {
	i := s.System()
	out := &system.Info{
		ID: i.ID, Plugins: system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: logDriverNames()},
		MemoryLimit: i.MemoryLimit, SwapLimit: i.SwapLimit, CPUCfsPeriod: i.CPUQuota, CPUCfsQuota: i.CPUQuota, CPUShares: i.CPUShares, CPUSet: i.CPUSet, PidsLimit: i.PidsLimit,
		IPv4Forwarding: i.Forwarding, OomKillDisable: i.OomKillDisable, Debug: i.Debug, NFd: i.Files, NGoroutines: i.Goroutines, NEventsListener: s.Events.Listeners(), SystemTime: time.Now().UTC().Format(time.RFC3339Nano),
		LoggingDriver: i.LogDriver, CgroupDriver: "cgroupfs", CgroupVersion: i.CgroupVersion, KernelVersion: i.Kernel, OperatingSystem: i.OS, OSVersion: i.OSVersion, OSType: "linux",
		Architecture: i.Arch, IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: registries(i.InsecureRegistries, i.Mirrors), NCPU: i.CPUs, MemTotal: i.Memory, DockerRootDir: i.Root,
		HTTPProxy: i.HTTPProxy, HTTPSProxy: i.HTTPSProxy, NoProxy: i.NoProxy, Name: i.Name, Labels: append([]string{}, i.Labels...), ExperimentalBuild: s.Experimental, ServerVersion: s.Version,
		Runtimes: map[string]system.RuntimeWithStatus{}, DefaultRuntime: i.DefaultRuntime, Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, LiveRestoreEnabled: i.LiveRestore,
		InitBinary: i.InitBinary, ContainerdCommit: system.Commit{ID: i.component("containerd")}, RuncCommit: system.Commit{ID: i.component("runc")},
		SecurityOptions: slices.Clone(i.SecurityOptions), CDISpecDirs: []string{}, Warnings: i.Warnings,
	}
	for _, p := range i.Pools {
		out.DefaultAddressPools = append(out.DefaultAddressPools, system.NetworkAddressPool(p))
	}
	for name, argv := range i.Runtimes {
		out.Runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: argv[0], Args: argv[1:]}}
	}
	if i.Firewall != "" {
		out.FirewallBackend = &system.FirewallInfo{Driver: i.Firewall}
	}
	for _, sn := range s.Containers.List() {
		out.Containers++
		switch sn.State.Phase {
		case container.Running:
			out.ContainersRunning++
		case container.Paused:
			out.ContainersPaused++
		default:
			out.ContainersStopped++
		}
	}
	imgs, err := s.Images.List(c.Context(), image.ListOptions{})
	if err != nil {
		return nil, err
	}
	out.Images = len(imgs)
	out.Driver, out.DriverStatus = s.Images.Driver()
	return wire.Info{Info: out}, nil
}

// registries shows whom the engine trusts without TLS, and who stands in for Docker Hub. The loopback is always trusted.
func registries(insecure, mirrors []string) *registry.ServiceConfig {
	out := &registry.ServiceConfig{Mirrors: append([]string{}, mirrors...), IndexConfigs: map[string]*registry.IndexInfo{
		"docker.io": {Name: "docker.io", Mirrors: append([]string{}, mirrors...), Secure: true, Official: true},
	}}
	seen := map[string]bool{}
	for _, r := range slices.Concat(insecure, []string{"::1/128", "127.0.0.0/8"}) {
		_, n, err := net.ParseCIDR(r)
		switch {
		case err != nil:
			out.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
		case !seen[n.String()]:
			seen[n.String()] = true
			out.InsecureRegistryCIDRs = append(out.InsecureRegistryCIDRs, (*registry.NetIPNet)(n))
		}
	}
	return out
}

func logDriverNames() []string {
	names := append(drivers.Names(), logs.JSONFile, logs.Local)
	slices.Sort(names)
	return names
}
