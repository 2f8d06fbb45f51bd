package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func push(t *testing.T, s *Service, o PushOptions) (statuses []string, aux []any, err error) {
	t.Helper()
	var r rows
	err = s.Push(t.Context(), o, r.add)
	for _, p := range r.list {
		if p.Aux != nil {
			aux = append(aux, p.Aux)
		}
	}
	for _, st := range r.statuses() {
		if st != "" && !strings.HasSuffix(st, " Waiting") && !strings.HasSuffix(st, " Pushing") {
			statuses = append(statuses, st)
		}
	}
	return statuses, aux, err
}

func TestPush(t *testing.T) {
	h := hub(t)
	s := service(t)
	img := load(t, s, h.host()+"/my/x:v1", layerTar(t, file{"a", noise(200_000)}))
	layer := digest.FromBytes(layerTar(t, file{"a", noise(200_000)})).Encoded()[:12]
	end := fmt.Sprintf("v1: digest: %s size: %d", img.ID, img.Target.Size)
	for i, want := range []string{layer + " Pushed", layer + " Layer already exists"} {
		got, aux, err := push(t, s, PushOptions{Ref: h.host() + "/my/x", Tag: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, "|") != "The push refers to repository ["+h.host()+"/my/x]|"+want+"|"+end {
			t.Errorf("%d: %q", i, got)
		}
		if len(aux) != 1 || aux[0].(map[string]any)["Digest"] != img.ID.String() {
			t.Errorf("aux %v", aux)
		}
	}
	if err := s.Tag(t.Context(), h.host()+"/my/x:v1", h.host()+"/my/y", "v1"); err != nil {
		t.Fatal(err)
	}
	// The test's registry keeps blobs for all repositories together; others do not.
	h.set(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/my/y/blobs/"):
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost && r.URL.Query().Get("mount") != "" && r.URL.Query().Get("from") == "my/x":
			w.WriteHeader(http.StatusCreated)
		default:
			return false
		}
		return true
	})
	got, _, err := push(t, s, PushOptions{Ref: h.host() + "/my/y", Tag: "v1"})
	if err != nil || len(got) != 3 || got[1] != layer+" Mounted from my/x" {
		t.Errorf("%q %v", got, err)
	}
	// What was pushed is pulled as the same image.
	other := service(t)
	if err := other.Pull(t.Context(), PullOptions{Ref: h.host() + "/my/y:v1"}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	back, err := other.Resolve(t.Context(), h.host()+"/my/y:v1", nil)
	if err != nil || back.ID != img.ID {
		t.Errorf("%v %+v", err, back)
	}
}

func TestPushAllTags(t *testing.T) {
	h := hub(t)
	s := service(t)
	load(t, s, h.host()+"/x:b", layerTar(t, file{"a", "a"}))
	if err := s.Tag(t.Context(), h.host()+"/x:b", h.host()+"/x", "a"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := push(t, s, PushOptions{Ref: h.host() + "/x"}); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"a", "b"} {
		if len(h.requests("PUT /v2/x/manifests/"+tag)) != 1 {
			t.Errorf("%q", h.requests("PUT"))
		}
	}
}

func TestPushErrors(t *testing.T) {
	h := hub(t)
	s := service(t)
	load(t, s, h.host()+"/x:1", layerTar(t, file{"a", "a"}))
	if err := s.Tag(t.Context(), h.host()+"/x:1", "127.0.0.1:9/x", "1"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    PushOptions
		want string
	}{
		{PushOptions{Ref: h.host() + "/x", Tag: "nosuch"}, "tag does not exist: " + h.host() + "/x:nosuch"},
		{PushOptions{Ref: h.host() + "/none"}, "An image does not exist locally with the tag: " + h.host() + "/none"},
		{PushOptions{Ref: "UPPER"}, "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{PushOptions{Ref: "127.0.0.1:9/x", Tag: "1"}, "dial tcp 127.0.0.1:9: connect: connection refused"},
	} {
		if _, _, err := push(t, s, tc.o); err == nil || !strings.HasSuffix(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.o, err)
		}
	}
	h.set(func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == "joe" && p == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if _, _, err := push(t, s, PushOptions{Ref: h.host() + "/x", Tag: "1"}); err == nil || err.Error() != "push access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials" {
		t.Error(err)
	}
	if _, _, err := push(t, s, PushOptions{Ref: h.host() + "/x", Tag: "1", Auth: &Auth{Username: "joe", Password: "no"}}); err == nil || !strings.HasSuffix(err.Error(), "401 Unauthorized") {
		t.Error(err)
	}
	if _, _, err := push(t, s, PushOptions{Ref: h.host() + "/x", Tag: "1", Auth: &Auth{Username: "joe", Password: "secret"}}); err != nil {
		t.Error(err)
	}
}

func TestPushGoesOnAfterACut(t *testing.T) {
	h := hub(t)
	s := service(t)
	img := load(t, s, h.host()+"/x:1", layerTar(t, file{"a", noise(1 << 20)}))
	var once sync.Once
	h.set(func(w http.ResponseWriter, r *http.Request) (did bool) {
		if r.Method == http.MethodPatch && r.ContentLength > 1<<20 {
			once.Do(func() {
				did = true
				_, _ = io.CopyN(io.Discard, r.Body, 1000)
				panic(http.ErrAbortHandler)
			})
		}
		return did
	})
	if _, _, err := push(t, s, PushOptions{Ref: h.host() + "/x", Tag: "1"}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Distribution(t.Context(), h.host()+"/x:1", nil)
	if err != nil || r.Descriptor.Digest != img.ID || len(r.Platforms) != 1 {
		t.Errorf("%v %+v", err, r)
	}
}

func TestPushOfAnIndexWithOnePlatform(t *testing.T) {
	h := hub(t)
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		h.image("x", "", ocispec.Platform{OS: "linux", Architecture: "s390x"}, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"f", "s390x"})),
		h.image("x", "", here, zipped, ocispec.MediaTypeImageLayerGzip, layerTar(t, file{"f", "here"})),
	}}
	idx.SchemaVersion = 2
	h.put("/v2/x/manifests/1", idx.MediaType, []byte(mustJSON(t, idx)))
	s := service(t)
	if err := s.Pull(t.Context(), PullOptions{Ref: h.host() + "/x:1"}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), h.host()+"/x:1", h.host()+"/y", "1"); err != nil {
		t.Fatal(err)
	}
	_, aux, err := push(t, s, PushOptions{Ref: h.host() + "/y", Tag: "1"})
	if err != nil || len(aux) != 2 || aux[0].(map[string]any)["manifestPushedInsteadOfIndex"] != true {
		t.Fatalf("%v %v", aux, err)
	}
	r, err := s.Distribution(t.Context(), h.host()+"/y:1", nil)
	if err != nil || r.Descriptor.Digest != idx.Manifests[1].Digest {
		t.Errorf("%v %+v", err, r)
	}
	if r, err = s.Distribution(t.Context(), h.host()+"/x:1", nil); err != nil || len(r.Platforms) != 2 {
		t.Errorf("%v %+v", err, r)
	}
}

func TestDistributionErrors(t *testing.T) {
	h := hub(t)
	s := service(t)
	if _, err := s.Distribution(t.Context(), h.host()+"/none", nil); !errdefs.IsNotFound(err) || err.Error() != "manifest unknown: manifest unknown" {
		t.Error(err)
	}
	if _, err := s.Distribution(t.Context(), "127.0.0.1:9/x", nil); err == nil || err.Error() != `Get "http://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused` {
		t.Error(err)
	}
}

func TestLogin(t *testing.T) {
	h := hub(t)
	s := service(t)
	if err := s.Login(t.Context(), Auth{Username: "u", Password: "p", ServerAddress: h.host()}); err != nil {
		t.Error(err)
	}
	h.set(func(w http.ResponseWriter, r *http.Request) bool {
		if u, p, _ := r.BasicAuth(); u == "joe" && p == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	for _, tc := range []struct{ user, password, want string }{
		{"joe", "secret", ""}, {"u", "p", "login attempt to http://" + h.host() + "/v2/ failed with status: 401 Unauthorized"}, {"", "", `Get "http://` + h.host() + `/v2/": no basic auth credentials`},
	} {
		err := s.Login(t.Context(), Auth{Username: tc.user, Password: tc.password, ServerAddress: "http://" + h.host() + "/v1/"})
		if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%s: %v", tc.user, err)
		}
	}
}

func TestSearch(t *testing.T) {
	h := hub(t)
	s := service(t)
	h.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/search" {
			return false
		}
		if r.URL.Query().Get("q") != "a b" || r.URL.Query().Get("n") != "7" {
			t.Errorf("%s", r.URL)
		}
		_, _ = io.WriteString(w, `{"num_results":1,"results":[{"name":"a","description":"d","star_count":3,"is_official":true}]}`)
		return true
	})
	got, err := s.Search(t.Context(), h.host()+"/a b", 7, nil)
	if err != nil || len(got) != 1 || got[0] != (Found{Name: "a", Description: "d", Stars: 3, Official: true}) {
		t.Errorf("%v %+v", err, got)
	}
	h.set(nil)
	if _, err = s.Search(t.Context(), h.host()+"/a", 7, nil); err == nil || err.Error() != "unexpected status code 404" {
		t.Error(err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	s := service(t)
	a := load(t, s, "a:1", layerTar(t, file{"f", "a"}))
	b := load(t, s, "b:1", layerTar(t, file{"f", "b"}), layerTar(t, file{"g", "b"}))
	if err := s.Tag(t.Context(), "a:1", "a", "2"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Save(t.Context(), []string{"a", "b:1", b.ID.String()}, nil, func() io.Writer { return &out }); err != nil {
		t.Fatal(err)
	}
	var names []string
	for tr := tar.NewReader(bytes.NewReader(out.Bytes())); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if n := len(names); n != 2+2+2+3+3 || names[n-1] != "oci-layout" || names[n-2] != "manifest.json" || names[n-3] != "index.json" {
		t.Errorf("%q", names)
	}
	for _, pack := range []func([]byte) []byte{asIs, zipped, zstded} {
		other := service(t)
		var r rows
		if err := other.Load(t.Context(), bytes.NewReader(pack(out.Bytes())), LoadOptions{}, r.add); err != nil {
			t.Fatal(err)
		}
		for ref, want := range map[string]digest.Digest{"a:1": a.ID, "a:2": a.ID, "b:1": b.ID} {
			img, err := other.Resolve(t.Context(), ref, nil)
			if err != nil || img.ID != want {
				t.Errorf("%s: %v %+v", ref, err, img)
			}
		}
	}
	if err := s.Save(t.Context(), []string{"a", "nosuch"}, nil, func() io.Writer { t.Error("begun"); return &out }); !errdefs.IsNotFound(err) || err.Error() != "No such image: nosuch:latest" {
		t.Error(err)
	}
	other := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	if err := s.Save(t.Context(), []string{"b:1"}, &other, nil); !errdefs.IsNotFound(err) || err.Error() != "no suitable export target found: image with reference b:1 was found but does not provide the specified platform (linux/s390x)" {
		t.Error(err)
	}
}

func TestDeleteAndPrune(t *testing.T) {
	var users []User
	rec := &recorder{}
	s := service(t, func(o *Options) { o.Publish = rec.publish })
	s.SetInUse(func() []User { return users })
	img := load(t, s, "a:1", layerTar(t, file{"f", noise(100_000)}))
	id := short(img.ID)
	del := func(ref string, force bool) string {
		t.Helper()
		gone, err := s.Delete(t.Context(), ref, DeleteOptions{Force: force})
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, g := range gone {
			out = append(out, g.Untagged+g.Deleted)
		}
		return strings.Join(out, " ")
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n got %q\nwant %q", what, got, want)
		}
	}
	c := strings.Repeat("c", 64)
	users = []User{{ContainerID: c, Ref: img.ID.String()}}
	check("name, stopped", del("a:1", false), "conflict: unable to delete a:1 (must be forced) - container cccccccccccc is using its referenced image "+id)
	check("id, stopped", del(img.ID.String(), false), "conflict: unable to delete "+id+" (must be forced) - image is being used by stopped container cccccccccccc")
	users[0].Running = true
	check("id, running, force", del(id, true), "conflict: unable to delete "+id+" (cannot be forced) - image is being used by running container cccccccccccc")
	if err := s.Tag(t.Context(), "a:1", "b", ""); err != nil {
		t.Fatal(err)
	}
	check("one of two names", del("a:1", false), "a:1")
	if err := s.Tag(t.Context(), "b", "a", "1"); err != nil {
		t.Fatal(err)
	}
	users = nil
	check("id of two repositories", del(id, false), "conflict: unable to delete "+id+" (must be forced) - image is referenced in multiple repositories")
	check("by digest", del("b@"+img.ID.String(), false), "b:latest")
	users = []User{{ContainerID: c, Ref: img.ID.String()}}
	check("name, force", del("a:1", true), "a:1")
	dangling := true
	list, err := s.List(t.Context(), ListOptions{Dangling: &dangling})
	if err != nil || len(list) != 1 || list[0].ID != img.ID {
		t.Errorf("dangling: %v %+v", err, list)
	}
	if gone, n, err := s.Prune(t.Context(), PruneOptions{}); err != nil || gone != nil || n != 0 {
		t.Errorf("prune of what is used: %v %d %v", gone, n, err)
	}
	users = nil
	load(t, s, "kept:1", layerTar(t, file{"f", "kept"}))
	gone, n, err := s.Prune(t.Context(), PruneOptions{})
	if err != nil || len(gone) != 2 || gone[0].Untagged != img.ID.String() || gone[1].Deleted != img.ID.String() || n < 200_000 {
		t.Errorf("prune: %+v %d %v", gone, n, err)
	}
	check("no such", del("a:1", true), "No such image: a:1")
	if gone, _, err := s.Prune(t.Context(), PruneOptions{All: true}); err != nil || len(gone) != 2 || gone[0].Untagged != "kept:1" {
		t.Errorf("prune all: %+v %v", gone, err)
	}
	nothingLeft(t, s)
	if last := rec.list[len(rec.list)-1]; last.Action != "prune" || last.Attributes["reclaimed"] == "" {
		t.Errorf("%+v", last)
	}
}

func TestListFilters(t *testing.T) {
	s := service(t)
	load(t, s, "a:1", layerTar(t, file{"shared", noise(50_000)}), layerTar(t, file{"f", "a"}))
	load(t, s, "reg.example:5000/b:1", layerTar(t, file{"shared", noise(50_000)}), layerTar(t, file{"f", "b"}))
	if err := s.Tag(t.Context(), "a:1", "c", "x"); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"a": "a:1", "a:1": "a:1", "a:2": "", "c:*": "c:x", "docker.io/library/a": "a:1", "reg.example:5000/*": "reg.example:5000/b:1", "[": "", "*:1": "a:1", "*/*:1": "reg.example:5000/b:1",
	} {
		list, err := s.List(t.Context(), ListOptions{References: []string{pattern}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range list {
			got = append(got, i.Tags...)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q", pattern, got)
		}
	}
	if _, err := s.List(t.Context(), ListOptions{Before: "nosuch"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	list, err := s.List(t.Context(), ListOptions{SharedSize: true, Manifests: true})
	if err != nil || len(list) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	for _, i := range list {
		if i.Shared < 50_000 || i.Shared >= i.Size || len(i.Manifests) != 1 || !i.Manifests[0].Available || i.Manifests[0].Content+i.Manifests[0].Unpacked != i.Size {
			t.Errorf("%+v", i)
		}
	}
}
