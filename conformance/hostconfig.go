package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// quoted writes a text as it stands inside a JSON string.
func quoted(text string) string { return strings.ReplaceAll(text, `"`, `\"`) }

// refused is a create whose host part is turned down.
func refused(name string, host obj, status int, part string) Case {
	return story("create refuses "+name, []string{"ContainerCreate"}, func(t *T) error {
		_, err := t.expect("POST", "/containers/create", obj{"Image": "busybox", "Cmd": []string{"true"}, "HostConfig": host}, status, quoted(part))
		return err
	})
}

// warned is a create that succeeds and says what it left out.
func warned(name string, host obj, part string) Case {
	return story("create warns about "+name, []string{"ContainerCreate"}, func(t *T) error {
		a, err := t.expect("POST", "/containers/create?name="+t.prefix+"warned", obj{"Image": "busybox", "Cmd": []string{"true"}, "HostConfig": host}, 201, part)
		if err != nil {
			return err
		}
		if part == "" && !strings.Contains(string(a.Body), `"Warnings":[]`) {
			return fmt.Errorf("%s: want no warning", a.Body)
		}
		return nil
	})
}

// failing is a container that can be made but not started.
func failing(name string, config, host obj, status int, part string) Case {
	return story("start refuses "+name, []string{"ContainerStart"}, func(t *T) error {
		id, err := t.create(config, host)
		if err != nil {
			return err
		}
		return steps(t.want("POST", "/containers/"+id+"/start", nil, status, quoted(part)), t.want("GET", "/containers/"+id+"/json", nil, 200, `"Status":"created"`))
	})
}

// hostConfig holds the options of HostConfig: what is refused, what is left out with a warning, what a container sees.
func hostConfig() []Case {
	return slices.Concat(limitCases(), mountCases(), insideCases(), links(), parts(), probes())
}

func limitCases() []Case {
	true0 := func() obj { return cmd("true") }
	return []Case{
		refused("negative memory", obj{"Memory": -1}, 400, "Minimum memory limit allowed is 6MB"),
		refused("swap without memory", obj{"MemorySwap": 100000000}, 400, "You should always set the Memory limit when using Memoryswap limit, see usage"),
		refused("swap below memory", obj{"Memory": 64 << 20, "MemorySwap": 8 << 20}, 400, "Minimum memoryswap limit should be larger than memory limit, see usage"),
		refused("swappiness above 100", obj{"MemorySwappiness": 101}, 400, "Invalid value: 101, valid memory swappiness range is 0-100"),
		refused("swappiness -2", obj{"MemorySwappiness": -2}, 400, "valid memory swappiness range is 0-100"),
		refused("reservation above memory", obj{"Memory": 64 << 20, "MemoryReservation": 128 << 20}, 400, "Minimum memory limit can not be less than memory reservation limit, see usage"),
		refused("a small reservation", obj{"MemoryReservation": 1}, 400, "Minimum memory reservation allowed is 6MB"),
		refused("an OOM score out of range", obj{"OomScoreAdj": 1001}, 400, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
		refused("negative shared memory", obj{"ShmSize": -1}, 400, "SHM size can not be less than 0"),
		refused("more CPUs than there are", obj{"NanoCpus": 6400000000000}, 400, "range of CPUs is from 0.01 to "),
		refused("CPUs and a quota", obj{"NanoCpus": 1000000000, "CpuQuota": 5000}, 400, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
		refused("CPUs and a period", obj{"NanoCpus": 1000000000, "CpuPeriod": 5000}, 400, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
		refused("a small quota", obj{"CpuQuota": 10}, 400, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
		refused("a small period", obj{"CpuPeriod": 10}, 400, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
		refused("a cpuset that is none", obj{"CpusetCpus": "a-b"}, 400, "Invalid value a-b for cpuset cpus"),
		refused("CPUs that are not there", obj{"CpusetCpus": "999"}, 400, "Requested CPUs are not available - requested 999, available: "),
		refused("memory nodes that are not there", obj{"CpusetMems": "99"}, 400, "Requested memory nodes are not available - requested 99, available: "),
		refused("negative shares", obj{"CpuShares": -1}, 400, "invalid CPU shares (-1)").since("1.44"),
		refused("I/O operations by Windows' way", obj{"IOMaximumIOps": 10}, 400, "QoS maximum IOPs configuration is not supported on linux").since("1.44"),
		refused("an unknown capability to drop", obj{"CapDrop": []string{"BOGUS"}}, 400, `invalid CapDrop: unknown capability: "CAP_BOGUS"`),
		refused("a security option without value", obj{"SecurityOpt": []string{"bogus"}}, 500, `invalid --security-opt 1: "bogus"`),
		refused("an unknown security option", obj{"SecurityOpt": []string{"bogus=1"}}, 500, `invalid --security-opt 2: "bogus=1"`),
		refused("no-new-privileges=maybe", obj{"SecurityOpt": []string{"no-new-privileges=maybe"}}, 500, `invalid --security-opt 2: "no-new-privileges=maybe"`),
		refused("systempaths, which is the client's word", obj{"SecurityOpt": []string{"systempaths=unconfined"}}, 500, `invalid --security-opt 2: "systempaths=unconfined"`),
		refused("an unknown cgroup namespace", obj{"CgroupnsMode": "bogus"}, 400, "invalid cgroup namespace mode: bogus"),
		refused("an unknown IPC mode", obj{"IpcMode": "bogus"}, 400, "invalid IPC mode: bogus").since("1.44"),
		refused("an unknown PID mode", obj{"PidMode": "bogus"}, 400, "invalid PID mode: bogus").since("1.44"),
		refused("an unknown UTS mode", obj{"UTSMode": "bogus"}, 400, "invalid UTS mode: bogus").since("1.44"),
		refused("IPC of a missing container", obj{"IpcMode": "container:nosuch"}, 400, "No such container: nosuch").since("1.44"),
		refused("an isolation", obj{"Isolation": "hyperv"}, 400, "linux only supports 'default'").since("1.44"),
		refused("an unknown runtime", obj{"Runtime": "nosuch"}, 400, "runtime").since("1.41"),
		refused("a network mode without container", obj{"NetworkMode": "container:"}, 400, "invalid container format container:<name|id>"),
		refused("a quota of the root file system", obj{"StorageOpt": obj{"size": "1G"}}, 500, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
		refused("an unknown storage option", obj{"StorageOpt": obj{"foo": "1G"}}, 500, "Unknown option foo"),
		refused("a bad extra host", obj{"ExtraHosts": []string{"x"}}, 400, `bad format for add-host: "x"`),
		refused("a bad address of an extra host", obj{"ExtraHosts": []string{"x:y"}}, 400, `invalid IP address in add-host: "y"`),
		refused("an unknown log driver", obj{"LogConfig": obj{"Type": "nosuch"}}, 400, `error looking up logging plugin nosuch: plugin "nosuch" not found`),
		refused("an unknown log option", obj{"LogConfig": obj{"Type": "json-file", "Config": obj{"bogus": "1"}}}, 400, "unknown log opt 'bogus' for json-file log driver"),
		refused("an option the local driver has not", obj{"LogConfig": obj{"Type": "local", "Config": obj{"labels": "1"}}}, 400, "unknown log opt 'labels' for log driver local"),
		refused("an unknown log mode", obj{"LogConfig": obj{"Type": "json-file", "Config": obj{"mode": "x"}}}, 400, "logger: logging mode not supported: x"),
		refused("a log buffer without its mode", obj{"LogConfig": obj{"Type": "json-file", "Config": obj{"max-buffer-size": "1m"}}}, 400, "max-buffer-size option is only supported with 'mode=non-blocking'"),
		refused("an unknown restart policy", obj{"RestartPolicy": obj{"Name": "bogus"}}, 400, "invalid restart policy"),
		refused("retries of always", obj{"RestartPolicy": obj{"Name": "always", "MaximumRetryCount": 3}}, 400, "maximum retry count can"),
		refused("negative retries", obj{"RestartPolicy": obj{"Name": "on-failure", "MaximumRetryCount": -1}}, 400, "maximum retry count cannot be negative"),
		refused("an annotation without key", obj{"Annotations": obj{"": "x"}}, 400, "the empty string is not permitted as an annotation key").since("1.44"),
		warned("published ports on the host's network", obj{"NetworkMode": "host", "PortBindings": obj{"80/tcp": []obj{{"HostPort": "80"}}}}, "Published ports are discarded when using host network mode"),
		warned("a share of the CPU in percent", obj{"CpuPercent": 50}, "linux does not support CPU percent. Percent discarded."),
		warned("nothing", obj{"Memory": 64 << 20, "CpuShares": 10, "PidsLimit": 5}, ""),
		warned("no OOM killer without a limit", obj{"OomKillDisable": true}, "OOM killer is disabled for the container, but no memory limit is set"),
		failing("an unknown user", obj{"Cmd": []string{"true"}, "User": "nosuch"}, nil, 500, "unable to find user nosuch: no matching entries in passwd file"),
		failing("an unknown group", true0(), obj{"GroupAdd": []string{"nosuch"}}, 500, "unable to find group nosuch: no matching entries in group file"),
		failing("a missing device", true0(), obj{"Devices": []obj{{"PathOnHost": "/dev/nope", "PathInContainer": "/dev/nope", "CgroupPermissions": "rwm"}}}, 500, `error gathering device information while adding custom device "/dev/nope": no such file or directory`),
		failing("a file that is no device", true0(), obj{"Devices": []obj{{"PathOnHost": "/etc/passwd", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}}}, 500, `custom device "/etc/passwd": not a device node`),
		failing("a bad device rule", true0(), obj{"DeviceCgroupRules": []string{"bogus"}}, 500, "invalid device cgroup rule format: 'bogus'"),
		failing("a device driver that is not there", true0(), obj{"DeviceRequests": []obj{{"Driver": "nope", "Count": 1}}}, 500, `could not select device driver "nope" with capabilities: []`),
		failing("a block device that is not there", true0(), obj{"BlkioDeviceReadBps": []obj{{"Path": "/dev/nope", "Rate": 1}}}, 500, "stat /dev/nope: no such file or directory"),
		failing("an unknown ulimit", true0(), obj{"Ulimits": []obj{{"Name": "bogus", "Soft": 1, "Hard": 1}}}, 500, "wrong rlimit value: RLIMIT_BOGUS"),
		failing("a soft limit above the hard one", true0(), obj{"Ulimits": []obj{{"Name": "nofile", "Soft": 9, "Hard": 1}}}, 500, "error setting rlimit type 7: invalid argument"),
		failing("a sysctl of no namespace", true0(), obj{"Sysctls": obj{"kernel.bogus": "1"}}, 500, `sysctl "kernel.bogus" is not in a separate kernel namespace`),
		failing("a network sysctl on the host's network", true0(), obj{"NetworkMode": "host", "Sysctls": obj{"net.ipv4.ip_forward": "1"}}, 500, `sysctl "net.ipv4.ip_forward" not allowed in host network namespace`),
		failing("a seccomp profile that is none", true0(), obj{"SecurityOpt": []string{"seccomp=nosuch"}}, 500, "Decoding seccomp profile failed"),
		failing("an unknown tmpfs option", true0(), obj{"Tmpfs": obj{"/t": "bogus=1"}}, 500, "invalid tmpfs option"),
		failing("real-time that the host has not given", true0(), obj{"CpuRealtimeRuntime": 1000}, 500, "cpu.rt_runtime_us: invalid argument"),
	}
}

func mountCases() []Case {
	mount := func(m obj) obj { return obj{"Mounts": []obj{m}} }
	return []Case{
		refused("a relative target of a bind", obj{"Binds": []string{"/tmp:y"}}, 500, "invalid volume specification: '/tmp:y': invalid mount config for type \"bind\": invalid mount path: 'y' mount path must be absolute"),
		refused("a bind over the root", obj{"Binds": []string{"/tmp:/"}}, 500, "invalid specification: destination can't be '/'"),
		refused("a bad mode of a bind", obj{"Binds": []string{"/tmp:/y:bogus"}}, 500, "invalid mode: bogus"),
		refused("a mode said twice", obj{"Binds": []string{"/tmp:/y:ro,rw"}}, 500, "invalid mode: ro,rw"),
		refused("a bind of four parts", obj{"Binds": []string{"a:b:c:d"}}, 500, "invalid volume specification: 'a:b:c:d'"),
		refused("two binds at one place", obj{"Binds": []string{"/tmp:/y", "/usr:/y"}}, 400, "Duplicate mount point: /y"),
		refused("a bind and a tmpfs at one place", obj{"Binds": []string{"/tmp:/y"}, "Tmpfs": obj{"/y": ""}}, 400, "Duplicate mount point: /y"),
		refused("a relative tmpfs", obj{"Tmpfs": obj{"t": ""}}, 400, "invalid mount path: 't' mount path must be absolute"),
		refused("volumes from nowhere", obj{"VolumesFrom": []string{"nosuch"}}, 400, "No such container: nosuch"),
		refused("an unknown type of mount", mount(obj{"Type": "bogus", "Source": "/", "Target": "/x"}), 400, "mount type unknown"),
		refused("a mount without target", mount(obj{"Type": "bind", "Source": "/tmp"}), 400, "field Target must not be empty"),
		refused("a bind mount without source", mount(obj{"Type": "bind", "Target": "/x"}), 400, "field Source must not be empty"),
		refused("a relative source", mount(obj{"Type": "bind", "Source": "x", "Target": "/x"}), 400, "invalid mount path: 'x' mount path must be absolute"),
		refused("a tmpfs with a source", mount(obj{"Type": "tmpfs", "Source": "/tmp", "Target": "/x"}), 400, "field Source must not be specified"),
		refused("options of another type", mount(obj{"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": obj{}}), 400, "VolumeOptions must not be specified").since("1.42"), // older requests were not looked at
		refused("an unknown propagation", mount(obj{"Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": obj{"Propagation": "bogus"}}), 400, "invalid propagation mode: bogus"),
		refused("a mount over the root", mount(obj{"Type": "bind", "Source": "/tmp", "Target": "/"}), 400, "invalid specification: destination can't be '/'"),
		refused("two mounts at one place", obj{"Mounts": []obj{{"Type": "tmpfs", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x"}}}, 400, "Duplicate mount point: /x"),
		refused("an unknown volume driver", mount(obj{"Type": "volume", "Source": "dv", "Target": "/x", "VolumeOptions": obj{"DriverConfig": obj{"Name": "nosuch"}}}), 404, `create dv: error looking up volume plugin nosuch: plugin "nosuch" not found`),
		prints("tmpfs options of the user win", sh("grep -E ' /t ' /proc/mounts"), obj{"Tmpfs": obj{"/t": "exec,size=1m,mode=700"}}, 0, "tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=700"),
		prints("tmpfs mount", sh("grep -E ' /t ' /proc/mounts"), mount(obj{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": obj{"SizeBytes": 1 << 20, "Mode": 0o1770}}), 0, "rw,nosuid,nodev,noexec,relatime,size=1024k,mode=1770"),
		prints("read-only bind", sh("touch /mnt/x 2>&1 | grep -o 'Read-only file system'"), obj{"Binds": []string{"/tmp:/mnt:ro"}}, 0, "Read-only file system"),
		prints("a mount on a default place replaces it", sh("grep -c ' /dev/shm ' /proc/mounts"), obj{"Tmpfs": obj{"/dev/shm": ""}}, 0, "1\n"),
		prints("a mount on /dev removes what is below", sh("grep ' /dev/shm ' /proc/mounts | grep -c size=65536k"), obj{"Binds": []string{"/dev:/dev"}}, 1, "0\n"),
		prints("the engine's files are read-only with the root", sh("grep -E ' /etc/(hosts|hostname|resolv.conf) ' /proc/mounts | grep -c ' ro,'"), obj{"ReadonlyRootfs": true}, 0, "3\n"),
	}
}

func insideCases() []Case {
	self := func(words ...string) obj { return cmd(append([]string{"grep", "-E"}, words...)...) }
	return []Case{
		prints("memory limit", sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.soft_limit_in_bytes"), obj{"Memory": 64 << 20, "MemoryReservation": 32 << 20}, 0, "67108864\n33554432\n"),
		prints("CPU limits", sh("cd /sys/fs/cgroup/cpu && cat cpu.shares cpu.cfs_quota_us cpu.cfs_period_us"), obj{"CpuShares": 512, "CpuQuota": 50000, "CpuPeriod": 100000}, 0, "512\n50000\n100000\n"),
		prints("nanoCPUs", sh("cd /sys/fs/cgroup/cpu && cat cpu.cfs_quota_us cpu.cfs_period_us"), obj{"NanoCpus": 1500000000}, 0, "150000\n100000\n"),
		prints("cpuset", sh("cat /sys/fs/cgroup/cpuset/cpuset.cpus"), obj{"CpusetCpus": "0"}, 0, "0\n"),
		prints("pids limit", sh("cat /sys/fs/cgroup/pids/pids.max"), obj{"PidsLimit": 77}, 0, "77\n"),
		prints("ulimits", sh("ulimit -Sn; ulimit -Hn"), obj{"Ulimits": []obj{{"Name": "nofile", "Soft": 100, "Hard": 200}}}, 0, "100\n200\n"),
		prints("OOM score", sh("cat /proc/self/oom_score_adj"), obj{"OomScoreAdj": 500}, 0, "500\n"),
		prints("a device under another name", sh("ls -l /dev/mine; head -c 3 /dev/mine | wc -c"), obj{"Devices": []obj{{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/mine", "CgroupPermissions": "rwm"}}}, 0, "3\n"),
		prints("a device that may only be read", sh("echo x > /dev/mine"), obj{"Devices": []obj{{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}}}, 1, "Operation not permitted"),
		prints("device rules", sh("mknod /x c 1 11 && cat /sys/fs/cgroup/devices/devices.list"), obj{"DeviceCgroupRules": []string{"c 42:* rm"}}, 0, "c 42:* rm"),
		prints("group-add", obj{"Cmd": []string{"id", "-G"}, "User": "1000:1001"}, obj{"GroupAdd": []string{"root", "4242"}}, 0, "1001 0 4242\n"),
		prints("added capabilities", self("CapEff", "/proc/self/status"), obj{"CapAdd": []string{"net_admin"}}, 0, "00000000a80435fb"),
		prints("a capability dropped and all added", self("CapBnd", "/proc/self/status"), obj{"CapAdd": []string{"CHOWN"}, "CapDrop": []string{"all"}}, 0, "0000000000000001"),
		prints("no-new-privileges=false", self("NoNewPrivs", "/proc/self/status"), obj{"SecurityOpt": []string{"no-new-privileges=false"}}, 0, "NoNewPrivs:\t0"),
		prints("a seccomp profile of the user", sh("mkdir /d 2>&1; echo $?"), obj{"SecurityOpt": []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`}}, 0, "Operation not permitted\n1\n"),
		prints("sysctls", sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"), obj{"Sysctls": obj{"net.ipv4.ip_forward": "0", "kernel.msgmax": "4242"}}, 0, "0\n4242\n"),
		prints("the user's sysctl wins over the default", sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), obj{"Sysctls": obj{"net.ipv4.ip_unprivileged_port_start": "77"}}, 0, "77\n"),
		prints("masked and read-only paths of the user", sh("wc -c </proc/keys; grep -c ' /proc/' /proc/mounts"), obj{"MaskedPaths": []string{}, "ReadonlyPaths": []string{}}, 1, "0\n"),
		prints("privileged sees no filter", self("Seccomp:", "/proc/self/status"), obj{"Privileged": true}, 0, "Seccomp:\t0").since("1.44"),
		prints("host PID namespace", sh("readlink /proc/1/exe >/dev/null; test $$ -gt 100; echo $?"), obj{"PidMode": "host"}, 0, "0\n"),
		prints("host UTS namespace", sh("hostname > /tmp/h; test -s /tmp/h; echo $?"), obj{"UTSMode": "host"}, 0, "0\n"),
		prints("no IPC", sh("grep -c ' /dev/shm ' /proc/mounts"), obj{"IpcMode": "none"}, 1, "0\n"),
		prints("cgroup namespace of its own", sh("grep :memory: /proc/self/cgroup"), obj{"CgroupnsMode": "private"}, 0, ":memory:/\n"),
		prints("DNS options", cmd("cat", "/etc/resolv.conf"), obj{"Dns": []string{"10.9.8.7"}, "DnsSearch": []string{"x.example"}, "DnsOptions": []string{"ndots:2"}}, 0, "10.9.8.7"),
		prints("a host of version 6", cmd("cat", "/etc/hosts"), obj{"ExtraHosts": []string{"c:::1"}}, 0, "::1\tc\n"),
		prints("the host's gateway", sh("grep -c '\tgw$' /etc/hosts"), obj{"ExtraHosts": []string{"gw:host-gateway"}}, 0, "1\n"),
		prints("environment has the defaults", cmd("env"), nil, 0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
		prints("a session keyring of its own", sh("grep -c _ses.$(hostname) /proc/keys"), obj{"MaskedPaths": []string{}}, 0, "1\n").since("1.44"),
	}
}
