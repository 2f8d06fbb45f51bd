package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/engine/internal/errkind"
)

// User is a resolved user.
type User struct {
	UID, GID uint32
	Groups   []uint32 // always contains GID
	Home     string
}

// maxDatabase bounds /etc/passwd and /etc/group of an image, in bytes.
const maxDatabase = 10 << 20

// LookupUser resolves a user by the files of the root file system at root. Links are followed inside the root only; only
// regular files are read.
func LookupUser(root, spec string, groups []string) (User, error) {
	passwd, err := openIn(root, "etc/passwd")
	if err != nil {
		return User{}, err
	}
	defer passwd.Close()
	group, err := openIn(root, "etc/group")
	if err != nil {
		return User{}, err
	}
	defer group.Close()
	eu, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, io.LimitReader(passwd, maxDatabase), io.LimitReader(group, maxDatabase))
	if err != nil {
		return User{}, err
	}
	u := User{UID: uint32(eu.Uid), GID: uint32(eu.Gid), Home: eu.Home}
	add := func(g uint32) {
		for _, have := range u.Groups {
			if have == g {
				return
			}
		}
		u.Groups = append(u.Groups, g)
	}
	add(u.GID)
	for _, g := range eu.Sgids {
		add(uint32(g))
	}
	if len(groups) > 0 {
		g2, err := openIn(root, "etc/group")
		if err != nil {
			return User{}, err
		}
		defer g2.Close()
		more, err := user.GetAdditionalGroups(groups, io.LimitReader(g2, maxDatabase))
		if err != nil {
			return User{}, err
		}
		for _, g := range more {
			add(uint32(g))
		}
	}
	return u, nil
}

// openIn opens a regular file below root; a missing one reads as empty.
func openIn(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return os.Open(os.DevNull)
	}
	f := os.NewFile(uintptr(fd), path)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errkind.InvalidArgument("/%s of the image is no regular file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// homeOr is HOME for a user without an entry.
func (u User) homeOr() string {
	if u.Home == "" {
		return "/"
	}
	return u.Home
}

// String is uid:gid.
func (u User) String() string {
	return strconv.Itoa(int(u.UID)) + ":" + strconv.Itoa(int(u.GID))
}
