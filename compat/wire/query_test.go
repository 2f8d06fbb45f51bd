package wire

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestBool(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "0": false, "no": false, "false": false, "none": false, "FALSE": false, " No ": false, "None": false,
		"1": true, "true": true, "True": true, "yes": true, "on": true, "2": true, "xyz": true, "f": true, "-1": true,
	} {
		if Bool(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func TestFilters(t *testing.T) {
	many := func(n int) string {
		b, _ := json.Marshal(map[string][]string{"name": strings.Split(strings.Repeat("x,", n-1)+"x", ",")})
		return string(b)
	}
	for _, tc := range []struct {
		in, err string
		want    Filters
	}{
		{"", "", Filters{}},
		{"{}", "", Filters{}},
		{`{"name":["a","b"]}`, "", Filters{"name": {"a", "b"}}},
		{`{"name":{"b":true,"a":false}}`, "", Filters{"name": {"a", "b"}}},
		{`{"name":{"a":true},"label":["x"]}`, "", Filters{"name": {"a"}, "label": {"x"}}},
		{`{"name":[]}`, "", Filters{"name": {}}},
		{"{", "invalid filter", nil},
		{"[]", "invalid filter", nil},
		{`"x"`, "invalid filter", nil},
		{`{"name":"a"}`, "invalid filter", nil},
		{`{"name":[1]}`, "invalid filter", nil},
		{`{"name":{"a":"b"}}`, "invalid filter", nil},
		{`{"bogus":["x"]}`, "invalid filter 'bogus'", nil},
		{many(257), "invalid filter 'name': 257 values, at most 256 are allowed", nil},
	} {
		got, err := ParseFilters(tc.in, "name", "label")
		if tc.err != "" && (err == nil || err.Error() != tc.err) || tc.err == "" && (err != nil || !reflect.DeepEqual(got, tc.want)) {
			t.Errorf("%.60s: %v, %v; want %v, %q", tc.in, got, err, tc.want, tc.err)
		}
	}
	keys := map[string][]string{}
	for i := range 65 {
		keys["k"+strconv.Itoa(i)] = nil
	}
	b, _ := json.Marshal(keys)
	if _, err := ParseFilters(string(b)); err == nil || !strings.Contains(err.Error(), "65 keys") {
		t.Errorf("65 keys: %v", err)
	}
	if f, err := ParseFilters(`{"anything":["x"]}`); err != nil || len(f) != 1 {
		t.Errorf("nothing is named, all is allowed: %v", err)
	}
}

func TestFilterBool(t *testing.T) {
	for _, tc := range []struct {
		vs   []string
		want bool
		err  string
	}{
		{nil, true, ""}, {[]string{"1"}, true, ""}, {[]string{"true"}, true, ""}, {[]string{"0"}, false, ""}, {[]string{"false", "0"}, false, ""},
		{[]string{"x"}, false, "invalid filter 'dangling=[x]'"}, {[]string{"true", "0"}, false, "invalid filter 'dangling=[true 0]'"},
	} {
		f := Filters{}
		if tc.vs != nil {
			f["dangling"] = tc.vs
		}
		got, err := f.Bool("dangling", true)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
			t.Errorf("%v: %v %v", tc.vs, got, err)
		}
	}
}

func TestTime(t *testing.T) {
	for _, tc := range []struct {
		in, err string
		want    time.Time
	}{
		{"", "", time.Time{}}, {"0", "", time.Time{}},
		{"12", "", time.Unix(12, 0)}, {"12.5", "", time.Unix(12, 500000000)}, {"12.000000001", "", time.Unix(12, 1)}, {"12.0000000019", "", time.Unix(12, 1)}, {"12.", "", time.Unix(12, 0)},
		{"x", `invalid value for 'since': invalid timestamp "x": invalid seconds "x": invalid syntax`, time.Time{}},
		{"10m", `invalid value for 'since': invalid timestamp "10m": invalid seconds "10m": invalid syntax`, time.Time{}},
		{"1.x", `invalid value for 'since': invalid timestamp "1.x": invalid nanoseconds "x": invalid syntax`, time.Time{}},
	} {
		got, err := Time("'since'", tc.in)
		if !got.Equal(tc.want) || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
			t.Errorf("%q: %v, %v; want %v", tc.in, got, err, tc.want)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Unix(1000, 0)
	for in, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "5": time.Unix(5, 0), "2024-01-02T03:04:05Z": time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC),
		"2024-01-02": time.Date(2024, 1, 2, 0, 0, 0, 0, time.Local), "2024-01-02T03:04:05.25+01:00": time.Date(2024, 1, 2, 2, 4, 5, 250000000, time.UTC),
	} {
		if got, err := Moment("until", in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := Moment("until", "soon", now); err == nil {
		t.Error("not a time")
	}
}

func TestSplitVersion(t *testing.T) {
	for _, tc := range []struct {
		in, path string
		minor    int
		err      string
	}{
		{"/info", "/info", 51, ""}, {"/v1.24/info", "/info", 24, ""}, {"/v1.51/a/b", "/a/b", 51, ""}, {"/v1.41./info", "/info", 41, ""}, {"/volumes", "/volumes", 51, ""},
		{"/v1.41", "/v1.41", 51, ""}, {"/vfoo/info", "/vfoo/info", 51, ""}, {"/v1.52/x", "/x", 51, "too new"}, {"/v1.51.0/x", "/x", 51, ""}, {"/v1.51.1/x", "/x", 51, "too new"},
		{"/v2/x", "/x", 51, "too new"}, {"/v1/x", "/x", 51, "too old"}, {"/v1.9/x", "/x", 51, "too old"}, {"/v./x", "/x", 51, "too old"}, {"/v99999999999999999999.1/x", "/x", 51, "too new"},
	} {
		p, m, err := SplitVersion(tc.in, "1.24", "1.51")
		if p != tc.path || m != tc.minor || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) || IsTooOld(err) != (tc.err == "too old") {
			t.Errorf("%s: %s %d %v", tc.in, p, m, err)
		}
	}
}

func FuzzFilters(f *testing.F) {
	for _, s := range []string{`{"a":["b"]}`, `{"a":{"b":true}}`, `{"a":null}`, `[]`, `{"a":{"b":1}}`, `{"a":["b"],"a":["c"]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFilters(s)
		if err != nil {
			return
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseFilters(string(b))
		if err != nil || len(again) != len(got) {
			t.Fatalf("%q is not stable: %v, %v", s, got, err)
		}
	})
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"1", "1.5", "-1.9", "1.0000000000001", "x", "9223372036854775807.9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := Time("x", s); err != nil && err.Error() == "" {
			t.Fatal("an error without a text")
		}
	})
}
