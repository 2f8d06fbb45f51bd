package wire

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/platforms"
	imageapi "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berthd/berth/engine/image"
)

// Platform reads os[/arch[/variant]]; nil if nothing is asked for.
func Platform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // nothing is an answer
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, Invalid("%s", err.Error())
	}
	return &p, nil
}

// PlatformJSON reads the JSON form that newer parameters take.
func PlatformJSON(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // as above
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return nil, Invalid("failed to parse platform: %v", err)
	}
	if p.OS == "" || p.Architecture == "" {
		return nil, Invalid("both OS and Architecture must be provided")
	}
	return &p, nil
}

// ImageList reads the query of GET /images/json.
func ImageList(q url.Values, now time.Time) (o image.ListOptions, err error) {
	f, err := ParseFilters(q.Get("filters"), "dangling", "label", "label!", "before", "since", "reference", "until")
	if err != nil {
		return o, err
	}
	if len(f["dangling"]) > 0 {
		yes, err := f.Bool("dangling", false)
		if err != nil {
			return o, err
		}
		o.Dangling = &yes
	}
	for key, to := range map[string]*string{"before": &o.Before, "since": &o.Since} {
		if vs := f[key]; len(vs) > 0 {
			*to = vs[len(vs)-1]
		}
	}
	if o.Until, err = f.until(now); err != nil {
		return o, err
	}
	o.References, o.SharedSize, o.Manifests = f["reference"], Bool(q.Get("shared-size")), Bool(q.Get("manifests"))
	o.Labels = f.labels()
	return o, nil
}

// labels is the test that the filters label and label! make; nil if there are none.
func (f Filters) labels() func(map[string]string) bool {
	if len(f["label"])+len(f["label!"]) == 0 {
		return nil
	}
	return func(have map[string]string) bool {
		return Labels(f["label"], have) && (len(f["label!"]) == 0 || !Labels(f["label!"], have))
	}
}

// until is the latest moment that the filter leaves; zero if there is none.
func (f Filters) until(now time.Time) (t time.Time, err error) {
	if len(f["until"]) > 1 {
		return t, Invalid("more than one until filter specified")
	}
	for _, v := range f["until"] {
		t, err = Moment("until", v, now)
	}
	return t, err
}

// ImagePrune reads the filters of POST /images/prune.
func ImagePrune(filters string, now time.Time) (o image.PruneOptions, err error) {
	f, err := ParseFilters(filters, "dangling", "label", "label!", "until")
	if err != nil {
		return o, err
	}
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return o, err
	}
	until, err := f.until(now)
	if err != nil {
		return o, err
	}
	labels := f.labels()
	o.All = !dangling
	o.Want = func(s image.Summary) bool {
		return (until.IsZero() || s.Created.Before(until)) && (labels == nil || labels(s.Labels))
	}
	return o, nil
}

// ImageSummary is a row of a list. containers is how many are made from it.
func ImageSummary(i image.Summary, containers int64, shared bool) imageapi.Summary {
	row := imageapi.Summary{
		ID: i.ID.String(), Created: i.Created.Unix(), Labels: i.Labels, RepoTags: i.Tags, RepoDigests: i.Digests, Size: i.Size, SharedSize: -1, Containers: containers, ParentID: i.Parent, Descriptor: &i.Target,
	}
	if i.Created.IsZero() {
		row.Created = 0
	}
	if row.Labels == nil {
		row.Labels = map[string]string{}
	}
	if shared {
		row.SharedSize = i.Shared
	}
	for _, m := range i.Manifests {
		row.Manifests = append(row.Manifests, ImageManifest(m, nil))
	}
	return row
}

// ImageManifest is one manifest of an image. users are the containers made from it.
func ImageManifest(m image.Manifest, users []string) imageapi.ManifestSummary {
	out := imageapi.ManifestSummary{ID: m.Target.Digest.String(), Descriptor: m.Target, Available: m.Available, Kind: imageapi.ManifestKindImage}
	out.Size.Content, out.Size.Total = m.Content, m.Content+m.Unpacked
	if !m.Image {
		out.Kind, out.AttestationData = imageapi.ManifestKindAttestation, &imageapi.AttestationProperties{For: m.For}
		return out
	}
	out.ImageData = &imageapi.ImageProperties{Platform: m.Platform, Containers: users}
	out.ImageData.Size.Unpacked = m.Unpacked
	return out
}

// imageConfig is an image's configuration as an inspect shows it: what is always there, and what is left out when empty.
type imageConfig struct {
	Cmd, Entrypoint, Env []string
	Labels               map[string]string
	OnBuild              []string
	User                 string
	Volumes              map[string]struct{}
	WorkingDir           string

	ArgsEscaped  bool                `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Healthcheck  *image.Healthcheck  `json:",omitempty"`
	Shell        []string            `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	StopTimeout  *int                `json:",omitempty"`
}

// InspectImage is the long form of an image.
func InspectImage(d *image.Details, driver string, manifests []image.Manifest, users func(digest string) []string) ImageInspect {
	c := d.Image.Config
	r := ImageInspect{Config: imageConfig{
		Cmd: c.Cmd, Entrypoint: c.Entrypoint, Env: c.Env, Labels: c.Labels, OnBuild: c.OnBuild, User: c.User, Volumes: c.Volumes, WorkingDir: c.WorkingDir,
		ArgsEscaped: c.ArgsEscaped, ExposedPorts: c.ExposedPorts, Healthcheck: c.Healthcheck, Shell: c.Shell, StopSignal: c.StopSignal, StopTimeout: c.StopTimeout,
	}}
	r.InspectResponse = imageapi.InspectResponse{
		ID: d.ID.String(), RepoTags: d.Tags, RepoDigests: d.Digests, Parent: d.Parent, Comment: d.Comment, Author: d.Author, Architecture: d.Image.Platform.Architecture, //nolint:staticcheck // old clients read Parent
		Variant: d.Image.Platform.Variant, Os: d.Image.Platform.OS, OsVersion: d.Image.Platform.OSVersion, Size: d.Size, GraphDriver: storage.DriverData{Name: driver},
		RootFS: imageapi.RootFS{Type: "layers"}, Metadata: imageapi.Metadata{LastTagTime: d.LastTagged}, Descriptor: &d.Target,
	}
	for _, l := range d.Image.Layers {
		r.RootFS.Layers = append(r.RootFS.Layers, l.String())
	}
	if d.Image.Created != nil {
		r.Created = d.Image.Created.UTC().Format(time.RFC3339Nano)
	}
	for _, m := range manifests {
		r.Manifests = append(r.Manifests, ImageManifest(m, users(m.Target.Digest.String())))
	}
	return r
}

// SearchQuery is what GET /images/search asks for.
type SearchQuery struct {
	Term  string
	Limit int
	Keep  func(image.Found) bool
}

// Search reads it. The words are dockerd's.
func Search(q url.Values) (s SearchQuery, err error) {
	s.Term, s.Limit = q.Get("term"), 25
	if l := q.Get("limit"); l != "" {
		if s.Limit, err = strconv.Atoi(l); err != nil {
			return s, Invalid("invalid limit specified: %v", err)
		}
	}
	f, err := ParseFilters(q.Get("filters"), "is-automated", "is-official", "stars")
	if err != nil {
		return s, err
	}
	official, err := f.Bool("is-official", false)
	if err != nil {
		return s, err
	}
	automated, err := f.Bool("is-automated", false)
	if err != nil {
		return s, err
	}
	stars := 0
	for _, v := range f["stars"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return s, Invalid("invalid filter 'stars=%s'", f["stars"])
		}
		stars = max(stars, n)
	}
	if s.Limit == 0 {
		s.Limit = 25
	}
	if s.Limit < 1 || s.Limit > 100 {
		return s, Invalid("limit %d is outside the range of [1, 100]", s.Limit)
	}
	byAutomated, byOfficial := len(f["is-automated"]) > 0, len(f["is-official"]) > 0
	s.Keep = func(r image.Found) bool { // nothing is automated any more
		return (!byAutomated || !automated) && (!byOfficial || r.Official == official) && r.Stars >= stars
	}
	return s, nil
}
