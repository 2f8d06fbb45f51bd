package spec

import (
	"strings"
	"testing"
)

func TestFindSlashesAndTheLongestPath(t *testing.T) {
	v, err := At("1.51")
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		"GET /images/json": "ImageList", "GET /images/a/b/json": "ImageInspect", "GET /images/get": "ImageGetAll", "GET /images/x:1/get": "ImageGet",
		"GET /containers/json": "ContainerList", "GET /containers/x/json": "ContainerInspect", "DELETE /networks/n": "NetworkDelete",
		"HEAD /_ping": "SystemPingHead", "POST /plugins/a/b/enable": "PluginEnable",
	} {
		method, path, _ := strings.Cut(request, " ")
		if op := v.Find(method, path); op == nil || op.ID != want {
			t.Errorf("%s: %+v, want %s", request, op, want)
		}
	}
	if op := v.Find("PUT", "/info"); op != nil {
		t.Errorf("PUT /info is %s", op.ID)
	}
}

func TestCheckFindsEachKind(t *testing.T) {
	for _, tc := range []struct {
		version, op string
		status      int
		body, want  string
	}{
		{"1.51", "ContainerTop", 200, `{"Titles":["PID"],"Processes":[["1"]]}`, ""},
		{"1.51", "ContainerTop", 200, `{"Titles":["PID"],"Processes":[[1]]}`, "ContainerTop 200 .Processes[][]: type: 1 for string"},
		{"1.51", "ContainerTop", 200, `{"Titles":null}`, "ContainerTop 200 .Titles: null: null for array"},
		{"1.51", "ContainerTop", 200, `{"Pids":1}`, "ContainerTop 200 .Pids: unknown: 1"},
		{"1.51", "ContainerTop", 218, `{}`, "ContainerTop 218 : status: not in the specification"},
		{"1.51", "ContainerTop", 404, `{}`, "ContainerTop 404 .message: missing: required"},
		{"1.51", "ContainerTop", 200, `{"Titles"`, "ContainerTop 200 : type: no JSON: unexpected EOF"},
		{"1.51", "SystemEvents", 200, `{"scope":"local"}` + "\n" + `{"scope":"far"}`, `SystemEvents 200 .scope: enum: "far" is none of the values listed`},
		{"1.51", "ImageInspect", 200, `{"VirtualSize":1}`, "ImageInspect 200 .VirtualSize: unknown: 1"},
		{"1.43", "ImageInspect", 200, `{"VirtualSize":1}`, ""},
		{"1.51", "ContainerWait", 200, `{"StatusCode":0.5}`, "ContainerWait 200 .StatusCode: type: 0.5 for integer"},
	} {
		v, err := At(tc.version)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range v.Check(v.Operation(tc.op), tc.status, []byte(tc.body)).Findings {
			got = append(got, f.String())
		}
		if strings.Join(got, "; ") != tc.want {
			t.Errorf("%s %s: got %q, want %q", tc.op, tc.body, got, tc.want)
		}
	}
}

func TestDeviationsCoverWhatTheyName(t *testing.T) {
	ds := Deviations{{"*", "4??", "-", "status"}, {"A", "200", "[].B.{}.C", "null"}}
	for f, want := range map[Finding]bool{
		{"X", 400, "", Status, ""}: true, {"X", 500, "", Status, ""}: false, {"X", 400, ".a", Status, ""}: false,
		{"A", 200, "[].B.{}.C", Null, ""}: true, {"A", 200, "[].B.{}.D", Null, ""}: false, {"A", 200, "[].B.{}.C", Type, ""}: false,
	} {
		if ds.Cover(f) != want {
			t.Errorf("%v: want %t", f, want)
		}
	}
}
