package wire

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	imageapi "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestRaise: what a create request means at a version; below the version in the name a field is ignored, refused or defaulted.
func TestRaise(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		version    int
		err        string
		warn       bool
		want       func(r *container.CreateRequest) bool
	}{
		{"AutoRemove was the client's", `{"HostConfig":{"AutoRemove":true}}`, 24, "", false, func(r *container.CreateRequest) bool { return !r.HostConfig.AutoRemove }},
		{"AutoRemove", `{"HostConfig":{"AutoRemove":true}}`, 25, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.AutoRemove }},
		{"annotations came later", `{"HostConfig":{"Annotations":{"a":"b"}}}`, 42, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.Annotations == nil }},
		{"console size came later", `{"HostConfig":{"ConsoleSize":[1,2]}}`, 41, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.ConsoleSize == [2]uint{} }},
		{"console size", `{"HostConfig":{"ConsoleSize":[1,2]}}`, 42, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.ConsoleSize == [2]uint{1, 2} }},
		{"kernel memory is kept", `{"HostConfig":{"KernelMemory":5}}`, 41, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.KernelMemory == 5 }}, //nolint:staticcheck // old clients send it
		{"kernel memory went", `{"HostConfig":{"KernelMemory":5}}`, 42, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.KernelMemory == 0 }},    //nolint:staticcheck // as above
		{"options of another type are dropped", `{"HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}`, 41, "", false, func(r *container.CreateRequest) bool { return r.HostConfig.Mounts[0].VolumeOptions == nil }},
		{"options of another type are refused", `{"HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}`, 42, `VolumeOptions must not be specified on mount type "bind"`, false, nil},
		{"recursive read-only", `{"HostConfig":{"Mounts":[{"Type":"bind","BindOptions":{"ReadOnlyForceRecursive":true}}]}}`, 43, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer", false, nil},
		{"subpath", `{"HostConfig":{"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"x"}}]}}`, 44, "VolumeOptions.Subpath needs API v1.45 or newer", false, nil},
		{"image mount", `{"HostConfig":{"Mounts":[{"Type":"image"}]}}`, 47, `Mount type "Image" needs API v1.48 or newer`, false, nil},
		{"start interval came later", `{"Healthcheck":{"StartInterval":5}}`, 43, "", false, func(r *container.CreateRequest) bool { return r.Healthcheck.StartInterval == 0 }},
		{"two networks", `{"NetworkingConfig":{"EndpointsConfig":{"b":{},"a":{}}}}`, 43, "Container cannot be created with multiple network endpoints: a, b", false, nil},
		{"two networks later", `{"NetworkingConfig":{"EndpointsConfig":{"b":{},"a":{}}}}`, 44, "", false, nil},
		{"priority came later", `{"NetworkingConfig":{"EndpointsConfig":{"a":{"GwPriority":3}}}}`, 47, "", false, func(r *container.CreateRequest) bool {
			return r.NetworkingConfig.EndpointsConfig["a"].GwPriority == 0
		}},
		{"a driver that does not count", `{"HostConfig":{"VolumeDriver":"d","Mounts":[{"Type":"volume"}]}}`, 48, "", true, nil},
		{"a driver that does not count, unsaid", `{"HostConfig":{"VolumeDriver":"d","Mounts":[{"Type":"volume"}]}}`, 47, "", false, nil},
		{"nothing at all", `{}`, 24, "", false, nil},
		{"null", `null`, 24, "", false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r container.CreateRequest
			if err := json.Unmarshal([]byte(tc.body), &r); err != nil {
				t.Fatal(err)
			}
			w, err := Raise(tc.version, &r)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || err.Error() != tc.err) || tc.warn != (len(w) > 0) {
				t.Fatalf("%v, %v; want %q", w, err, tc.err)
			}
			if tc.want != nil && !tc.want(&r) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// lowered is an answer's JSON at a version.
func lowered(t *testing.T, version int, v any) string {
	t.Helper()
	b, err := json.Marshal(Lower(version, v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLower(t *testing.T) {
	inspect := func() *container.InspectResponse {
		return &container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{ID: "0123456789abcdef"}, Config: &container.Config{Hostname: "hh"}, ImageManifestDescriptor: &ocispec.Descriptor{MediaType: "mm"},
			NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{"mine": {Aliases: []string{"al"}}}},
		}
	}
	images := func() []imageapi.Summary {
		return []imageapi.Summary{{ID: "x", Size: 7, Containers: 2, RepoTags: []string{}, RepoDigests: []string{}, Descriptor: &ocispec.Descriptor{MediaType: "mm"}}}
	}
	info := func() Info {
		return Info{Info: &system.Info{SecurityOptions: []string{"name=seccomp,profile=builtin"}, FirewallBackend: &system.FirewallInfo{Driver: "nftables"}, RegistryConfig: &registry.ServiceConfig{}, RuncCommit: system.Commit{ID: "1"}}}
	}
	long := func() ImageInspect {
		return ImageInspect{InspectResponse: imageapi.InspectResponse{Size: 7}, Config: map[string]any{"Cmd": []string{"x"}}}
	}
	for _, tc := range []struct {
		name    string
		v       any
		version int
		want    []string
		not     []string
	}{
		{"inspect", inspect(), 51, []string{`"mm"`, `"Aliases":["al"]`}, nil},
		{"inspect below 1.48", inspect(), 47, []string{`"Aliases":["al"]`}, []string{`"mm"`}},
		{"inspect below 1.45", inspect(), 44, []string{`"Aliases":["al","0123456789ab","hh"]`}, nil},
		{"images", images(), 51, []string{`"Containers":2`, `"RepoTags":[]`, `"mm"`}, []string{"VirtualSize"}},
		{"images below 1.51", images(), 50, []string{`"Containers":-1`}, nil},
		{"images below 1.44", images(), 43, []string{`"VirtualSize":7`, `"RepoTags":[]`}, []string{`"mm"`}},
		{"images below 1.43", images(), 42, []string{`"RepoTags":["\u003cnone\u003e:\u003cnone\u003e"]`, `none\u003e@`}, nil},
		{"image", long(), 51, []string{`"Cmd":["x"]`}, []string{"AttachStdin", `"VirtualSize"`}},
		{"image below 1.50", long(), 49, []string{`"Cmd":["x"]`, `"AttachStdin":false`, `"Hostname":""`}, nil},
		{"image below 1.44", long(), 43, []string{`"VirtualSize":7`, `"Created":"0001-01-01T00:00:00Z"`}, nil},
		{"info", info(), 51, []string{"nftables"}, []string{"BridgeNf", "Expected", "AllowNondistributable"}},
		{"info below 1.50", info(), 49, []string{`"BridgeNfIptables":false`, "nftables"}, nil},
		{"info below 1.49", info(), 48, []string{`"RuncCommit":{"ID":"1","Expected":"1"}`}, []string{"nftables"}},
		{"info below 1.47", info(), 46, []string{`"AllowNondistributableArtifactsCIDRs":null`}, nil},
		{"info below 1.25", info(), 24, []string{`"SecurityOptions":["seccomp"]`}, nil},
		{"disk usage below 1.42", DiskUsage{}, 41, []string{`{"BuilderSize":0}`}, nil},
		{"disk usage, descriptors below 1.48", DiskUsage{Images: []imageapi.Summary{{Descriptor: &ocispec.Descriptor{Size: 1}}}}, 47, nil, []string{"Descriptor"}},
		{"disk usage", DiskUsage{Images: []imageapi.Summary{}}, 51, []string{`{"Images":[]}`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := lowered(t, tc.version, tc.v)
			for _, w := range tc.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %s in %s", w, got)
				}
			}
			for _, n := range tc.not {
				if strings.Contains(got, n) {
					t.Errorf("%s in %s", n, got)
				}
			}
		})
	}
}

func TestRaiseQuery(t *testing.T) {
	for _, tc := range []struct {
		op, key string
		version int
		kept    bool
	}{
		{"POST /containers/{id...}/stop", "signal", 41, false}, {"POST /containers/{id...}/stop", "signal", 42, true}, {"POST /containers/{id...}/stop", "t", 24, true},
		{"GET /containers/{id...}/stats", "one-shot", 40, false}, {"POST /images/create", "platform", 32, true}, {"GET /system/df", "type", 41, false},
	} {
		q := url.Values{tc.key: {"x"}}
		RaiseQuery(tc.version, tc.op, q)
		if q.Has(tc.key) != tc.kept {
			t.Errorf("%s %s at 1.%d: kept %v", tc.op, tc.key, tc.version, !tc.kept)
		}
	}
}
