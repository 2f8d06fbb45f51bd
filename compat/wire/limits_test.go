package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
)

func TestLimitsOfCreate(t *testing.T) {
	many := func(n int, s string) (out []string) {
		for range n {
			out = append(out, s)
		}
		return out
	}
	labels := map[string]string{}
	for i := range maxLabels + 1 {
		labels[fmt.Sprint(i)] = ""
	}
	for _, tc := range []struct {
		name, want string
		r          container.CreateRequest
	}{
		{"as much as may be", "", container.CreateRequest{Config: &container.Config{Env: many(maxEnv, "A=b")}}},
		{"many variables", "Env has 8193 entries, at most 8192 are allowed", container.CreateRequest{Config: &container.Config{Env: many(maxEnv+1, "A=b")}}},
		{"long variables", "Env is too large", container.CreateRequest{Config: &container.Config{Env: []string{strings.Repeat("x", maxEnvBytes+1)}}}},
		{"many labels", "Labels has 4097 entries, at most 4096 are allowed", container.CreateRequest{Config: &container.Config{Labels: labels}}},
		{"long labels", "Labels is too large", container.CreateRequest{Config: &container.Config{Labels: map[string]string{"a": strings.Repeat("x", maxLabelBytes)}}}},
		{"many annotations", "HostConfig.Annotations has", container.CreateRequest{Config: &container.Config{}, HostConfig: &container.HostConfig{Annotations: labels}}},
		{"many mounts", "HostConfig.Mounts has 1025 entries", container.CreateRequest{Config: &container.Config{}, HostConfig: &container.HostConfig{Mounts: make([]mount.Mount, maxMounts), Binds: []string{"a:b"}}}},
		{"many ports", "HostConfig.PortBindings has 65536 entries", container.CreateRequest{Config: &container.Config{}, HostConfig: &container.HostConfig{PortBindings: nat.PortMap{"1/tcp": make([]nat.PortBinding, maxPorts+1)}}}},
	} {
		_, err := ToSpec(&tc.r, "")
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestShapeOfDocuments(t *testing.T) {
	object := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":0`, i)
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	for _, tc := range []struct{ name, in, want string }{
		{"deep, but not too deep", strings.Repeat("[", 64) + strings.Repeat("]", 64), ""},
		{"too deep", strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested deeper than 64 levels"},
		{"many keys, but not too many", object(maxKeys), ""},
		{"too many keys", object(maxKeys + 1), "more than 10000 keys"},
		{"a range of ports is no heap of keys", `{"ExposedPorts":` + object(maxKeys+1) + `,"HostConfig":{"PortBindings":` + object(maxKeys+1) + `}}`, ""},
		{"a key twice", `{"a":{"b":1,"c":2,"b":3}}`, `duplicate key "b"`},
		{"the same key in two objects", `{"a":{"b":1},"c":{"b":1},"d":[{"b":1},{"b":1}]}`, ""},
		{"letter case makes two keys", `{"Labels":{"A":"","a":""}}`, ""},
	} {
		var v any
		err := Decode(strings.NewReader(tc.in), &v)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// FuzzDecode: a document is refused with an error of ours, or it is one that the plain decoder takes as well.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"Image":"x"}`, `{"Image":`, `[]`, `null`, `{"a":1}{"b":2}`, `{"HostConfig":{"Mounts":[{}]}}`, `{"a":1,"a":2}`, `"x"`, ``, `{"ExposedPorts":{"1/tcp":{}}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r container.CreateRequest
		if err := Decode(strings.NewReader(s), &r); err != nil {
			if !strings.HasPrefix(err.Error(), "invalid JSON") && !strings.HasPrefix(err.Error(), "unexpected content") {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		var plain container.CreateRequest
		if err := json.NewDecoder(strings.NewReader(s)).Decode(&plain); err != nil {
			t.Fatalf("%q is taken, and is not JSON: %v", s, err)
		}
		if _, err := Raise(24, &r); err == nil {
			_, _ = ToSpec(&r, "") // whatever it says, it must not break
		}
	})
}
