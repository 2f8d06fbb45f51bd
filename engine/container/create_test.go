package container

import (
	"testing"

	"github.com/berthd/berth/engine/image"
	"github.com/berthd/berth/engine/network"
)

func TestMergeWithTheImage(t *testing.T) {
	img := &image.Image{Config: image.Config{Entrypoint: []string{"e"}, Cmd: []string{"c"}, Env: []string{"A=image", "B=image"}, Labels: map[string]string{"x": "image", "y": "image"}}}
	for _, tc := range []struct {
		name            string
		entrypoint, cmd []string
		want            string
	}{
		{"nothing given", nil, nil, "e c"},
		{"command given", nil, []string{"u"}, "e u"},
		{"entrypoint given drops the image's command", []string{"u"}, nil, "u"},
		{"empty entrypoint keeps the image's command", []string{}, nil, "c"},
		{"cleared entrypoint", []string{""}, []string{"u"}, "u"},
	} {
		s := &Spec{Process: Process{Entrypoint: tc.entrypoint, Cmd: tc.cmd, Env: []string{"A=user"}}, Labels: map[string]string{"x": "user"}}
		merge(s, img)
		got := ""
		for i, a := range s.Process.Argv() {
			if i > 0 {
				got += " "
			}
			got += a
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		if len(s.Process.Env) != 2 || s.Process.Env[0] != "A=user" || s.Process.Env[1] != "B=image" || s.Labels["x"] != "user" || s.Labels["y"] != "image" {
			t.Errorf("%s: env %v, labels %v", tc.name, s.Process.Env, s.Labels)
		}
	}
}

func TestPortRequests(t *testing.T) {
	s := &Spec{Network: NetworkSpec{PortBindings: map[string][]PortBinding{"80/tcp": {{HostPort: "8000-8010"}}, "53/udp": {{HostIP: "127.0.0.1", HostPort: "53"}}}}}
	in, err := (&Manager{}).intent(s)
	if err != nil || len(in.Publish) != 2 {
		t.Fatalf("%+v, %v", in, err)
	}
	if r := in.Publish[1]; r.Container != (network.Port{Number: 80, Proto: "tcp"}) || r.First != 8000 || r.Last != 8010 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"x", "9-8", "70000", "-1"} {
		s.Network.PortBindings = map[string][]PortBinding{"80/tcp": {{HostPort: bad}}}
		if _, err := (&Manager{}).intent(s); err == nil {
			t.Errorf("host port %q was accepted", bad)
		}
	}
}
