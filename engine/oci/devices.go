package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/container"
	"github.com/berthd/berth/engine/internal/errkind"
)

// deviceNode describes a device of the host. ok is false for anything that is no device.
func deviceNode(host, inside string) (d specs.LinuxDevice, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return d, false, err
	}
	typ := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		typ = "c"
	case unix.S_IFBLK:
		typ = "b"
	default:
		return d, false, nil
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{Path: inside, Type: typ, Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))), FileMode: &mode, UID: &st.Uid, GID: &st.Gid}, true, nil
}

// devices turns the user's mappings into nodes and rules; a directory stands for every device below it.
func devices(ds []container.Device) (nodes []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	for _, d := range ds {
		fail := func(err error) error {
			if pe := new(fs.PathError); asPathError(err, &pe) {
				err = pe.Err
			}
			return errkind.Internal("error gathering device information while adding custom device %q: %w", d.HostPath, err)
		}
		inside := d.ContainerPath
		if inside == "" {
			inside = d.HostPath
		}
		access := d.Permissions
		if access == "" {
			access = "rwm"
		}
		host, err := filepath.EvalSymlinks(d.HostPath)
		if err != nil {
			return nil, nil, fail(err)
		}
		found := false
		err = filepath.WalkDir(host, func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			n, ok, err := deviceNode(p, path.Join(inside, strings.TrimPrefix(p, host)))
			if err != nil || !ok || e.Type()&fs.ModeSymlink != 0 {
				return err
			}
			found = true
			nodes = append(nodes, n)
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: access})
			return nil
		})
		if err == nil && !found {
			err = errors.New("not a device node")
		}
		if err != nil {
			return nil, nil, fail(err)
		}
	}
	return nodes, rules, nil
}

func asPathError(err error, target **fs.PathError) bool {
	pe, ok := err.(*fs.PathError) //nolint:errorlint // as it came from the walk
	if ok {
		*target = pe
	}
	return ok
}

var ruleForm = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// deviceRule reads one rule in the kernel's words, such as "c 10:* rwm".
func deviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	f := ruleForm.FindStringSubmatch(s)
	if f == nil {
		return specs.LinuxDeviceCgroup{}, errkind.InvalidArgument("invalid device cgroup rule format: '%s'", s)
	}
	num := func(s string) *int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			n = -1 // "*"
		}
		return &n
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: f[1], Major: num(f[2]), Minor: num(f[3]), Access: f[4]}, nil
}

// hostDevices lists the devices of the host for privileged containers. What the container mounts itself is left out, and so
// is a device that goes away during the walk.
func hostDevices() []specs.LinuxDevice {
	var out []specs.LinuxDevice
	_ = filepath.WalkDir("/dev", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if e.IsDir() {
			switch p {
			case "/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/.lxc", "/dev/.lxd-mounts", "/dev/.udev":
				return filepath.SkipDir
			}
			return nil
		}
		if p == "/dev/console" || e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		if n, ok, err := deviceNode(p, p); err == nil && ok {
			out = append(out, n)
		}
		return nil
	}) // the callback returns no error
	return out
}

// blockIO turns weights and throttles into the runtime's form; nil if there are none.
func blockIO(r *container.Resources) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	used := false
	if r.BlkioWeight > 0 {
		b.Weight, used = &r.BlkioWeight, true
	}
	number := func(p string) (major, minor int64, err error) {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			return 0, 0, fmt.Errorf("stat %s: %w", p, err)
		}
		return int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev))), nil
	}
	var err error
	for _, w := range r.BlkioWeightDevice {
		d := specs.LinuxWeightDevice{Weight: &w.Weight}
		if d.Major, d.Minor, err = number(w.Path); err != nil {
			return nil, err
		}
		b.WeightDevice, used = append(b.WeightDevice, d), true
	}
	for _, t := range []struct {
		in  []container.ThrottleDevice
		out *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice}, {r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice}, {r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, x := range t.in {
			d := specs.LinuxThrottleDevice{Rate: x.Rate}
			if d.Major, d.Minor, err = number(x.Path); err != nil {
				return nil, err
			}
			*t.out, used = append(*t.out, d), true
		}
	}
	if !used {
		return nil, nil //nolint:nilnil // nothing asked
	}
	return b, nil
}

// deviceRequests refuses requests for devices by driver: there is none that could serve them.
func deviceRequests(rs []container.DeviceRequest) error {
	for _, r := range rs {
		gpu := slices.ContainsFunc(r.Capabilities, func(set []string) bool { return slices.Contains(set, "gpu") })
		switch {
		case r.Driver == "cdi":
			return fmt.Errorf("CDI device injection failed: unresolvable CDI devices %s", strings.Join(r.DeviceIDs, ", "))
		case r.Driver == "" && gpu:
			return errors.New("failed to discover GPU vendor from CDI: no known GPU vendor found")
		}
		return fmt.Errorf("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
	}
	return nil
}

// defaultDevices are the rules every container starts from: nothing but the harmless nodes.
func defaultDevices() []specs.LinuxDeviceCgroup {
	out := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}} {
		out = append(out, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	ten, fuse := int64(10), int64(229)
	return append(out, specs.LinuxDeviceCgroup{Allow: false, Type: "c", Major: &ten, Minor: &fuse, Access: "rwm"})
}
