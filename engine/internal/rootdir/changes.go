package rootdir

import (
	"archive/tar"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind of a Change. The numbers are those of the Docker API.
type Kind int

// What became of a file.
const (
	Modified Kind = iota
	Added
	Deleted
)

// Change is one difference between a tree and what it started from.
type Change struct {
	Path string // absolute in the root
	Kind Kind
}

// Changes compares the upper directory of an overlay, which the root is, with the tree below it. Directories above a change
// are changed; a directory otherwise only if its owner, mode or time differ. A removed directory counts once. Sorted by path.
func (r *Root) Changes(ctx context.Context, lower *Root) ([]Change, error) {
	c := &comparison{ctx: ctx, lower: lower}
	if _, err := c.below(r.fd, "/", true, false); err != nil {
		return nil, err
	}
	slices.SortFunc(c.out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return c.out, nil
}

type comparison struct {
	ctx   context.Context
	lower *Root
	out   []Change
}

// below compares the entries of a directory and tells whether any differs. there: the lower tree has this directory too;
// opaque: nothing of it is seen.
func (c *comparison) below(dir int, p string, there, opaque bool) (bool, error) {
	names, err := readNames(dir)
	if err != nil {
		return false, err
	}
	changed := false
	for _, n := range names {
		if err := c.ctx.Err(); err != nil {
			return false, context.Cause(c.ctx)
		}
		diff, err := c.entry(dir, n, path.Join(p, n), there)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return false, err
		}
		changed = changed || diff
	}
	if !there || !opaque {
		return changed, nil
	}
	fd, err := c.lower.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	old, err := readNames(fd)
	if err != nil {
		return false, err
	}
	for _, n := range old {
		if !slices.Contains(names, n) {
			c.out = append(c.out, Change{path.Join(p, n), Deleted})
			changed = true
		}
	}
	return changed, nil
}

func (c *comparison) entry(dir int, name, p string, there bool) (bool, error) {
	var now, was unix.Stat_t
	if err := unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if there {
		up, base, err := c.lower.parent(p)
		if err == nil {
			err = unix.Fstatat(up, base, &was, unix.AT_SYMLINK_NOFOLLOW)
			_ = unix.Close(up) // only looked at
		}
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return false, err
		}
		there = err == nil
	}
	kind := now.Mode & unix.S_IFMT
	if kind == unix.S_IFCHR && now.Rdev == 0 {
		if there {
			c.out = append(c.out, Change{p, Deleted})
		}
		return there, nil
	}
	if !there {
		c.out = append(c.out, Change{p, Added})
	} else if differ(&now, &was) {
		c.out = append(c.out, Change{p, Modified})
	} else if kind != unix.S_IFDIR {
		return false, nil // copied up, but not changed
	}
	if kind != unix.S_IFDIR {
		return true, nil
	}
	at := len(c.out)
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	opaque, err := attributes(fd, &tar.Header{})
	if err != nil {
		return false, err
	}
	dirThere := there && was.Mode&unix.S_IFMT == unix.S_IFDIR
	inner, err := c.below(fd, p, dirThere, opaque)
	if err != nil {
		return false, err
	}
	own := at > 0 && c.out[at-1].Path == p
	if inner && !own {
		c.out = append(c.out, Change{p, Modified})
	}
	return inner || own, nil
}

func differ(a, b *unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim {
		return true
	}
	return a.Mode&unix.S_IFMT != unix.S_IFDIR && (a.Size != b.Size || a.Rdev != b.Rdev)
}
