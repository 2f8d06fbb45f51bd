package container

import (
	"reflect"
	"testing"
)

func TestParseSecurityOpt(t *testing.T) {
	got, err := ParseSecurityOpt([]string{"no-new-privileges", "seccomp={\"a\":1}", "apparmor:x", "label=user:u", "disable", "writable-cgroups=true"}, SecurityOptions{})
	want := SecurityOptions{NoNewPrivileges: true, Seccomp: `{"a":1}`, AppArmor: "x", Label: []string{"user:u", "disable"}, WritableCgroups: ptr(true)}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := ParseSecurityOpt([]string{"no-new-privileges=false"}, SecurityOptions{NoNewPrivileges: true}); err != nil || got.NoNewPrivileges {
		t.Errorf("the daemon's default was not lifted: %+v %v", got, err)
	}
	for opt, want := range map[string]string{
		"bogus": `invalid --security-opt 1: "bogus"`, "bogus=1": `invalid --security-opt 2: "bogus=1"`, "systempaths=unconfined": `invalid --security-opt 2: "systempaths=unconfined"`,
		"no-new-privileges=maybe": `invalid --security-opt 2: "no-new-privileges=maybe"`,
	} {
		if _, err := ParseSecurityOpt([]string{opt}, SecurityOptions{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", opt, err)
		}
	}
}
