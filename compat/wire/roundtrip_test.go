package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	netapi "github.com/docker/docker/api/types/network"

	domain "github.com/berthd/berth/engine/container"
)

// filler gives every field a value that no other field has. Of truths, which have two values only, either all are true, or one.
type filler struct {
	n     int
	truth int // number of the only true one; -1 = all
	seen  int
}

func (f *filler) fill(v reflect.Value, name string) {
	f.n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), name)
	case reflect.Struct:
		for i := range v.NumField() {
			if t := v.Type().Field(i); t.IsExported() {
				f.fill(v.Field(i), t.Name)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		f.fill(v.Index(0), name)
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i), name)
		}
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if v.Type().Key().Name() == "Port" {
			k.SetString(fmt.Sprintf("%d/tcp", f.n))
		} else {
			f.fill(k, name)
		}
		f.fill(e, name)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.String:
		switch name {
		case "IPv4Address":
			v.SetString("10.0.0.7")
		case "IPv6Address":
			v.SetString("fd00::7")
		case "LinkLocalIPs":
			v.SetString("169.254.0.7")
		default:
			v.SetString(fmt.Sprintf("s%d", f.n))
		}
	case reflect.Bool:
		v.SetBool(f.truth < 0 || f.seen == f.truth)
		f.seen++
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(f.n))
	default:
		panic("no value for " + v.Type().String() + " " + name)
	}
}

// leaves writes every leaf below v as path and text; keys of maps and places in lists are *.
func leaves(v reflect.Value, path string, out map[string]string) {
	put := func(p, text string) { out[p] += text + ";" }
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			leaves(v.Elem(), path, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			t := v.Type().Field(i)
			switch {
			case !t.IsExported():
			case t.Anonymous:
				leaves(v.Field(i), path, out)
			default:
				leaves(v.Field(i), strings.TrimPrefix(path+"."+t.Name, "."), out)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			leaves(v.Index(i), path, out)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			put(path+".key", fmt.Sprint(k))
			leaves(v.MapIndex(k), path+".*", out)
		}
	default:
		put(path, fmt.Sprint(v))
	}
}

// there goes to the domain and back.
func there(t *testing.T, r *container.CreateRequest) *container.CreateRequest {
	t.Helper()
	s, err := ToSpec(r, "")
	if err != nil {
		t.Fatal(err)
	}
	back := &container.CreateRequest{Config: Config(s), HostConfig: HostConfig(s), NetworkingConfig: &netapi.NetworkingConfig{EndpointsConfig: map[string]*netapi.EndpointSettings{}}}
	for name, e := range networks(&domain.Snapshot{Spec: s}) {
		if _, ok := s.Network.Attachments[name]; ok {
			back.NetworkingConfig.EndpointsConfig[name] = e
		}
	}
	return back
}

// TestRoundTrip: each field of a create request survives the way to the domain and back, unless it is ignored on purpose. A new
// field of the API fails here until somebody decides where it lives.
func TestRoundTrip(t *testing.T) {
	count := &filler{truth: -1}
	count.fill(reflect.ValueOf(&container.CreateRequest{}).Elem(), "")
	lost := map[string]bool{}
	for truth := -1; truth < count.seen; truth++ {
		r := &container.CreateRequest{}
		(&filler{truth: truth}).fill(reflect.ValueOf(r).Elem(), "")
		want, got := map[string]string{}, map[string]string{}
		leaves(reflect.ValueOf(r), "", want)
		leaves(reflect.ValueOf(there(t, r)), "", got)
		for p, w := range want {
			if got[p] == w {
				continue
			}
			if ignoredFields[p] == "" && !lost[p] {
				t.Errorf("%s: %q went in, %q came back", p, w, got[p])
			}
			lost[p] = true
		}
	}
	for p := range ignoredFields {
		if !lost[p] {
			t.Errorf("%s is on the list of what is ignored, but survives or is gone", p)
		}
	}
}
