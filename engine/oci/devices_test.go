package oci

import (
	"strings"
	"testing"

	"github.com/berthd/berth/engine/container"
)

func TestDevices(t *testing.T) {
	nodes, rules, err := devices([]container.Device{{HostPath: "/dev/null", ContainerPath: "/dev/mine", Permissions: "r"}})
	if err != nil || len(nodes) != 1 || nodes[0].Path != "/dev/mine" || nodes[0].Major != 1 || nodes[0].Minor != 3 || rules[0].Access != "r" {
		t.Errorf("%+v %+v %v", nodes, rules, err)
	}
	_, _, err = devices([]container.Device{{HostPath: "/dev/nosuch"}})
	if err == nil || !strings.HasSuffix(err.Error(), `custom device "/dev/nosuch": no such file or directory`) {
		t.Error(err)
	}
	if _, _, err = devices([]container.Device{{HostPath: "/etc/passwd"}}); err == nil {
		t.Error("a file that is no device was taken")
	}
}

func TestDeviceRule(t *testing.T) {
	r, err := deviceRule("c 10:* rw")
	if err != nil || *r.Major != 10 || *r.Minor != -1 || r.Access != "rw" || r.Type != "c" {
		t.Errorf("%+v %v", r, err)
	}
	for _, bad := range []string{"", "c", "x 1:1 r", "c 1:1 rwmr", "c 1:1", "c a:1 r"} {
		if _, err := deviceRule(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
