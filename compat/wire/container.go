package wire

import (
	"os"
	"strings"
	"time"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"

	domain "github.com/berthd/berth/engine/container"
	dnet "github.com/berthd/berth/engine/network"
)

// ToSpec converts a create request. Values are taken as they are; the engine merges and validates.
func ToSpec(r *container.CreateRequest, platform string) (*domain.Spec, error) {
	c, h := r.Config, r.HostConfig
	if c == nil {
		return nil, Invalid("config cannot be empty in order to create a container")
	}
	if err := checkCreate(r); err != nil {
		return nil, err
	}
	if h == nil {
		h = &container.HostConfig{}
	}
	s := &domain.Spec{
		Image: domain.ImageRef{Ref: c.Image}, Platform: platform, Hostname: c.Hostname, Domainname: c.Domainname, Labels: c.Labels,
		Process: domain.Process{
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, TTY: c.Tty, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce,
			AttachStdin: c.AttachStdin, AttachStdout: c.AttachStdout, AttachStderr: c.AttachStderr, ConsoleSize: h.ConsoleSize, ArgsEscaped: c.ArgsEscaped, Shell: c.Shell, OnBuild: c.OnBuild,
		},
		Namespaces: domain.Namespaces{IPC: string(h.IpcMode), PID: string(h.PidMode), UTS: string(h.UTSMode), User: string(h.UsernsMode), Cgroup: string(h.CgroupnsMode)},
		Security: domain.Security{
			Privileged: h.Privileged, CapAdd: h.CapAdd, CapDrop: h.CapDrop, SecurityOpt: h.SecurityOpt, GroupAdd: h.GroupAdd, ReadonlyRootfs: h.ReadonlyRootfs,
			MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths, Sysctls: h.Sysctls,
		},
		Storage: domain.Storage{Binds: h.Binds, Tmpfs: h.Tmpfs, Volumes: emptyNil(c.Volumes), VolumesFrom: h.VolumesFrom, VolumeDriver: h.VolumeDriver, StorageOpt: h.StorageOpt, ShmSize: h.ShmSize},
		Network: domain.NetworkSpec{
			Mode: string(h.NetworkMode), PublishAll: h.PublishAllPorts, DNS: h.DNS, DNSOptions: h.DNSOptions, DNSSearch: h.DNSSearch, ExtraHosts: h.ExtraHosts, Links: orNil(h.Links),
			MacAddress: c.MacAddress, Disabled: c.NetworkDisabled, Attachments: map[string]dnet.Attachment{},
		},
		Log:        domain.LogSpec{Driver: h.LogConfig.Type, Options: h.LogConfig.Config},
		Restart:    domain.RestartPolicy{Name: string(h.RestartPolicy.Name), MaxRetries: h.RestartPolicy.MaximumRetryCount},
		Stop:       domain.StopPolicy{Signal: c.StopSignal, Timeout: c.StopTimeout},
		AutoRemove: h.AutoRemove, Init: h.Init, Runtime: h.Runtime, Annotations: h.Annotations, ContainerIDFile: h.ContainerIDFile, Isolation: string(h.Isolation), Cgroup: string(h.Cgroup),
	}
	if k := c.Healthcheck; k != nil {
		s.Health = &domain.Healthcheck{Test: k.Test, Interval: k.Interval, Timeout: k.Timeout, StartPeriod: k.StartPeriod, StartInterval: k.StartInterval, Retries: k.Retries}
	}
	s.Resources = Resources(&h.Resources)
	s.Resources.OomScoreAdj = h.OomScoreAdj
	if c.ExposedPorts != nil {
		s.Network.ExposedPorts = map[string]struct{}{}
	}
	for p := range c.ExposedPorts {
		s.Network.ExposedPorts[port(p)] = struct{}{}
	}
	if h.PortBindings != nil {
		s.Network.PortBindings = map[string][]domain.PortBinding{}
	}
	for p, bs := range h.PortBindings {
		if len(bs) == 0 {
			bs = []nat.PortBinding{{}}
		}
		for _, b := range bs {
			s.Network.PortBindings[port(p)] = append(s.Network.PortBindings[port(p)], domain.PortBinding{HostIP: b.HostIP, HostPort: b.HostPort})
		}
	}
	for _, m := range h.Mounts {
		s.Storage.Mounts = append(s.Storage.Mounts, toMount(m))
	}
	if r.NetworkingConfig != nil {
		for name, e := range r.NetworkingConfig.EndpointsConfig {
			if name == "default" {
				name = dnet.Bridge
			}
			a, err := Attachment(e)
			if err != nil {
				return nil, err
			}
			s.Network.Attachments[name] = a
		}
	}
	return s, nil
}

// orNil and emptyNil forget an empty list or map where dockerd does not keep it.
func orNil(l []string) []string {
	if len(l) == 0 {
		return nil
	}
	return l
}

func emptyNil(m map[string]struct{}) map[string]struct{} {
	if len(m) == 0 {
		return nil
	}
	return m
}

func port(p nat.Port) string {
	if !strings.Contains(string(p), "/") {
		return string(p) + "/tcp"
	}
	return string(p)
}

// Resources converts limits.
func Resources(r *container.Resources) domain.Resources {
	out := domain.Resources{
		CPUShares: r.CPUShares, NanoCPUs: r.NanoCPUs, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CPURealtimePeriod: r.CPURealtimePeriod,
		CPURealtimeRuntime: r.CPURealtimeRuntime, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems, Memory: r.Memory, MemoryReservation: r.MemoryReservation,
		MemorySwap: r.MemorySwap, MemorySwappiness: r.MemorySwappiness, KernelMemory: r.KernelMemory, KernelMemoryTCP: r.KernelMemoryTCP, OomKillDisable: r.OomKillDisable,
		PidsLimit: r.PidsLimit, BlkioWeight: r.BlkioWeight, DeviceCgroupRules: r.DeviceCgroupRules, CgroupParent: r.CgroupParent,
		CPUCount: r.CPUCount, CPUPercent: r.CPUPercent, IOMaximumIOps: r.IOMaximumIOps, IOMaximumBandwidth: r.IOMaximumBandwidth,
	}
	if r.BlkioWeightDevice != nil {
		out.BlkioWeightDevice = []domain.WeightDevice{}
	}
	for _, d := range r.BlkioWeightDevice {
		if d == nil {
			continue // null says nothing
		}
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, domain.WeightDevice{Path: d.Path, Weight: d.Weight})
	}
	throttle := func(in []*blkiodev.ThrottleDevice) []domain.ThrottleDevice {
		if in == nil {
			return nil
		}
		out := []domain.ThrottleDevice{}
		for _, d := range in {
			if d == nil {
				continue // null says nothing
			}
			out = append(out, domain.ThrottleDevice{Path: d.Path, Rate: d.Rate})
		}
		return out
	}
	out.BlkioDeviceReadBps, out.BlkioDeviceWriteBps = throttle(r.BlkioDeviceReadBps), throttle(r.BlkioDeviceWriteBps)
	out.BlkioDeviceReadIOps, out.BlkioDeviceWriteIOps = throttle(r.BlkioDeviceReadIOps), throttle(r.BlkioDeviceWriteIOps)
	if r.Devices != nil {
		out.Devices = []domain.Device{}
	}
	for _, d := range r.Devices {
		out.Devices = append(out.Devices, domain.Device{HostPath: d.PathOnHost, ContainerPath: d.PathInContainer, Permissions: d.CgroupPermissions})
	}
	for _, d := range r.DeviceRequests {
		out.DeviceRequests = append(out.DeviceRequests, domain.DeviceRequest(d))
	}
	if r.Ulimits != nil {
		out.Ulimits = []domain.Ulimit{}
	}
	for _, u := range r.Ulimits {
		if u == nil {
			continue // as above
		}
		out.Ulimits = append(out.Ulimits, domain.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out
}

func toMount(m mount.Mount) domain.MountRequest {
	out := domain.MountRequest{Type: string(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Consistency: string(m.Consistency), Cluster: m.ClusterOptions != nil}
	if b := m.BindOptions; b != nil {
		out.Bind = &domain.BindOptions{Propagation: string(b.Propagation), NonRecursive: b.NonRecursive, CreateMountpoint: b.CreateMountpoint, ReadOnlyNonRecursive: b.ReadOnlyNonRecursive, ReadOnlyForceRecursive: b.ReadOnlyForceRecursive}
	}
	if v := m.VolumeOptions; v != nil {
		out.Volume = &domain.VolumeOptions{NoCopy: v.NoCopy, Labels: v.Labels, Subpath: v.Subpath}
		if v.DriverConfig != nil {
			out.Volume.HasDriver, out.Volume.DriverName, out.Volume.DriverOptions = true, v.DriverConfig.Name, v.DriverConfig.Options
		}
	}
	if t := m.TmpfsOptions; t != nil {
		out.Tmpfs = &domain.TmpfsOptions{SizeBytes: t.SizeBytes, Mode: uint32(t.Mode), Options: t.Options}
	}
	if i := m.ImageOptions; i != nil {
		out.Image = &domain.ImageMountOptions{Subpath: i.Subpath}
	}
	return out
}

// HostConfig is the inverse of ToSpec for the host part.
func HostConfig(s *domain.Spec) *container.HostConfig {
	n, k, st := s.Network, s.Security, s.Storage
	h := &container.HostConfig{
		Binds: st.Binds, ContainerIDFile: s.ContainerIDFile, LogConfig: container.LogConfig{Type: s.Log.Driver, Config: s.Log.Options}, NetworkMode: container.NetworkMode(n.Mode),
		PortBindings: nat.PortMap{}, RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(s.Restart.Name), MaximumRetryCount: s.Restart.MaxRetries},
		AutoRemove: s.AutoRemove, VolumeDriver: st.VolumeDriver, VolumesFrom: st.VolumesFrom, ConsoleSize: s.Process.ConsoleSize, Annotations: s.Annotations,
		CapAdd: strslice.StrSlice(k.CapAdd), CapDrop: strslice.StrSlice(k.CapDrop), CgroupnsMode: container.CgroupnsMode(s.Namespaces.Cgroup), DNS: n.DNS, DNSOptions: n.DNSOptions, DNSSearch: n.DNSSearch,
		ExtraHosts: n.ExtraHosts, GroupAdd: k.GroupAdd, IpcMode: container.IpcMode(s.Namespaces.IPC), Cgroup: container.CgroupSpec(s.Cgroup), Links: n.Links, OomScoreAdj: s.Resources.OomScoreAdj,
		PidMode: container.PidMode(s.Namespaces.PID), Privileged: k.Privileged, PublishAllPorts: n.PublishAll, ReadonlyRootfs: k.ReadonlyRootfs, SecurityOpt: k.SecurityOpt, StorageOpt: st.StorageOpt,
		Tmpfs: st.Tmpfs, UTSMode: container.UTSMode(s.Namespaces.UTS), UsernsMode: container.UsernsMode(s.Namespaces.User), ShmSize: st.ShmSize, Sysctls: k.Sysctls, Runtime: s.Runtime,
		Isolation: container.Isolation(s.Isolation), MaskedPaths: k.MaskedPaths, ReadonlyPaths: k.ReadonlyPaths, Init: s.Init, Resources: fromResources(&s.Resources),
	}
	for p, bs := range n.PortBindings {
		for _, b := range bs {
			h.PortBindings[nat.Port(p)] = append(h.PortBindings[nat.Port(p)], nat.PortBinding{HostIP: b.HostIP, HostPort: b.HostPort})
		}
	}
	for _, m := range st.Mounts {
		h.Mounts = append(h.Mounts, fromMount(m))
	}
	return h
}

func fromResources(r *domain.Resources) container.Resources {
	out := container.Resources{
		CPUShares: r.CPUShares, NanoCPUs: r.NanoCPUs, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CPURealtimePeriod: r.CPURealtimePeriod,
		CPURealtimeRuntime: r.CPURealtimeRuntime, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems, Memory: r.Memory, MemoryReservation: r.MemoryReservation,
		MemorySwap: r.MemorySwap, MemorySwappiness: r.MemorySwappiness, KernelMemory: r.KernelMemory, KernelMemoryTCP: r.KernelMemoryTCP, OomKillDisable: r.OomKillDisable,
		PidsLimit: r.PidsLimit, BlkioWeight: r.BlkioWeight, DeviceCgroupRules: r.DeviceCgroupRules, CgroupParent: r.CgroupParent,
		CPUCount: r.CPUCount, CPUPercent: r.CPUPercent, IOMaximumIOps: r.IOMaximumIOps, IOMaximumBandwidth: r.IOMaximumBandwidth,
	}
	if r.BlkioWeightDevice != nil {
		out.BlkioWeightDevice = []*blkiodev.WeightDevice{}
	}
	for _, d := range r.BlkioWeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, &blkiodev.WeightDevice{Path: d.Path, Weight: d.Weight})
	}
	throttle := func(in []domain.ThrottleDevice) []*blkiodev.ThrottleDevice {
		if in == nil {
			return nil
		}
		out := []*blkiodev.ThrottleDevice{}
		for _, d := range in {
			out = append(out, &blkiodev.ThrottleDevice{Path: d.Path, Rate: d.Rate})
		}
		return out
	}
	out.BlkioDeviceReadBps, out.BlkioDeviceWriteBps = throttle(r.BlkioDeviceReadBps), throttle(r.BlkioDeviceWriteBps)
	out.BlkioDeviceReadIOps, out.BlkioDeviceWriteIOps = throttle(r.BlkioDeviceReadIOps), throttle(r.BlkioDeviceWriteIOps)
	if r.Devices != nil {
		out.Devices = []container.DeviceMapping{}
	}
	for _, d := range r.Devices {
		out.Devices = append(out.Devices, container.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: d.ContainerPath, CgroupPermissions: d.Permissions})
	}
	for _, d := range r.DeviceRequests {
		out.DeviceRequests = append(out.DeviceRequests, container.DeviceRequest(d))
	}
	if r.Ulimits != nil {
		out.Ulimits = []*units.Ulimit{}
	}
	for _, u := range r.Ulimits {
		out.Ulimits = append(out.Ulimits, &units.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out
}

func fromMount(m domain.MountRequest) mount.Mount {
	out := mount.Mount{Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Consistency: mount.Consistency(m.Consistency)}
	if b := m.Bind; b != nil {
		out.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(b.Propagation), NonRecursive: b.NonRecursive, CreateMountpoint: b.CreateMountpoint, ReadOnlyNonRecursive: b.ReadOnlyNonRecursive, ReadOnlyForceRecursive: b.ReadOnlyForceRecursive}
	}
	if t := m.Tmpfs; t != nil {
		out.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: t.SizeBytes, Mode: os.FileMode(t.Mode), Options: t.Options}
	}
	if i := m.Image; i != nil {
		out.ImageOptions = &mount.ImageOptions{Subpath: i.Subpath}
	}
	if v := m.Volume; v != nil {
		out.VolumeOptions = &mount.VolumeOptions{NoCopy: v.NoCopy, Labels: v.Labels, Subpath: v.Subpath}
		if v.HasDriver {
			out.VolumeOptions.DriverConfig = &mount.Driver{Name: v.DriverName, Options: v.DriverOptions}
		}
	}
	return out
}

// Config shows the container's own configuration.
func Config(s *domain.Spec) *container.Config {
	p := s.Process
	c := &container.Config{
		Hostname: s.Hostname, Domainname: s.Domainname, User: p.User, AttachStdin: p.AttachStdin, AttachStdout: p.AttachStdout, AttachStderr: p.AttachStderr,
		Tty: p.TTY, OpenStdin: p.OpenStdin, StdinOnce: p.StdinOnce, Env: p.Env, Cmd: p.Cmd, ArgsEscaped: p.ArgsEscaped, Image: s.Image.Ref, Volumes: s.Storage.Volumes,
		WorkingDir: p.WorkingDir, Entrypoint: p.Entrypoint, NetworkDisabled: s.Network.Disabled, MacAddress: s.Network.MacAddress, OnBuild: p.OnBuild, Labels: s.Labels,
		StopSignal: s.Stop.Signal, StopTimeout: s.Stop.Timeout, Shell: p.Shell,
	}
	if c.Env == nil {
		c.Env = []string{}
	}
	for e := range s.Network.ExposedPorts {
		if c.ExposedPorts == nil {
			c.ExposedPorts = nat.PortSet{}
		}
		c.ExposedPorts[nat.Port(e)] = struct{}{}
	}
	if k := s.Health; k != nil {
		c.Healthcheck = &container.HealthConfig{Test: k.Test, Interval: k.Interval, Timeout: k.Timeout, StartPeriod: k.StartPeriod, StartInterval: k.StartInterval, Retries: k.Retries}
	}
	return c
}

// stamp is how inspect writes times; the zero time included.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
