package container

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
)

// joins is what a container shares with others, decided at its start.
type joins struct {
	netNS, pidNS, ipcNS string    // files of the namespaces; "" = an own one or the host's, as the mode says
	netOwner            *Snapshot // whose hosts, hostname and resolv.conf are shared; nil: own files
	links               []linked
	shm                 string // directory on the host that becomes /dev/shm; "": a private tmpfs
}

// donor finds the container that a mode "container:x" names. ok is false for every other mode.
//
// Errors: ErrNotFound; ErrConflict if it does not run.
func (m *Manager) donor(mode string) (s *Snapshot, ok bool, err error) {
	ref, ok := strings.CutPrefix(mode, joinPrefix)
	if !ok {
		return nil, false, nil
	}
	if s, err = m.Get(ref); err != nil {
		return nil, true, err
	}
	switch {
	case s.State.Phase == Restarting:
		err = errkind.Conflict("Container %s is restarting, wait until the container is running", ref)
	case !s.State.Phase.Live():
		err = errkind.Conflict("container %s is not running", ref)
	}
	return s, true, err
}

// netDonor finds the container whose network s shares; nil if it shares none.
func (m *Manager) netDonor(s *Snapshot) (*Snapshot, error) {
	d, ok, err := m.donor(s.Spec.Network.Mode)
	switch {
	case !ok:
		return nil, nil //nolint:nilnil // nothing is shared
	case d == nil:
		// Not a missing container as far as the caller's own request goes.
		return nil, errkind.Internal("joining network namespace of container: %s", err)
	case d.ID == s.ID:
		return nil, errkind.InvalidArgument("cannot join own network namespace")
	case d.State.Phase == Restarting:
		return nil, fmt.Errorf("cannot join network namespace of container: %w", err)
	case err != nil:
		return nil, errkind.Conflict("cannot join network namespace of a non running container: container %s is %s", d.Name, d.State.Phase)
	}
	return d, nil
}

func nsFile(s *Snapshot, kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", s.State.Pid, kind) }

// resolveJoins looks up what a starting container shares. Nothing on the host changes.
func (m *Manager) resolveJoins(s *Snapshot) (j joins, err error) {
	if j.netOwner, err = m.netDonor(s); err != nil {
		return j, err
	}
	if j.netOwner != nil {
		j.netNS = nsFile(j.netOwner, "net")
	}
	if d, ok, err := m.donor(s.Spec.Namespaces.PID); err != nil {
		return j, errkind.Internal("failed to join PID namespace: %s", err)
	} else if ok {
		j.pidNS = nsFile(d, "pid")
	}
	if j.links, err = m.resolveLinks(s); err != nil {
		return j, err
	}
	d, ok, err := m.donor(s.Spec.Namespaces.IPC)
	switch {
	case err != nil:
		return j, fmt.Errorf("failed to join IPC namespace: %w", err)
	case ok && m.sharedMemory(d) == "":
		return j, errkind.InvalidArgument("failed to join IPC namespace: container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", d.ID)
	case ok:
		j.ipcNS, j.shm = nsFile(d, "ipc"), m.sharedMemory(d)
	default:
		j.shm = m.sharedMemory(s)
	}
	return j, nil
}

// sharedMemory is the host directory behind /dev/shm of a container that lets others in, "" for one that does not.
func (m *Manager) sharedMemory(s *Snapshot) string {
	switch mode := s.Spec.Namespaces.IPC; mode {
	case "host":
		return "/dev/shm"
	case "shareable":
		return m.shmDir(s.ID)
	default:
		if d, ok, err := m.donor(mode); ok && err == nil && d.ID != s.ID {
			return m.sharedMemory(d)
		}
	}
	return ""
}

// shmDir is where the shared memory of a container that lets others in is mounted on the host; RemoveBundle unmounts it.
func (m *Manager) shmDir(id ID) string {
	return filepath.Join(m.d.Runtime.BundleDir(string(id)), "shm")
}

// mountShm mounts it with the given size in bytes.
func mountShm(dir string, size int64) error {
	if err := unix.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("shared memory: %w", err)
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", size)); err != nil {
		return fmt.Errorf("shared memory: %w", err)
	}
	return nil
}

// conflicts refuses contradictory pairs in what the user said; called before the image's configuration is merged.
func conflicts(s *Spec) error {
	n := s.Network
	joined, host := strings.HasPrefix(n.Mode, "container:"), n.Mode == "host"
	switch {
	case s.Namespaces.UTS == "host" && s.Hostname != "":
		return errkind.InvalidArgument("conflicting options: hostname and the UTS mode")
	case host && len(n.Links) > 0:
		return errkind.InvalidArgument("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	case !joined:
		return nil
	case s.Hostname != "":
		return errkind.InvalidArgument("conflicting options: hostname and the network mode")
	case len(n.Links) > 0:
		return errkind.InvalidArgument("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(n.DNS) > 0:
		return errkind.InvalidArgument("conflicting options: dns and the network mode")
	case len(n.ExtraHosts) > 0:
		return errkind.InvalidArgument("conflicting options: custom host-to-IP mapping and the network mode")
	case len(n.PortBindings) > 0 || n.PublishAll:
		return errkind.InvalidArgument("conflicting options: port publishing and the container type network mode")
	case len(n.ExposedPorts) > 0:
		return errkind.InvalidArgument("conflicting options: port exposing and the container type network mode")
	}
	return nil
}
