package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/errkind"
)

// Words of the third part of a bind, by kind; each kind may be said once.
var bindWords = map[string][]string{
	"access": {"ro", "rw"}, "label": {"z", "Z"}, "copy": {"nocopy"}, "consistency": {"consistent", "cached", "delegated"},
	"propagation": {"private", "rprivate", "shared", "rshared", "slave", "rslave"},
}

func isPropagation(w string) bool { return slices.Contains(bindWords["propagation"], w) }

// validMode reports whether mode is a list of known words, at most one of each kind.
func validMode(mode string) bool {
	if mode == "" {
		return true
	}
	seen := map[string]bool{}
	for _, w := range strings.Split(mode, ",") {
		kind := ""
		for k, words := range bindWords {
			if slices.Contains(words, w) {
				kind = k
			}
		}
		if kind == "" || seen[kind] {
			return false
		}
		seen[kind] = true
	}
	return true
}

// parseBind turns "source:target:mode" into a mount request. A source that is no absolute path names a volume, none at all
// asks for an anonymous one. Errors about the form have no kind, as dockerd's.
func parseBind(raw, driver string) (r MountRequest, mode string, err error) {
	f := strings.Split(raw, ":")
	switch {
	case f[0] == "", len(f) > 3, len(f) == 2 && validMode(f[1]):
		return r, "", errkind.Internal("invalid volume specification: '%s'", raw)
	case len(f) == 1:
		r.Target = f[0]
	default:
		r.Source, r.Target = f[0], f[1]
	}
	if len(f) == 3 {
		mode = f[2]
	}
	if !validMode(mode) {
		return r, "", errkind.Internal("invalid mode: %s", mode)
	}
	r.Type = "volume"
	if path.IsAbs(r.Source) {
		r.Type = "bind"
	}
	if r.Type == "volume" {
		r.Volume = &VolumeOptions{HasDriver: driver != "", DriverName: driver}
	}
	for _, w := range strings.Split(mode, ",") {
		switch {
		case w == "ro":
			r.ReadOnly = true
		case w == "nocopy" && r.Volume != nil:
			r.Volume.NoCopy = true
		case isPropagation(w) && r.Type == "bind":
			r.Bind = &BindOptions{Propagation: w}
		}
	}
	if err := checkMount(r, false); err != nil {
		return r, "", errkind.Internal("invalid volume specification: '%s': %s", raw, err)
	}
	return r, mode, nil
}

// checkMount refuses a mount request in dockerd's words. sourceMustExist: a bind does not make its source.
func checkMount(r MountRequest, sourceMustExist bool) error {
	fail := func(format string, args ...any) error {
		return errkind.InvalidArgument("invalid mount config for type %q: %s", r.Type, fmt.Sprintf(format, args...))
	}
	switch {
	case r.Target == "":
		return fail("field Target must not be empty")
	case path.Clean(r.Target) == "/":
		return fail("invalid specification: destination can't be '/'")
	case !path.IsAbs(r.Target):
		return fail("invalid mount path: '%s' mount path must be absolute", r.Target)
	}
	for _, o := range []struct {
		name  string
		given bool
		of    string
	}{
		{"BindOptions", r.Bind != nil, "bind"}, {"VolumeOptions", r.Volume != nil, "volume"}, {"ImageOptions", r.Image != nil, "image"}, {"TmpfsOptions", r.Tmpfs != nil, "tmpfs"},
	} {
		if o.given && o.of != r.Type && slices.Contains([]string{"bind", "volume", "tmpfs", "image"}, r.Type) {
			return fail("field %s must not be specified", o.name)
		}
	}
	var err error
	switch r.Type {
	case "bind":
		err = checkBind(r, sourceMustExist)
	case "volume":
		if v := r.Volume; v != nil && v.Subpath != "" {
			if r.Source == "" {
				err = errors.New("must not set Subpath when using anonymous volumes")
			} else if !filepath.IsLocal(v.Subpath) {
				err = errors.New("subpath must be a relative path within the volume")
			}
		}
	case "tmpfs":
		if r.Source != "" {
			err = errors.New("field Source must not be specified")
		} else {
			_, err = tmpfsData(r)
		}
	case "image":
		if r.Source == "" {
			err = errors.New("field Source must not be empty")
		} else if r.Image != nil && r.Image.Subpath != "" && !filepath.IsLocal(r.Image.Subpath) {
			err = errors.New("subpath must be a relative path within the volume")
		}
	default:
		err = errors.New("mount type unknown")
	}
	if err != nil {
		return fail("%s", err)
	}
	return nil
}

func checkBind(r MountRequest, sourceMustExist bool) error {
	switch b := r.Bind; {
	case r.Source == "":
		return errors.New("field Source must not be empty")
	case b != nil && b.Propagation != "" && !isPropagation(b.Propagation):
		return fmt.Errorf("invalid propagation mode: %s", b.Propagation)
	case b != nil && b.ReadOnlyNonRecursive && b.ReadOnlyForceRecursive:
		return errors.New("mount options conflict: must not set ReadOnlyNonRecursive and ReadOnlyForceRecursive at the same time")
	case !path.IsAbs(r.Source):
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", r.Source)
	}
	if !sourceMustExist || r.Bind != nil && r.Bind.CreateMountpoint {
		return nil
	}
	if _, err := os.Lstat(r.Source); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("bind source path does not exist: %s", r.Source)
	} else if err != nil {
		return err
	}
	return nil
}

// tmpfsData is the option string of a tmpfs mount.
func tmpfsData(r MountRequest) (string, error) {
	var out []string
	if r.ReadOnly {
		out = append(out, "ro")
	}
	t := r.Tmpfs
	if t == nil {
		return strings.Join(out, ","), nil
	}
	if t.Mode != 0 {
		out = append(out, "mode="+strconv.FormatUint(uint64(t.Mode), 8))
	}
	if t.SizeBytes != 0 {
		size, suffix := t.SizeBytes, ""
		for i, unit := range []int64{1 << 30, 1 << 20, 1 << 10} {
			if size%unit == 0 {
				size, suffix = size/unit, "gmk"[i:i+1]
				break
			}
		}
		out = append(out, "size="+strconv.FormatInt(size, 10)+suffix)
	}
	for _, o := range t.Options {
		if len(o) < 1 || len(o) > 2 {
			return "", errors.New("invalid option array length")
		}
		if o[0] != "exec" && o[0] != "noexec" {
			return "", errors.New("invalid option: " + o[0])
		}
		out = append(out, strings.Join(o, "="))
	}
	return strings.Join(out, ","), nil
}

// point is the mount that a request stands for. Volumes and images are not looked up yet.
func (r MountRequest) point(mode string) MountPoint {
	p := MountPoint{Type: r.Type, Destination: path.Clean(r.Target), Mode: mode, RW: !r.ReadOnly}
	switch r.Type {
	case "bind":
		p.Source, p.Propagation = path.Clean(r.Source), "rprivate"
		if b := r.Bind; b != nil {
			if b.Propagation != "" {
				p.Propagation = b.Propagation
			}
			p.NonRecursive, p.ReadOnlyNonRecursive, p.ReadOnlyForceRecursive = b.NonRecursive, b.ReadOnlyNonRecursive, b.ReadOnlyForceRecursive
		}
	case "volume":
		p.Name = r.Source
		if v := r.Volume; v != nil {
			p.NoCopy, p.Subpath = v.NoCopy || v.Subpath != "", v.Subpath
		}
	case "image":
		p.Name, p.RW = r.Source, false
		if r.Image != nil {
			p.Subpath = r.Image.Subpath
		}
	case "tmpfs":
		p.TmpfsData, _ = tmpfsData(r) // checked before
	}
	return p
}
