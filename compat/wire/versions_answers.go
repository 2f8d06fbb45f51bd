package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	buildapi "github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	imageapi "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	volapi "github.com/docker/docker/api/types/volume"

	dnet "github.com/berthd/berth/engine/network"
)

func containerAnswers() []change {
	return []change{
		response(45, func(r *container.InspectResponse) *container.InspectResponse {
			for name, e := range r.NetworkSettings.Networks {
				if container.NetworkMode(name).IsUserDefined() && name != dnet.Bridge {
					e.Aliases = aliases(e.Aliases, r.ID[:12], r.Config.Hostname)
				}
			}
			return r
		}),
		response(48, func(r *container.InspectResponse) *container.InspectResponse {
			r.ImageManifestDescriptor = nil
			return r
		}),
		response(46, func(list []container.Summary) []container.Summary {
			for i := range list {
				list[i].HostConfig.Annotations = nil
			}
			return list
		}),
		response(48, func(list []container.Summary) []container.Summary {
			for i := range list {
				list[i].ImageManifestDescriptor = nil
			}
			return list
		}),
	}
}

// aliases adds names that are not there yet.
func aliases(have []string, more ...string) []string {
	out := slices.Clone(have)
	for _, m := range more {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

// ImageInspect is the long form of an image. Extra are fields of its configuration that old versions show empty.
type ImageInspect struct {
	imageapi.InspectResponse
	Config any
	Extra  map[string]any `json:"-"`
}

// MarshalJSON adds the extra fields to the configuration.
func (i ImageInspect) MarshalJSON() ([]byte, error) {
	type plain ImageInspect
	if len(i.Extra) == 0 {
		return marshal(plain(i))
	}
	raw, err := marshal(i.Config)
	if err != nil {
		return nil, err
	}
	var have map[string]json.RawMessage
	if err := json.Unmarshal(raw, &have); err != nil {
		return nil, err
	}
	merged := map[string]any{}
	for k, v := range i.Extra {
		merged[k] = v
	}
	for k, v := range have {
		merged[k] = v
	}
	i.Config = merged
	return marshal(plain(i))
}

// marshal is json.Marshal without HTML escaping, as every answer is written.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func imageAnswers() []change {
	return []change{
		response(44, func(i ImageInspect) ImageInspect {
			i.VirtualSize = i.Size //nolint:staticcheck // old clients read it
			if i.Created == "" {
				i.Created = time.Time{}.Format(time.RFC3339Nano)
			}
			return i
		}),
		response(48, func(i ImageInspect) ImageInspect {
			i.Descriptor = nil
			return i
		}),
		response(50, func(i ImageInspect) ImageInspect {
			i.Extra = map[string]any{
				"AttachStderr": false, "AttachStdin": false, "AttachStdout": false, "Cmd": nil, "Domainname": "", "Entrypoint": nil, "Env": nil, "Hostname": "",
				"Image": "", "Labels": nil, "OnBuild": nil, "OpenStdin": false, "StdinOnce": false, "Tty": false, "User": "", "Volumes": nil, "WorkingDir": "",
			}
			return i
		}),
		eachImage(43, func(i *imageapi.Summary) {
			if len(i.RepoTags) == 0 && len(i.RepoDigests) == 0 {
				i.RepoTags, i.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
			}
		}),
		eachImage(44, func(i *imageapi.Summary) { i.VirtualSize = i.Size }), //nolint:staticcheck // old clients read it
		eachImage(48, func(i *imageapi.Summary) { i.Descriptor = nil }),
		eachImage(51, func(i *imageapi.Summary) { i.Containers = -1 }),
	}
}

func eachImage(until int, f func(*imageapi.Summary)) change {
	return response(until, func(list []imageapi.Summary) []imageapi.Summary {
		for i := range list {
			f(&list[i])
		}
		return list
	})
}

// Info is the answer about the whole system. Bridge fields are shown by old versions alone, as false.
type Info struct {
	*system.Info
	BridgeNfIptables  *bool `json:",omitempty"`
	BridgeNfIp6tables *bool `json:",omitempty"`
}

// DiskUsage is what the disk is used for; what was not asked is absent.
type DiskUsage struct {
	LayersSize  *int64                 `json:",omitzero"`
	Images      []imageapi.Summary     `json:",omitzero"`
	Containers  []container.Summary    `json:",omitzero"`
	Volumes     []*volapi.Volume       `json:",omitzero"`
	BuildCache  []buildapi.CacheRecord `json:",omitzero"`
	BuilderSize *int64                 `json:",omitzero"`
}

func systemAnswers() []change {
	return []change{
		response(25, func(i Info) Info {
			for k, o := range i.SecurityOptions {
				name, _, _ := strings.Cut(o, ",")
				i.SecurityOptions[k] = strings.TrimPrefix(name, "name=")
			}
			return i
		}),
		response(44, func(i Info) Info {
			for k, r := range i.Runtimes {
				i.Runtimes[k] = system.RuntimeWithStatus{Runtime: r.Runtime}
			}
			return i
		}),
		response(46, func(i Info) Info {
			i.Containerd = nil
			return i
		}),
		response(47, func(i Info) Info { // no values any more, but clients look
			i.RegistryConfig.ExtraFields = map[string]any{"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil}
			return i
		}),
		response(49, func(i Info) Info {
			i.FirewallBackend = nil
			for _, c := range []*system.Commit{&i.ContainerdCommit, &i.RuncCommit, &i.InitCommit} {
				c.Expected = c.ID //nolint:staticcheck // old clients read it
			}
			return i
		}),
		response(50, func(i Info) Info {
			no := false
			i.DiscoveredDevices, i.BridgeNfIptables, i.BridgeNfIp6tables = nil, &no, &no
			return i
		}),
		response(48, func(d DiskUsage) DiskUsage {
			for i := range d.Images {
				d.Images[i].Descriptor = nil
			}
			return d
		}),
		response(44, func(d DiskUsage) DiskUsage {
			for i := range d.Images {
				d.Images[i].VirtualSize = d.Images[i].Size //nolint:staticcheck // old clients read it
			}
			return d
		}),
		response(42, func(d DiskUsage) DiskUsage {
			d.BuilderSize = new(int64)
			for i := range d.BuildCache {
				*d.BuilderSize += d.BuildCache[i].Size
				d.BuildCache[i].Parents = nil
			}
			return d
		}),
	}
}
