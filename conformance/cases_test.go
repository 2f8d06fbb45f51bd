package conformance

import (
	"testing"

	"github.com/berthd/berth/conformance/spec"
)

func TestCasesNameOperationsOfTheSpecification(t *testing.T) {
	v, err := spec.At("1.51")
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Operations) != 107 {
		t.Fatalf("the specification has %d operations", len(v.Operations))
	}
	names := map[string]bool{}
	for _, k := range Cases() {
		if names[k.Name] {
			t.Errorf("two cases are named %q", k.Name)
		}
		names[k.Name] = true
		if len(k.Ops) == 0 || k.Run == nil {
			t.Errorf("%s: names no operation or does nothing", k.Name)
		}
		for _, op := range k.Ops {
			if v.Operation(op) == nil {
				t.Errorf("%s: there is no operation %s", k.Name, op)
			}
		}
		if k.MinAPI != "" && (minor(k.MinAPI) < 24 || minor(k.MinAPI) > 60) {
			t.Errorf("%s: API version %q", k.Name, k.MinAPI)
		}
	}
}
