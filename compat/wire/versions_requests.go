package wire

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	netapi "github.com/docker/docker/api/types/network"
)

// host is a change of the host part of a create request.
func host(until int, f func(*container.HostConfig)) change {
	return request(until, func(r *container.CreateRequest) {
		if r.HostConfig != nil {
			f(r.HostConfig)
		}
	})
}

// eachMount is a change of each mount of a create request.
func eachMount(until int, f func(*mount.Mount) error) change {
	return checked(until, func(r *container.CreateRequest) error {
		if r.HostConfig == nil {
			return nil
		}
		for i := range r.HostConfig.Mounts {
			if err := f(&r.HostConfig.Mounts[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func endpoints(r *container.CreateRequest) map[string]*netapi.EndpointSettings {
	if r.NetworkingConfig == nil {
		return nil
	}
	return r.NetworkingConfig.EndpointsConfig
}

// raises are the changes of requests, oldest last within a subject.
func raises() []change {
	return []change{
		host(25, func(h *container.HostConfig) { h.AutoRemove = false }), // the client removed it
		host(40, func(h *container.HostConfig) { h.KernelMemoryTCP = 0 }),
		host(42, func(h *container.HostConfig) { h.ConsoleSize = [2]uint{} }),
		host(always, func(h *container.HostConfig) { h.KernelMemory = 0 }).from(42),
		host(43, func(h *container.HostConfig) { h.Annotations = nil }),

		eachMount(40, func(m *mount.Mount) error {
			if m.BindOptions != nil {
				m.BindOptions.NonRecursive = false
			}
			return nil
		}),
		eachMount(42, func(m *mount.Mount) error { // options of another type were not looked at
			if m.BindOptions != nil {
				m.BindOptions.CreateMountpoint = false
			}
			if m.Type != mount.TypeVolume {
				m.VolumeOptions = nil
			}
			if m.Type != mount.TypeTmpfs {
				m.TmpfsOptions = nil
			}
			return nil
		}),
		eachMount(always, func(m *mount.Mount) error {
			switch {
			case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
				return Invalid("VolumeOptions must not be specified on mount type %q", string(m.Type))
			case m.BindOptions != nil && m.Type != mount.TypeBind:
				return Invalid("BindOptions must not be specified on mount type %q", string(m.Type))
			case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
				return Invalid("TmpfsOptions must not be specified on mount type %q", string(m.Type))
			}
			return nil
		}).from(42),
		eachMount(44, func(m *mount.Mount) error {
			if m.Type == mount.TypeBind && m.BindOptions != nil && m.BindOptions.ReadOnlyForceRecursive {
				return Invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
			}
			return nil
		}),
		eachMount(45, func(m *mount.Mount) error {
			if m.VolumeOptions != nil && m.VolumeOptions.Subpath != "" {
				return Invalid("VolumeOptions.Subpath needs API v1.45 or newer")
			}
			return nil
		}),
		eachMount(48, func(m *mount.Mount) error {
			if m.Type == mount.TypeImage {
				return Invalid(`Mount type "Image" needs API v1.48 or newer`)
			}
			return nil
		}),

		request(44, func(r *container.CreateRequest) {
			if r.Config != nil && r.Healthcheck != nil {
				r.Healthcheck.StartInterval = 0
			}
		}),
		checked(44, func(r *container.CreateRequest) error {
			if eps := endpoints(r); len(eps) > 1 {
				return Invalid("Container cannot be created with multiple network endpoints: %s", strings.Join(slices.Sorted(maps.Keys(eps)), ", "))
			}
			return nil
		}),
		request(44, func(r *container.CreateRequest) { // the container's own address counted alone
			for _, e := range endpoints(r) {
				if e != nil && r.Config != nil && r.MacAddress == "" { //nolint:staticcheck // read for old clients
					e.MacAddress = ""
				}
			}
		}),
		request(48, func(r *container.CreateRequest) {
			for _, e := range endpoints(r) {
				if e != nil {
					e.GwPriority = 0
				}
			}
		}),
		{since: 48, until: always, of: reflect.TypeFor[*container.CreateRequest](), raise: func(v any) (string, error) {
			return volumeDriverWarning(v.(*container.CreateRequest)), nil
		}},

		request(40, func(r *container.UpdateConfig) { r.PidsLimit = nil }),
		request(always, func(r *container.UpdateConfig) { r.KernelMemory = 0 }).from(42),
		request(42, func(r *container.ExecOptions) { r.ConsoleSize = nil }),
		request(42, func(r *container.ExecStartOptions) { r.ConsoleSize = nil }),
	}
}

// volumeDriverWarning tells that a container's own volume driver does not count for what Mounts names.
func volumeDriverWarning(r *container.CreateRequest) string {
	if r.HostConfig == nil || r.HostConfig.VolumeDriver == "" {
		return ""
	}
	for _, m := range r.HostConfig.Mounts {
		named := m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil && m.VolumeOptions.DriverConfig.Name != ""
		if m.Type == mount.TypeVolume && !named {
			return "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead"
		}
	}
	return ""
}
