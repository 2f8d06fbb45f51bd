package container

import (
	"reflect"
	"testing"
)

func TestParsePS(t *testing.T) {
	p, err := parsePS("UID  PID CMD\nroot 1 init\nroot 42 sleep 100  x\n", []int{42})
	if err != nil || !reflect.DeepEqual(p.Rows, [][]string{{"root", "42", "sleep 100 x"}}) {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := parsePS("USER CMD\nroot x\n", []int{1}); err == nil {
		t.Error("a table without PID was taken")
	}
}

func TestMergeLimits(t *testing.T) {
	d := Resources{Memory: 10, MemorySwap: 20, CPUShares: 5}
	if err := mergeLimits(&d, Resources{Memory: 15}); err != nil || d.Memory != 15 || d.MemorySwap != 20 || d.CPUShares != 5 {
		t.Errorf("%+v %v", d, err)
	}
	if err := mergeLimits(&d, Resources{Memory: 25}); err == nil {
		t.Error("memory above the swap limit was taken")
	}
	if err := mergeLimits(&Resources{CPUQuota: 1}, Resources{NanoCPUs: 1}); err == nil {
		t.Error("contradictory CPU limits were taken")
	}
}

func TestConflicts(t *testing.T) {
	for name, s := range map[string]*Spec{
		"hostname and UTS": {Hostname: "h", Namespaces: Namespaces{UTS: "host"}},
		"hostname":         {Hostname: "h", Network: NetworkSpec{Mode: "container:x"}},
		"dns":              {Network: NetworkSpec{Mode: "container:x", DNS: []string{"1.1.1.1"}}},
		"publish":          {Network: NetworkSpec{Mode: "container:x", PublishAll: true}},
		"expose":           {Network: NetworkSpec{Mode: "container:x", ExposedPorts: map[string]struct{}{"80/tcp": {}}}},
		"host links":       {Network: NetworkSpec{Mode: "host", Links: []string{"a"}}},
	} {
		if conflicts(s) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := conflicts(&Spec{Network: NetworkSpec{Mode: "container:x"}}); err != nil {
		t.Error(err)
	}
}
