package wire

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/storage"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	domain "github.com/berthd/berth/engine/container"
)

// Facts are what an inspect shows beside the snapshot itself.
type Facts struct {
	Driver  string // of storage
	Dir     string // the container's own directory
	LogPath string
	ExecIDs []string
	// Bytes of the container's own files and of all it sees; nil if they were not asked for.
	SizeRw, SizeRootFs *int64
	Links              []string // as inspect writes them
}

// Phase is what a container's phase shows as: Starting as what was before.
func Phase(s *domain.Snapshot) domain.Phase { return statusWord(&s.State) }

func statusWord(s *domain.State) domain.Phase {
	if s.Phase == domain.Starting {
		return s.Before
	}
	return s.Phase
}

// Inspect is the long form of a container.
func Inspect(s *domain.Snapshot, f Facts) *container.InspectResponse {
	word := statusWord(&s.State)
	argv := s.Spec.Process.Argv()
	st := &container.State{
		Status: string(word), Running: word.Live() || word == domain.Restarting, Paused: word == domain.Paused, Restarting: word == domain.Restarting,
		Dead: word == domain.Dead, Pid: s.State.Pid, ExitCode: s.State.ExitCode(), Error: s.State.Error, StartedAt: stamp(s.State.StartedAt), FinishedAt: stamp(s.State.FinishedAt),
	}
	if h := s.State.Health; h != nil {
		st.Health = health(h)
	}
	if s.State.Exit != nil {
		st.OOMKilled = s.State.Exit.OOMKilled
	}
	base := &container.ContainerJSONBase{
		ID: string(s.ID), Created: stamp(s.Created), Path: argv[0], Args: argv[1:], State: st, Image: s.Spec.Image.ID, Name: "/" + s.Name, RestartCount: s.State.RestartCount,
		Driver: f.Driver, Platform: "linux", HostConfig: HostConfig(s.Spec), ExecIDs: f.ExecIDs, SizeRw: f.SizeRw, SizeRootFs: f.SizeRootFs, GraphDriver: storage.DriverData{Name: f.Driver},
	}
	base.HostConfig.Links = f.Links
	if !s.State.StartedAt.IsZero() {
		base.ResolvConfPath, base.HostnamePath, base.HostsPath = f.Dir+"/resolv.conf", f.Dir+"/hostname", f.Dir+"/hosts"
		if s.Spec.Log.Driver != "none" {
			base.LogPath = f.LogPath
		}
	}
	r := &container.InspectResponse{ContainerJSONBase: base, Mounts: mounts(s, false), Config: Config(s.Spec), NetworkSettings: networkSettings(s)}
	r.ImageManifestDescriptor = manifest(s)
	return r
}

func health(h *domain.Health) *container.Health {
	out := &container.Health{Status: container.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*container.HealthcheckResult{}}
	for _, r := range h.Log {
		out.Log = append(out.Log, &container.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
	}
	return out
}

// HealthWord is the health of a container as filters name it.
func HealthWord(s *domain.Snapshot) string {
	if s.State.Health == nil {
		return domain.HealthNone
	}
	return s.State.Health.Status
}

func manifest(s *domain.Snapshot) *ocispec.Descriptor {
	i := s.Spec.Image
	return &ocispec.Descriptor{MediaType: i.ManifestMediaType, Digest: digest.Digest(i.Manifest), Size: i.ManifestSize, Platform: &ocispec.Platform{OS: i.OS, Architecture: i.Arch, Variant: i.Variant}}
}

func mounts(s *domain.Snapshot, list bool) []container.MountPoint {
	out := []container.MountPoint{}
	for _, p := range s.Spec.Storage.Points {
		m := container.MountPoint{Type: mount.Type(p.Type), Name: p.Name, Source: p.Source, Destination: p.Destination, Driver: p.Driver, Mode: p.Mode, RW: p.RW, Propagation: mount.Propagation(p.Propagation)}
		if list && p.Type == "volume" {
			m.Source = ""
		}
		out = append(out, m)
	}
	return out
}

// Summary is the short form of a container. image is the name to show, names are further ones from links.
func Summary(s *domain.Snapshot, image string, names []string, now time.Time) container.Summary {
	c := container.Summary{
		ID: string(s.ID), Names: append([]string{"/" + s.Name}, names...), Image: image, ImageID: s.Spec.Image.ID, Command: command(s.Spec.Process.Argv()), Created: s.Created.Unix(),
		Ports: Ports(s), Labels: s.Spec.Labels, State: container.ContainerState(statusWord(&s.State)), Status: Status(s, now), NetworkSettings: &container.NetworkSettingsSummary{Networks: networks(s)},
		Mounts: mounts(s, true), ImageManifestDescriptor: manifest(s),
	}
	c.HostConfig.NetworkMode = s.Spec.Network.Mode
	c.HostConfig.Annotations = s.Spec.Annotations
	return c
}

func command(argv []string) string {
	out := slices.Clone(argv)
	for i, a := range out {
		if strings.Contains(a, " ") {
			out[i] = "'" + a + "'"
		}
	}
	return strings.Join(out, " ")
}

// Status is the sentence that lists show.
func Status(s *domain.Snapshot, now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch word := statusWord(&s.State); word {
	case domain.Running:
		up := "Up " + ago(s.State.StartedAt)
		switch w := HealthWord(s); w {
		case domain.HealthNone:
			return up
		case domain.HealthStarting:
			return up + " (health: starting)"
		default:
			return up + " (" + w + ")"
		}
	case domain.Paused:
		return "Up " + ago(s.State.StartedAt) + " (Paused)"
	case domain.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.State.ExitCode(), ago(s.State.FinishedAt))
	case domain.Removing:
		return "Removal In Progress"
	case domain.Dead:
		return "Dead"
	case domain.Created:
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.State.ExitCode(), ago(s.State.FinishedAt))
}
