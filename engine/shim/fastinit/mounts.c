#define _GNU_SOURCE
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#define PROPAGATION_PRIVATE (1 << 18)
#define PROPAGATION_SLAVE (1 << 19)
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static int root = -1;      // root of the container while it is built
static int proc_root = -1; // the procfs mounted for it

static int set_attr(int fd, const char *path, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation)
{
	struct mount_attr a = { .attr_set = set, .attr_clr = clear, .propagation = propagation };
	return (int)syscall(SYS_mount_setattr, fd, path, flags, &a, sizeof a);
}

static int attach(int mnt, int target)
{
	return (int)syscall(SYS_move_mount, mnt, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static int tree_of(int fd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

static int resolve(int dir, const char *path, uint64_t flags, uint64_t how)
{
	struct open_how h = { .flags = flags | O_CLOEXEC, .resolve = how };
	int fd = -1;
	for (int i = 0; i < 128; i++) { // EAGAIN: something was renamed meanwhile
		fd = (int)syscall(SYS_openat2, dir, path, &h, sizeof h);
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd;
}

// Links are followed, but never out of the container's root.
static int in_root(const char *path, uint64_t flags)
{
	return resolve(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

// make walks path inside the root one component at a time, follows links itself and creates what is absent: directories,
// and a regular file at the end if want says so. It holds a descriptor of every directory on its way, so nothing that
// happens to the tree meanwhile can lead it outside. It returns a descriptor, or -1 and errno.
static int make(const char *path, mode_t want)
{
	enum { DEPTH = 128, LINKS = 40 };
	static char todo[2 * PATH_MAX], link[PATH_MAX];
	int at[DEPTH], n = 0, links = 0, err = 0, found = -1;

	if (strlen(path) >= PATH_MAX)
		return errno = ENAMETOOLONG, -1;
	strcpy(todo, path);
	at[0] = root;
	char *rest = todo;
	while (found < 0) {
		while (*rest == '/')
			rest++;
		if (*rest == 0) {
			found = fcntl(at[n], F_DUPFD_CLOEXEC, 3);
			break;
		}
		char *name = rest, *after = strchrnul(rest, '/');
		rest = after;
		if (*rest) {
			*rest++ = 0;
			while (*rest == '/')
				rest++;
		}
		int last = *rest == 0;
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			if (n > 0)
				close(at[n--]);
			continue;
		}
		int fd = openat(at[n], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT) {
			if (last && S_ISREG(want)) {
				int f = openat(at[n], name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
				if (f >= 0)
					close(f);
			} else {
				(void)mkdirat(at[n], name, 0755); // the next call tells
			}
			fd = openat(at[n], name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		}
		struct stat st;
		if (fd < 0 || fstat(fd, &st) < 0) {
			err = errno;
			break;
		}
		if (S_ISLNK(st.st_mode)) {
			ssize_t l = readlinkat(fd, "", link, sizeof link - 1);
			close(fd);
			if (l <= 0 || ++links > LINKS || (size_t)l + strlen(rest) + 2 > sizeof todo) {
				err = ELOOP;
				break;
			}
			link[l] = 0;
			if (link[0] == '/')
				while (n > 0)
					close(at[n--]);
			static char joined[sizeof todo];
			snprintf(joined, sizeof joined, "%s/%s", link, rest);
			strcpy(todo, joined);
			rest = todo;
			continue;
		}
		if (last) {
			found = fd;
			break;
		}
		if (!S_ISDIR(st.st_mode) || n + 1 == DEPTH) {
			close(fd);
			err = S_ISDIR(st.st_mode) ? ENAMETOOLONG : ENOTDIR;
			break;
		}
		at[++n] = fd;
	}
	while (n > 0)
		close(at[n--]);
	if (found < 0)
		errno = err;
	return found;
}

// target finds or makes the place of a mount and refuses those that would cover the root or what procfs tells.
static int target(const char *source, const char *path, mode_t want, int *existed)
{
	struct stat st, top;
	struct statfs fs;
	int fd = in_root(path, O_PATH);
	*existed = fd >= 0;
	if (fd < 0 && errno == ENOENT)
		fd = make(path, want);
	if (fd < 0 || fstat(fd, &st) < 0 || fstat(root, &top) < 0 || fstatfs(fd, &fs) < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\": create mountpoint", source, path);
	if (st.st_dev == top.st_dev && st.st_ino == top.st_ino)
		die(CAUSE_OTHER, 0, "error mounting \"%s\" to rootfs at \"%s\": mountpoint is on the top of rootfs", source, path);
	if (fs.f_type == PROC_SUPER_MAGIC)
		die(CAUSE_OTHER, 0, "error mounting \"%s\" to rootfs at \"%s\": \"%s\" cannot be mounted because it is inside /proc", source, path, path);
	return fd;
}

void op_root(struct cursor *c)
{
	const char *path = take_string(c);
	if (set_attr(AT_FDCWD, "/", AT_RECURSIVE, 0, 0, PROPAGATION_SLAVE) < 0)
		die(CAUSE_OTHER, errno, "error preparing rootfs: make mounts slaves");
	root = tree_of(AT_FDCWD, path, AT_RECURSIVE);
	if (root < 0)
		die(CAUSE_OTHER, errno, "error preparing rootfs: open %s", path);
	if (syscall(SYS_move_mount, root, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		die(CAUSE_OTHER, errno, "error preparing rootfs: mount %s", path);
}

static void propagate(int mnt, struct cursor *c)
{
	for (uint32_t n = take32(c); n > 0; n--) {
		uint64_t p = take64(c);
		if (set_attr(mnt, "", AT_EMPTY_PATH | (take32(c) ? AT_RECURSIVE : 0), 0, 0, p) < 0)
			die(CAUSE_OTHER, errno, "change mount propagation");
	}
}

static int new_fs(const char *type, const char *source)
{
	int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0) < 0) {
		close(fs);
		return -1;
	}
	return fs;
}

static int option(int fs, const char *o)
{
	char key[128];
	const char *eq = strchr(o, '=');
	if (!eq)
		return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, o, NULL, 0);
	if ((size_t)(eq - o) >= sizeof key)
		return errno = EINVAL, -1;
	memcpy(key, o, eq - o);
	key[eq - o] = 0;
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, eq + 1, 0);
}

// Payload: type, source, path, strict (the path must be a plain directory), u64 attributes, n × option, n × (u64 propagation,
// recursive).
void op_mount(struct cursor *c)
{
	const char *type = take_string(c), *source = take_string(c), *path = take_string(c);
	uint32_t strict = take32(c);
	uint64_t attr = take64(c);
	int existed = 0, at;

	if (strict) { // no links at all: what is at /proc and /sys is relied on
		at = resolve(root, path + 1, O_PATH | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
		if (at < 0 && errno == ENOENT)
			at = make(path, S_IFDIR);
		struct stat st;
		if (at < 0 || fstat(at, &st) < 0 || !S_ISDIR(st.st_mode))
			die(CAUSE_OTHER, 0, "error mounting \"%s\" to rootfs at \"%s\": filesystem \"%s\" must be mounted on ordinary directory", source, path, type);
	} else {
		at = target(source, path, S_IFDIR, &existed);
	}
	int fs = new_fs(type, source);
	int ok = fs >= 0;
	if (ok && existed && strcmp(type, "tmpfs") == 0) {
		struct stat st;
		char mode[16];
		ok = fstat(at, &st) == 0;
		snprintf(mode, sizeof mode, "mode=%04o", st.st_mode & 07777);
		ok = ok && option(fs, mode) == 0;
	}
	for (uint32_t n = take32(c); n > 0; n--) {
		const char *o = take_string(c);
		ok = ok && option(fs, o) == 0;
	}
	int mnt = -1;
	if (ok && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	if (mnt < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\"", source, path);
	close(fs);
	propagate(mnt, c);
	if (attach(mnt, at) < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\"", source, path);
	close(at);
	if (strcmp(type, "proc") == 0 && proc_root < 0)
		proc_root = mnt;
	else
		close(mnt);
}

// Payload: source, path, recursive, u64 attributes to set, u64 to clear, u64 and u64 the same for everything below, n ×
// (u64 propagation, recursive).
void op_bind(struct cursor *c)
{
	const char *source = take_string(c), *path = take_string(c);
	uint32_t recursive = take32(c);
	uint64_t set = take64(c), clear = take64(c), rset = take64(c), rclear = take64(c);
	struct stat st;
	int existed;

	int mnt = tree_of(AT_FDCWD, source, recursive ? AT_RECURSIVE : 0);
	if (mnt < 0 || fstat(mnt, &st) < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\": open %s", source, path, source);
	int at = target(source, path, S_ISDIR(st.st_mode) ? S_IFDIR : S_IFREG, &existed);
	propagate(mnt, c);
	if ((set | clear) && set_attr(mnt, "", AT_EMPTY_PATH, set, clear, 0) < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\": set flags", source, path);
	if ((rset | rclear) && set_attr(mnt, "", AT_EMPTY_PATH | AT_RECURSIVE, rset, rclear, 0) < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\": set recursive flags", source, path);
	if (attach(mnt, at) < 0)
		die(CAUSE_OTHER, errno, "error mounting \"%s\" to rootfs at \"%s\"", source, path);
	close(mnt);
	close(at);
}

// parent opens the directory that holds path, made if need be, and finds the name in it.
static int parent(const char *path, const char **name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash || (size_t)(slash - path) >= sizeof dir)
		die(CAUSE_OTHER, EINVAL, "%s", path);
	memcpy(dir, path, slash - path);
	dir[slash - path] = 0;
	*name = slash + 1;
	int fd = in_root(dir[0] ? dir : "/", O_PATH | O_DIRECTORY);
	if (fd < 0 && errno == ENOENT)
		fd = make(dir, S_IFDIR);
	if (fd < 0)
		die(CAUSE_OTHER, errno, "mkdir parent of %s", path);
	return fd;
}

void op_node(struct cursor *c)
{
	const char *path = take_string(c), *name;
	mode_t mode = take32(c);
	uint32_t major = take32(c), minor = take32(c);
	uid_t uid = take32(c);
	gid_t gid = take32(c);
	int dir = parent(path, &name);
	if (mknodat(dir, name, mode, makedev(major, minor)) < 0) {
		if (errno != EEXIST)
			die(CAUSE_OTHER, errno, "error creating device nodes: mknodat %s", path);
	} else if ((uid || gid) && fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0) {
		die(CAUSE_OTHER, errno, "error creating device nodes: chown %s", path);
	}
	close(dir);
}

void op_link(struct cursor *c)
{
	const char *text = take_string(c), *path = take_string(c), *name;
	int dir = parent(path, &name);
	if (symlinkat(text, dir, name) < 0 && errno != EEXIST)
		die(CAUSE_OTHER, errno, "symlink %s", path);
	close(dir);
}

void op_unlink(struct cursor *c)
{
	const char *path = take_string(c), *name;
	int dir = parent(path, &name);
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		die(CAUSE_OTHER, errno, "unlink %s", path);
	close(dir);
}

// With the same directory as new root and as place of the old one, the old one ends up on top of the new and can be
// unmounted from there. Its mounts are slaves since op_root, so nothing reaches the host.
void op_pivot(void)
{
	int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (old < 0 || fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || fchdir(old) < 0 || syscall(SYS_umount2, ".", MNT_DETACH) < 0 || chdir("/") < 0)
		die(CAUSE_OTHER, errno, "error jailing process inside rootfs: pivot_root");
	close(old);
	close(host_proc);
	host_proc = proc_root; // good enough for what is left to do
}

int is_dev_null(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

void op_dev_null(void)
{
	int fd = -1;
	for (int i = 0; i < 3; i++) {
		if (!is_dev_null(i))
			continue;
		if (fd < 0) {
			fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
			if (fd < 0 || !is_dev_null(fd))
				die(CAUSE_OTHER, fd < 0 ? errno : 0, "error reopening /dev/null inside container: container's /dev/null is invalid");
		}
		if (dup2(fd, i) < 0)
			die(CAUSE_OTHER, errno, "error reopening /dev/null inside container");
	}
	if (fd >= 0)
		close(fd);
}

// Not by path: a working directory that an image names may lead through /proc/self/fd. What only a magic link leads to is
// not made; entering it, later and with nothing of the host open, tells.
void op_mkdirs(struct cursor *c)
{
	const char *path = take_string(c);
	int fd = in_root(path, O_PATH | O_DIRECTORY);
	if (fd < 0 && errno == ELOOP)
		return;
	if (fd < 0 && errno == ENOENT)
		fd = make(path, S_IFDIR);
	if (fd < 0)
		die(CAUSE_OTHER, errno, "mkdir %s", path);
	close(fd);
}

// new_terminal opens a pair on the container's own devpts. What lies at /dev/pts/ptmx may be the container's doing, so it is
// examined before it is opened.
static int new_terminal(int *peer)
{
	struct stat st;
	struct statfs fs;
	char link[32];
	int zero = 0;
	int fd = resolve(AT_FDCWD, "/dev/pts/ptmx", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		die(CAUSE_OTHER, errno, "open /dev/pts/ptmx");
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		die(CAUSE_OTHER, errno, "verify ptmx handle");
	if (fs.f_type != DEVPTS_SUPER_MAGIC || st.st_ino != 2 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
		die(CAUSE_OTHER, 0, "verify ptmx handle: ptmx handle is not a real char ptmx device");
	snprintf(link, sizeof link, "self/fd/%d", fd);
	int master = openat(host_proc, link, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &zero) < 0)
		die(CAUSE_OTHER, errno, "reopen ptmx to get new pty pair");
	close(fd);
	*peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*peer < 0)
		die(CAUSE_OTHER, errno, "failed to get peer end of newly-allocated console");
	return master;
}

void op_console(struct cursor *c)
{
	uint32_t mount = take32(c);
	struct winsize size = { .ws_row = take32(c) };
	size.ws_col = take32(c);
	int peer, master = new_terminal(&peer);
	if (size.ws_row && size.ws_col && ioctl(master, TIOCSWINSZ, &size) < 0)
		die(CAUSE_OTHER, errno, "set the console's size");
	if (mount) {
		int at = open("/dev/console", O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
		int mnt = tree_of(peer, "", AT_EMPTY_PATH);
		if (at < 0 || mnt < 0 || attach(mnt, at) < 0)
			die(CAUSE_OTHER, errno, "create /dev/console mount target");
		close(at);
		close(mnt);
	}
	send_message(MSG_CONSOLE, 0, master);
	close(master);
	for (int i = 0; i < 3; i++)
		if (dup2(peer, i) < 0)
			die(CAUSE_OTHER, errno, "dup console");
	if (peer > 2)
		close(peer);
	if (ioctl(0, TIOCSCTTY, 0) < 0)
		die(CAUSE_OTHER, errno, "ioctl(setctty)");
}

void op_seal(struct cursor *c)
{
	const char *path = take_string(c);
	if (set_attr(AT_FDCWD, path, 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
		die(CAUSE_OTHER, errno, "error setting %s as readonly", path);
}

// Through the procfs that was mounted here, so that nothing put into its place is written to.
void op_sysctl(struct cursor *c)
{
	const char *path = take_string(c), *value = take_string(c);
	int fd = resolve(proc_root, path, O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
	if (fd < 0)
		die(CAUSE_OTHER, errno, "open /proc/%s", path);
	ssize_t n = (ssize_t)strlen(value);
	if (write(fd, value, n) != n)
		die(CAUSE_OTHER, errno, "write /proc/%s", path);
	close(fd);
}

void op_readonly(struct cursor *c)
{
	const char *path = take_string(c);
	int at = open(path, O_PATH | O_CLOEXEC);
	if (at < 0) {
		if (errno == ENOENT)
			return;
		die(CAUSE_OTHER, errno, "can't make \"%s\" read-only", path);
	}
	int mnt = tree_of(at, "", AT_EMPTY_PATH | AT_RECURSIVE);
	if (mnt < 0 || set_attr(mnt, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY, 0, 0) < 0 || attach(mnt, at) < 0)
		die(CAUSE_OTHER, errno, "can't make \"%s\" read-only", path);
	close(mnt);
	close(at);
}

// An empty directory for masks; some kernels want two inodes for it.
static int empty_dir(void)
{
	for (int inodes = 1; inodes <= 2; inodes++) {
		int fs = new_fs("tmpfs", "tmpfs"), mnt = -1;
		if (fs >= 0 && option(fs, "ro") == 0 && option(fs, "nr_blocks=1") == 0 && option(fs, inodes == 1 ? "nr_inodes=1" : "nr_inodes=2") == 0 &&
		    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
			mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
		close(fs);
		if (mnt >= 0)
			return mnt;
	}
	return -1;
}

void op_mask(struct cursor *c)
{
	struct stat st;
	int null = open("/dev/null", O_PATH | O_CLOEXEC), empty = -1;
	if (null < 0 || !is_dev_null(null))
		die(CAUSE_OTHER, null < 0 ? errno : 0, "can't mask paths: container's /dev/null is invalid");
	for (uint32_t n = take32(c); n > 0; n--) {
		const char *path = take_string(c);
		int mnt, at = open(path, O_PATH | O_CLOEXEC);
		if (at < 0 && errno == ENOENT)
			continue;
		if (at < 0 || fstat(at, &st) < 0)
			die(CAUSE_OTHER, errno, "can't mask path \"%s\"", path);
		if (!S_ISDIR(st.st_mode)) {
			mnt = tree_of(null, "", AT_EMPTY_PATH);
		} else if (empty < 0) {
			mnt = empty = empty_dir();
		} else {
			mnt = tree_of(empty, "", AT_EMPTY_PATH);
		}
		if (mnt < 0 || attach(mnt, at) < 0)
			die(CAUSE_OTHER, errno, "can't mask path \"%s\"", path);
		close(at);
		if (mnt != empty)
			close(mnt);
	}
	if (empty >= 0)
		close(empty);
	close(null);
}
