#define _GNU_SOURCE
#include "stage.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char executable[PATH_MAX];

void op_rlimit(struct cursor *c)
{
	int what = (int)take32(c);
	struct rlimit r = { .rlim_cur = take64(c) };
	r.rlim_max = take64(c);
	if (setrlimit(what, &r) < 0)
		die(CAUSE_OTHER, errno, "error setting rlimits for ready process: error setting rlimit type %d", what);
}

// A keyring by name, so that execs share it with init. Kernels without keyrings have nothing to keep apart.
void op_keyring(struct cursor *c)
{
	const char *name = take_string(c);
	uint32_t add = take32(c);
	char about[512];
	long id = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name);
	if (id < 0) {
		if (errno == ENOSYS)
			return;
		die(CAUSE_OTHER, errno, "unable to join session keyring");
	}
	if (!add)
		return;
	long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, id, about, sizeof about - 1);
	if (n < 0 || n >= (long)sizeof about)
		die(CAUSE_OTHER, errno, "unable to mod keyring permissions");
	about[n] = 0;
	char *f = about; // type;uid;gid;permissions;name
	for (int i = 0; i < 3 && f; i++)
		f = strchr(f, ';') ? strchr(f, ';') + 1 : NULL;
	if (!f || syscall(SYS_keyctl, KEYCTL_SETPERM, id, (uint32_t)strtoul(f, NULL, 16) | add) < 0)
		die(CAUSE_OTHER, f ? errno : 0, "unable to mod keyring permissions");
}

void op_seccomp(struct cursor *c)
{
	uint32_t flags = take32(c), n;
	const void *b = take_bytes(c, &n);
	struct sock_filter *filter = malloc(n); // aligned
	if (!filter)
		die(CAUSE_OTHER, ENOMEM, "unable to init seccomp");
	memcpy(filter, b, n);
	struct sock_fprog prog = { .len = n / sizeof *filter, .filter = filter };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) < 0)
		die(CAUSE_OTHER, errno, "unable to init seccomp");
}

// A terminal must belong to its user. Where the owner cannot be changed it is left.
static void own_stdio(uid_t uid)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		if (fstat(fd, &st) < 0)
			die(CAUSE_OTHER, errno, "fstat stdio");
		if (st.st_uid == uid || is_dev_null(fd))
			continue;
		if (fchown(fd, uid, -1) < 0 && errno != EPERM && errno != EROFS)
			die(CAUSE_OTHER, errno, "chown stdio");
	}
}

static void change_dir(const char *cwd)
{
	if (chdir(cwd) < 0)
		die(CAUSE_OTHER, errno, "chdir to cwd (\"%s\") set in config.json failed", cwd);
}

// Payload: cwd, uid, gid, u64 bounding, effective, permitted, inheritable, ambient, n × group.
void op_user(struct cursor *c)
{
	const char *cwd = take_string(c);
	uid_t uid = take32(c);
	gid_t gid = take32(c);
	uint64_t bounding = take64(c), effective = take64(c), permitted = take64(c), inheritable = take64(c), ambient = take64(c);
	uint32_t n = take32(c);
	gid_t *groups = calloc(n ? n : 1, sizeof *groups);
	char here[PATH_MAX];

	if (!groups)
		die(CAUSE_OTHER, ENOMEM, "unable to setup user");
	for (uint32_t i = 0; i < n; i++)
		groups[i] = take32(c);
	// First as what we are; a directory that only the user may enter is tried again below.
	int later = chdir(cwd) < 0;
	if (later && errno != EACCES && errno != EPERM)
		change_dir(cwd);
	for (unsigned cap = 0; cap < 64; cap++) {
		int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (has < 0)
			break; // past the last one
		if (has && !(bounding >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			die(CAUSE_OTHER, errno, "unable to apply bounding set");
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		die(CAUSE_OTHER, errno, "unable to set keep caps");
	own_stdio(uid);
	if (syscall(SYS_setgroups, n, groups) < 0)
		die(CAUSE_OTHER, errno, "unable to setup user: setgroups");
	if (syscall(SYS_setresgid, gid, gid, gid) < 0)
		die(CAUSE_OTHER, errno, "unable to setup user: setgid");
	if (syscall(SYS_setresuid, uid, uid, uid) < 0)
		die(CAUSE_OTHER, errno, "unable to setup user: setuid");
	if (later)
		change_dir(cwd);
	// The kernel says "(unreachable)" of a directory outside the root.
	if (syscall(SYS_getcwd, here, sizeof here) < 0 || here[0] != '/')
		die(CAUSE_OTHER, 0, "current working directory is outside of container mount namespace root -- possible container breakout detected");
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		die(CAUSE_OTHER, errno, "unable to clear keep caps");

	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ effective >> 32, permitted >> 32, inheritable >> 32 },
	};
	if (syscall(SYS_capset, &head, data) < 0)
		die(CAUSE_OTHER, errno, "unable to apply caps: can't apply capabilities");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		die(CAUSE_OTHER, errno, "unable to apply caps");
	for (unsigned cap = 0; cap < 64; cap++)
		if (ambient >> cap & 1)
			(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0); // as libcontainer, a warning at most
	free(groups);
}

// try says whether file can be executed by the user we are now: 0, or one of the causes with errno set.
static int try(const char *file)
{
	struct stat st;
	if (stat(file, &st) < 0)
		return CAUSE_STAT;
	if (S_ISDIR(st.st_mode))
		return errno = EISDIR, CAUSE_DIRECTORY;
	if (syscall(SYS_faccessat2, AT_FDCWD, file, X_OK, AT_EACCESS) == 0)
		return 0;
	if (errno != ENOSYS && errno != EPERM)
		return CAUSE_ACCESS;
	return st.st_mode & 0111 ? 0 : (errno = EACCES, CAUSE_ACCESS);
}

void op_lookup(struct cursor *c)
{
	const char *file = take_string(c), *path = take_string(c);
	if (strchr(file, '/')) {
		int cause = try(file);
		if (cause)
			die(cause, errno, "%s", file);
		if (strlen(file) >= sizeof executable)
			die(CAUSE_STAT, ENAMETOOLONG, "%s", file);
		strcpy(executable, file);
		return;
	}
	while (*file) {
		const char *end = strchrnul(path, ':');
		int n = (int)(end - path);
		int l = n ? snprintf(executable, sizeof executable, "%.*s/%s", n, path, file) : snprintf(executable, sizeof executable, "./%s", file);
		if (l > 0 && (size_t)l < sizeof executable && try(executable) == 0) {
			if (executable[0] != '/')
				die(CAUSE_RELATIVE, 0, "%s", file);
			return;
		}
		if (!*end)
			break;
		path = end + 1;
	}
	die(CAUSE_PATH, ENOENT, "%s", file);
}

static char **strings(struct cursor *c)
{
	uint32_t n = take32(c);
	char **v = calloc((size_t)n + 1, sizeof *v);
	if (!v)
		die(CAUSE_OTHER, ENOMEM, "exec");
	for (uint32_t i = 0; i < n; i++)
		v[i] = (char *)take_string(c);
	return v;
}

// Whoever started the process has been told that it runs, so what goes wrong here is told to the user where the process's
// own words would appear, with the exit code that libcontainer has for it.
void op_exec(struct cursor *c)
{
	char **argv = strings(c), **envp = strings(c);
	// Only the control socket is left open; its end tells the shim that the exec is over.
	(void)syscall(SYS_close_range, STAGE_PLAN_FD, ~0U, 0); // a filter may forbid it; all is close-on-exec as well
	execve(executable, argv, envp);
	char why[128];
	snprintf(why, sizeof why, "%s", strerror(errno));
	why[0] = (char)tolower((unsigned char)why[0]);
	dprintf(2, "exec %s: %s\n", executable, why);
	_exit(255);
}
