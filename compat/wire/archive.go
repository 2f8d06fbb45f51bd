package wire

import (
	api "github.com/docker/docker/api/types/container"

	domain "github.com/berthd/berth/engine/container"
)

// PathStat is a file's description on the wire; the mode is Go's, not the kernel's.
func PathStat(i *domain.FileInfo) api.PathStat {
	return api.PathStat{Name: i.Name, Size: i.Size, Mode: i.Mode, Mtime: i.ModTime, LinkTarget: i.Target}
}
