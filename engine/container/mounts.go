package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
	"github.com/berthd/berth/engine/internal/rootdir"
	"github.com/berthd/berth/engine/shim"
	"github.com/berthd/berth/engine/volume"
)

func duplicate(dst string) error { return errkind.InvalidArgument("Duplicate mount point: %s", dst) }

// points turns the user's mounts into mount points and makes the volumes they name. After an error the anonymous volumes
// made so far are among s.Storage.Points: the caller removes them.
func (m *Manager) points(ctx context.Context, id ID, s *Spec) error {
	s.Storage.Points = []MountPoint{}
	for dst := range s.Storage.Tmpfs {
		if !path.IsAbs(dst) {
			return errkind.InvalidArgument("invalid mount path: '%s' mount path must be absolute", dst)
		}
	}
	inherited, err := m.volumesFrom(s)
	if err != nil {
		return err
	}
	own := map[string]bool{}
	add := func(r MountRequest, mode string) error {
		p := r.point(mode)
		if _, tmpfs := s.Storage.Tmpfs[p.Destination]; tmpfs || own[p.Destination] {
			return duplicate(r.Target)
		}
		own[p.Destination] = true
		return m.addPoint(ctx, id, s, r, p)
	}
	for _, raw := range s.Storage.Binds {
		r, mode, err := parseBind(raw, s.Storage.VolumeDriver)
		if err != nil {
			return err
		}
		if err := add(r, mode); err != nil {
			return err
		}
	}
	for _, r := range s.Storage.Mounts {
		if err := checkMount(r, true); err != nil {
			return err
		}
		if err := add(r, ""); err != nil {
			return err
		}
		last := &s.Storage.Points[len(s.Storage.Points)-1]
		last.SkipMountpointCreation = r.Type == "bind" && (r.Bind == nil || !r.Bind.CreateMountpoint)
	}
	for _, p := range inherited {
		if !own[p.Destination] { // the container's own mounts win
			own[p.Destination] = true
			if p.Type == "volume" { // the other container may be removed before this one is made
				if _, err := m.d.Volumes.Create(ctx, volume.CreateOptions{Name: p.Name, Driver: p.Driver, Holder: string(id)}); err != nil {
					return err
				}
			}
			s.Storage.Points = append(s.Storage.Points, p)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(s.Storage.Volumes)) {
		d = path.Clean(d)
		if _, tmpfs := s.Storage.Tmpfs[d]; tmpfs || own[d] {
			continue
		}
		own[d] = true
		r := MountRequest{Type: "volume", Target: d, Volume: &VolumeOptions{HasDriver: true, DriverName: s.Storage.VolumeDriver}}
		if err := m.addPoint(ctx, id, s, r, r.point("")); err != nil {
			return err
		}
		s.Storage.Points[len(s.Storage.Points)-1].Mode = ""
	}
	return nil
}

// addPoint completes one mount point: its volume is made, its image looked up, and a source around the engine's own
// directory gets a propagation that cannot keep the engine's mounts busy.
func (m *Manager) addPoint(ctx context.Context, id ID, s *Spec, r MountRequest, p MountPoint) error {
	switch p.Type {
	case "bind":
		if root := filepath.Dir(m.d.Root); strings.HasPrefix(p.Source, root) || strings.HasPrefix(root, p.Source) {
			switch asked := r.Bind; {
			case asked == nil || asked.Propagation == "":
				p.Propagation, p.OwnPropagation = "rslave", true
			case asked.Propagation != "rslave" && asked.Propagation != "rshared":
				return errkind.InvalidArgument("invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q", root, p.Source, asked.Propagation)
			}
		}
	case "volume":
		o := volume.CreateOptions{Name: r.Source, Pending: r.Source == "", Holder: string(id)}
		if v := r.Volume; v != nil {
			o.Driver, o.Options, o.Labels = v.DriverName, v.DriverOptions, v.Labels
		}
		v, err := m.d.Volumes.Create(ctx, o)
		if err != nil {
			return err
		}
		p.Name, p.Source, p.Driver, p.Anonymous = v.Name, v.Mountpoint, v.Driver, r.Source == ""
		if p.Mode == "" && p.Driver == "local" {
			p.Mode = "z"
		}
	case "image":
		img, err := m.d.Images.Resolve(ctx, r.Source, nil)
		if err != nil {
			return err
		}
		p.Source = img.ID.String()
	}
	s.Storage.Points = append(s.Storage.Points, p)
	return nil
}

// volumesFrom collects the mount points of other containers.
func (m *Manager) volumesFrom(s *Spec) (out []MountPoint, err error) {
	for _, from := range s.Storage.VolumesFrom {
		ref, mode, given := strings.Cut(from, ":")
		if ref == "" {
			return nil, errkind.InvalidArgument("volumes-from specification cannot be an empty string")
		}
		words := strings.Split(mode, ",")
		if given && (mode == "" || !validMode(mode) || slices.ContainsFunc(words, func(w string) bool { return isPropagation(w) || w == "nocopy" })) {
			return nil, errkind.InvalidArgument("invalid mode: %s", mode)
		}
		d, err := m.Get(ref)
		if err != nil {
			return nil, errkind.InvalidArgument("%s", err)
		}
		for _, p := range d.Spec.Storage.Points {
			if p.Type == "tmpfs" {
				continue // it is the other container's own
			}
			p.RW, p.Anonymous, p.NoCopy, p.Mode = p.RW && !slices.Contains(words, "ro"), false, true, ""
			out = slices.DeleteFunc(out, func(o MountPoint) bool { return o.Destination == p.Destination })
			out = append(out, p)
		}
	}
	return out, nil
}

// dropAnonymous removes the anonymous volumes among the points of a container that could not be made.
func (m *Manager) dropAnonymous(ctx context.Context, points []MountPoint) (err error) {
	for _, p := range points {
		if p.Anonymous {
			err = errors.Join(err, m.d.Volumes.Remove(ctx, p.Name, true))
		}
	}
	return err
}

// populate fills the empty volumes among the mount points with what the image has there.
func (m *Manager) populate(ctx context.Context, id ID, points []MountPoint, dir string) (err error) {
	volumes := slices.DeleteFunc(slices.Clone(points), func(p MountPoint) bool { return p.Type != "volume" || p.NoCopy })
	if len(volumes) == 0 && dir == "" {
		return nil
	}
	bundle := m.d.Runtime.BundleDir(string(id))
	root := filepath.Join(bundle, "rootfs")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shim.RemoveBundle(bundle)) }()
	if err := m.d.Images.MountRootfs(ctx, string(id), root); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	if dir != "" {
		if err := makeDir(root, dir); err != nil {
			return err
		}
	}
	for _, p := range volumes {
		if err := m.d.Volumes.Populate(ctx, p.Name, root, p.Destination); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes the directory that a container works in.
func makeDir(root, dir string) error {
	r, err := rootdir.Open(root)
	if err != nil {
		return err
	}
	defer r.Close()
	if err = r.Ensure([]rootdir.Entry{{Path: dir, Dir: true}}); err == nil {
		_, err = r.Stat(dir + "/")
	}
	if errors.Is(err, unix.ENOTDIR) {
		return errkind.Internal("Cannot mkdir: %s is not a directory", dir)
	}
	return err
}

// mountVolumes makes the volumes of a container that starts ready. After an error unmountVolumes undoes what was done.
func (m *Manager) mountVolumes(ctx context.Context, s *Snapshot) error {
	for _, p := range s.Spec.Storage.Points {
		if p.Type != "volume" {
			continue
		}
		if err := m.d.Volumes.Mount(ctx, p.Name, string(s.ID)); err != nil {
			return err
		}
	}
	return nil
}

// holdVolumes notes the volumes of a container that runs already.
func (m *Manager) holdVolumes(ctx context.Context, s *Snapshot) (err error) {
	for _, p := range s.Spec.Storage.Points {
		if p.Type == "volume" {
			err = errors.Join(err, m.d.Volumes.Hold(ctx, p.Name, string(s.ID)))
		}
	}
	return err
}

func (m *Manager) unmountVolumes(ctx context.Context, s *Snapshot) (err error) {
	for _, p := range s.Spec.Storage.Points {
		if p.Type == "volume" {
			err = errors.Join(err, m.d.Volumes.Unmount(ctx, p.Name, string(s.ID)))
		}
	}
	return err
}
