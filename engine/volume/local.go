package volume

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
)

// checkOptions refuses options of the local driver that make no mount, in dockerd's words.
func checkOptions(name string, o map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains([]string{"device", "o", "size", "type"}, k) {
			return errkind.InvalidArgument("create %s: invalid option: %q", name, k)
		}
	}
	for _, k := range []string{"device", "o", "type"} {
		if _, ok := o[k]; !ok {
			continue
		}
		for _, need := range []string{"device", "type"} {
			if _, ok := o[need]; !ok {
				return errkind.InvalidArgument("create %s: missing required option: %q", name, need)
			}
		}
	}
	if v, ok := o["size"]; ok {
		if _, err := units.RAMInBytes(v); err != nil {
			return errkind.InvalidArgument("create %s: %s", name, err)
		}
		return errkind.InvalidArgument("create %s: quota size requested but no quota support", name)
	}
	return nil
}

// mounts tells whether a volume is mounted when it is used; others are plain directories.
func (v *Volume) mounts() bool { return v.Options["type"] != "" || v.Options["device"] != "" }

// mountFlags are the words that stand for flags of mount(2); a word that clears one has it negated. Source: mount(8).
var mountFlags = map[string]struct {
	clear bool
	flag  uintptr
}{
	"defaults": {}, "rw": {true, unix.MS_RDONLY}, "ro": {false, unix.MS_RDONLY}, "suid": {true, unix.MS_NOSUID}, "nosuid": {false, unix.MS_NOSUID},
	"dev": {true, unix.MS_NODEV}, "nodev": {false, unix.MS_NODEV}, "exec": {true, unix.MS_NOEXEC}, "noexec": {false, unix.MS_NOEXEC},
	"async": {true, unix.MS_SYNCHRONOUS}, "sync": {false, unix.MS_SYNCHRONOUS}, "dirsync": {false, unix.MS_DIRSYNC}, "remount": {false, unix.MS_REMOUNT},
	"mand": {false, unix.MS_MANDLOCK}, "nomand": {true, unix.MS_MANDLOCK}, "atime": {true, unix.MS_NOATIME}, "noatime": {false, unix.MS_NOATIME},
	"diratime": {true, unix.MS_NODIRATIME}, "nodiratime": {false, unix.MS_NODIRATIME}, "bind": {false, unix.MS_BIND}, "rbind": {false, unix.MS_BIND | unix.MS_REC},
	"relatime": {false, unix.MS_RELATIME}, "norelatime": {true, unix.MS_RELATIME}, "strictatime": {false, unix.MS_STRICTATIME}, "nostrictatime": {true, unix.MS_STRICTATIME},
	"private": {false, unix.MS_PRIVATE}, "rprivate": {false, unix.MS_PRIVATE | unix.MS_REC}, "shared": {false, unix.MS_SHARED}, "rshared": {false, unix.MS_SHARED | unix.MS_REC},
	"slave": {false, unix.MS_SLAVE}, "rslave": {false, unix.MS_SLAVE | unix.MS_REC}, "unbindable": {false, unix.MS_UNBINDABLE}, "runbindable": {false, unix.MS_UNBINDABLE | unix.MS_REC},
}

const propagation = unix.MS_PRIVATE | unix.MS_SHARED | unix.MS_SLAVE | unix.MS_UNBINDABLE

// parseMount splits the option o into flags of mount(2) and what the file system itself gets.
func parseMount(o string) (flags uintptr, data string) {
	var rest []string
	for _, w := range strings.Split(o, ",") {
		f, ok := mountFlags[w]
		switch {
		case w == "":
		case !ok:
			rest = append(rest, w)
		case f.clear:
			flags &^= f.flag
		default:
			flags |= f.flag
		}
	}
	return flags, strings.Join(rest, ",")
}

// mount puts the volume's file system at its place. The caller keeps others from doing the same.
func (v *Volume) mount() error {
	if on, err := isMounted(v.Mountpoint); on || err != nil {
		return err // by a daemon before this one
	}
	flags, data := parseMount(v.Options["o"])
	device := v.Options["device"]
	err := func() error {
		if strings.HasPrefix(v.Options["type"], "nfs") {
			var err error
			if data, err = resolveAddr(data); err != nil {
				return err
			}
		}
		kind := v.Options["type"]
		if err := unix.Mount(device, v.Mountpoint, kind, flags&^propagation, data); err != nil {
			return err
		}
		if flags&unix.MS_BIND != 0 && flags&unix.MS_RDONLY != 0 { // a bind takes flags of its own only when it is there
			if err := unix.Mount("", v.Mountpoint, "", unix.MS_REMOUNT|unix.MS_BIND|flags&^(propagation|unix.MS_REC), ""); err != nil {
				return errors.Join(err, unix.Unmount(v.Mountpoint, unix.MNT_DETACH))
			}
		}
		if p := flags & (propagation | unix.MS_REC); p&propagation != 0 {
			return unix.Mount("", v.Mountpoint, "", p, "")
		}
		return nil
	}()
	if err == nil {
		return nil
	}
	text := fmt.Sprintf("mount %s:%s", device, v.Mountpoint)
	if flags != 0 {
		text += fmt.Sprintf(", flags: 0x%x", flags)
	}
	if data != "" {
		text += ", data: " + data
	}
	return errkind.Internal("error while mounting volume '%s': failed to mount local volume: %s: %w", v.Mountpoint, text, err)
}

// resolveAddr replaces a name in addr=, which the kernel does not look up.
func resolveAddr(data string) (string, error) {
	words := strings.Split(data, ",")
	for i, w := range words {
		name, ok := strings.CutPrefix(w, "addr=")
		if !ok || net.ParseIP(name) != nil {
			continue
		}
		a, err := net.ResolveIPAddr("ip", name)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		words[i] = "addr=" + a.String()
	}
	return strings.Join(words, ","), nil
}

func (v *Volume) unmount() error {
	if on, err := isMounted(v.Mountpoint); !on || err != nil {
		return err
	}
	if err := unix.Unmount(v.Mountpoint, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("error while unmounting volume path '%s': %w", v.Mountpoint, err)
	}
	return nil
}

// isMounted looks into the kernel's list: a file system that hangs is not touched.
func isMounted(path string) (bool, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && unescape(f[4]) == path {
			return true, nil
		}
	}
	return false, nil
}

// unescape undoes the octal escapes of mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
