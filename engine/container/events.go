package container

import (
	"strconv"
	"time"

	"github.com/berthd/berth/engine/event"
)

// publishJoined tells of what a start brought together: volumes, then networks.
func (m *Manager) publishJoined(s *Snapshot) {
	for _, p := range s.Spec.Storage.Points {
		m.publishVolume("mount", s, p, map[string]string{"destination": p.Destination, "propagation": p.Propagation, "read/write": strconv.FormatBool(p.RW)})
	}
	m.d.Networks.Event("connect", string(s.ID), s.Endpoints)
}

// publishLeft tells of what an end, or a start that failed, took apart. s is from before it.
func (m *Manager) publishLeft(s *Snapshot) {
	m.d.Networks.Event("disconnect", string(s.ID), s.Endpoints)
	for _, p := range s.Spec.Storage.Points {
		m.publishVolume("unmount", s, p, map[string]string{})
	}
}

func (m *Manager) publishVolume(action string, s *Snapshot, p MountPoint, attrs map[string]string) {
	if p.Type != "volume" {
		return
	}
	attrs["container"], attrs["driver"] = string(s.ID), p.Driver
	m.d.Events.Publish(event.Event{Type: event.Volume, Action: action, ID: p.Name, Attributes: attrs, Time: time.Now().UTC()})
}
