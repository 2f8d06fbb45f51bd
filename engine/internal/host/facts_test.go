package host

import (
	"os"
	"path/filepath"
	"testing"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadVersion1(t *testing.T) {
	f := read(tree(t, map[string]string{
		"proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" +
			"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n" +
			"35 31 0:32 / /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory\n" +
			"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
		"proc/self/ns/cgroup":                              "",
		"sys/fs/cgroup/cpu,cpuacct/cpu.shares":             "1024",
		"sys/fs/cgroup/cpuset/cpuset.cpus":                 "0-1\n",
		"sys/fs/cgroup/cpuset/cpuset.mems":                 "0\n",
		"sys/fs/cgroup/memory/memory.oom_control":          "",
		"sys/fs/cgroup/memory/memory.soft_limit_in_bytes":  "",
		"sys/fs/cgroup/memory/memory.memsw.limit_in_bytes": "",
		"sys/module/apparmor/parameters/enabled":           "N\n",
	}))
	want := Facts{Memory: true, Swap: true, MemoryReservation: true, OomKillDisable: true, CPUShares: true, Cpuset: true, CgroupNamespaces: true, CPUs: "0-1", Mems: "0", NumCPU: f.NumCPU}
	if f != want {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
}

func TestReadVersion2(t *testing.T) {
	f := read(tree(t, map[string]string{
		"sys/fs/cgroup/cgroup.controllers":           "cpuset cpu memory pids\n",
		"sys/fs/cgroup/cpuset.cpus.effective":        "0-7\n",
		"sys/fs/cgroup/cpuset.mems.effective":        "0-1\n",
		"sys/fs/cgroup/system.slice/memory.swap.max": "max\n",
		"sys/module/apparmor/parameters/enabled":     "Y\n",
	}))
	want := Facts{CgroupV2: true, Memory: true, Swap: true, MemoryReservation: true, CPUShares: true, CPUQuota: true, Pids: true, Cpuset: true, AppArmor: true, CPUs: "0-7", Mems: "0-1", NumCPU: f.NumCPU}
	if f != want {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
}
