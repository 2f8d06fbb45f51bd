#define _GNU_SOURCE
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int host_proc = -1;

static mode_t inherited_umask;

// A plan comes from the shim, so a short one is a bug there, not an attack.
static void need(struct cursor *c, size_t n)
{
	if ((size_t)(c->end - c->p) < n)
		die(CAUSE_OTHER, EBADMSG, "plan");
}

uint32_t take32(struct cursor *c)
{
	uint32_t v;
	need(c, sizeof v);
	memcpy(&v, c->p, sizeof v);
	c->p += sizeof v;
	return v;
}

uint64_t take64(struct cursor *c)
{
	uint64_t v;
	need(c, sizeof v);
	memcpy(&v, c->p, sizeof v);
	c->p += sizeof v;
	return v;
}

const void *take_bytes(struct cursor *c, uint32_t *n)
{
	const void *b;
	*n = take32(c);
	need(c, (size_t)*n + 1);
	b = c->p;
	c->p += (size_t)*n + 1;
	return b;
}

const char *take_string(struct cursor *c)
{
	uint32_t n;
	return take_bytes(c, &n);
}

// After the filter is in force only write is needed here; sendmsg carries the console, which comes before it.
void send_message(int kind, int value, int fd)
{
	struct message m = { .kind = kind, .value = value };
	size_t n = offsetof(struct message, text);
	if (fd < 0) {
		if (write(STAGE_CONTROL_FD, &m, n) != (ssize_t)n)
			_exit(1); // nobody listens
		return;
	}
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = { { 0 } };
	struct iovec iov = { &m, n };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b };
	struct cmsghdr *ch = CMSG_FIRSTHDR(&h);
	ch->cmsg_level = SOL_SOCKET;
	ch->cmsg_type = SCM_RIGHTS;
	ch->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(ch), &fd, sizeof fd);
	if (sendmsg(STAGE_CONTROL_FD, &h, 0) != (ssize_t)n)
		_exit(1);
}

void die(int cause, int err, const char *format, ...)
{
	struct message m = { .kind = MSG_ERROR, .value = err, .cause = cause };
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(m.text, sizeof m.text, format, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof m.text)
		n = sizeof m.text - 1;
	(void)!write(STAGE_CONTROL_FD, &m, offsetof(struct message, text) + n); // the exit tells as well
	_exit(1);
}

// The first thread of a process may move itself between cgroups of version 1 without the global lock that writing to
// cgroup.procs takes; waiting for that lock costs a grace period of RCU, ten milliseconds.
static void op_tasks(struct cursor *c)
{
	for (uint32_t n = take32(c); n > 0; n--) {
		const char *path = take_string(c);
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			die(CAUSE_OTHER, errno, "unable to apply cgroup configuration: open %s", path);
		if (write(fd, "0", 1) != 1)
			die(CAUSE_OTHER, errno, "unable to apply cgroup configuration: failed to write %s", path);
		close(fd);
	}
	// What the daemon was pinned to is not the container's affair; its cpuset is.
	static unsigned long all[1024 / sizeof(long)];
	memset(all, 0xff, sizeof all);
	(void)syscall(SYS_sched_setaffinity, 0, sizeof all, all); // best effort, as in libcontainer
}

static void op_oom_adj(struct cursor *c)
{
	char b[16];
	int n = snprintf(b, sizeof b, "%d", (int)take32(c));
	int fd = openat(host_proc, "self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, b, n) != n)
		die(CAUSE_OTHER, errno, "failed to set oom_score_adj to %s", b);
	close(fd);
}

static void op_setns(struct cursor *c)
{
	int type = (int)take32(c);
	const char *path = take_string(c);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(CAUSE_OTHER, errno, "open namespace %s", path);
	if (setns(fd, type) < 0)
		die(CAUSE_OTHER, errno, "join namespace %s", path);
	close(fd);
}

static void op_setns_fd(struct cursor *c)
{
	int flags = (int)take32(c);
	int fd = (int)take32(c);
	if (setns(fd, flags) < 0)
		die(CAUSE_OTHER, errno, "join the container's namespaces");
	close(fd);
}

// The child has the same parent as this process, so the shim can wait for it. It says nothing before the shim was told who it
// is: its words would be taken for those of this process, and nobody would ever reap it.
static void op_fork(void)
{
	int told[2];
	char b = 0;
	ssize_t n;
	if (pipe2(told, O_CLOEXEC) < 0)
		die(CAUSE_OTHER, errno, "pipe");
	long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0)
		die(CAUSE_OTHER, errno, "fork");
	if (pid > 0) {
		send_message(MSG_PID, (int)pid, -1);
		(void)!write(told[1], &b, 1); // a child that was killed meanwhile needs it no more
		_exit(0);
	}
	close(told[1]);
	do {
		n = read(told[0], &b, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(1); // the shim does not know this process
	close(told[0]);
	setsid();
}

static void op_wait(struct cursor *c)
{
	char b;
	ssize_t n;
	send_message(MSG_READY, 0, -1);
	if (!take32(c))
		return;
	do {
		n = read(STAGE_CONTROL_FD, &b, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(1); // the shim is gone
}

// forget_host closes whatever is still open, while no filter forbids it and before the user is another; the control socket
// goes at the exec.
static void forget_host(void)
{
	host_proc = -1;
	if (syscall(SYS_close_range, STAGE_PLAN_FD, ~0U, 0) < 0)
		die(CAUSE_OTHER, errno, "close_range");
}

static void run(struct cursor *plan)
{
	while (plan->p < plan->end) {
		uint32_t op = take32(plan), n = take32(plan);
		need(plan, n);
		struct cursor c = { plan->p, plan->p + n };
		plan->p += n;
		switch (op) {
		case OP_TASKS: op_tasks(&c); break;
		case OP_OOM_ADJ: op_oom_adj(&c); break;
		case OP_SETNS: op_setns(&c); break;
		case OP_SETNS_FD: op_setns_fd(&c); break;
		case OP_FORK: op_fork(); break;
		case OP_UNSHARE:
			if (unshare((int)take32(&c)) < 0)
				die(CAUSE_OTHER, errno, "unshare");
			break;
		case OP_ROOT: op_root(&c); break;
		case OP_MOUNT: op_mount(&c); break;
		case OP_BIND: op_bind(&c); break;
		case OP_NODE: op_node(&c); break;
		case OP_LINK: op_link(&c); break;
		case OP_UNLINK: op_unlink(&c); break;
		case OP_PIVOT: op_pivot(); break;
		case OP_DEV_NULL: op_dev_null(); break;
		case OP_MKDIRS: op_mkdirs(&c); break;
		case OP_CONSOLE: op_console(&c); break;
		case OP_SEAL: op_seal(&c); break;
		case OP_HOSTNAME: {
			const char *s = take_string(&c);
			if (sethostname(s, strlen(s)) < 0)
				die(CAUSE_OTHER, errno, "sethostname");
			break;
		}
		case OP_DOMAINNAME: {
			const char *s = take_string(&c);
			if (setdomainname(s, strlen(s)) < 0)
				die(CAUSE_OTHER, errno, "setdomainname");
			break;
		}
		case OP_SYSCTL: op_sysctl(&c); break;
		case OP_READONLY: op_readonly(&c); break;
		case OP_MASK: op_mask(&c); break;
		case OP_RLIMIT: op_rlimit(&c); break;
		case OP_KEYRING: op_keyring(&c); break;
		case OP_NO_NEW_PRIVS:
			if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
				die(CAUSE_OTHER, errno, "prctl(SET_NO_NEW_PRIVS)");
			break;
		case OP_SECCOMP:
			forget_host();
			op_seccomp(&c);
			break;
		case OP_UMASK: {
			uint32_t m = take32(&c);
			umask(m == ~0U ? inherited_umask : m);
			break;
		}
		case OP_USER:
			forget_host();
			op_user(&c);
			break;
		case OP_LOOKUP: op_lookup(&c); break;
		case OP_WAIT: op_wait(&c); break;
		case OP_EXEC: op_exec(&c);
		default: die(CAUSE_OTHER, ENOSYS, "plan: operation %u", op);
		}
	}
	die(CAUSE_OTHER, EBADMSG, "plan: no exec");
}

static void enter(void)
{
	struct stat st;
	struct cursor plan;

	// Nobody in the container may look into this process while it holds descriptors of the host.
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		die(CAUSE_OTHER, errno, "prctl(SET_DUMPABLE)");
	fcntl(STAGE_CONTROL_FD, F_SETFD, FD_CLOEXEC);
	if (fstat(STAGE_PLAN_FD, &st) < 0 || st.st_size == 0)
		die(CAUSE_OTHER, EBADMSG, "plan");
	plan.p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, STAGE_PLAN_FD, 0);
	if (plan.p == MAP_FAILED)
		die(CAUSE_OTHER, errno, "map the plan");
	plan.end = plan.p + st.st_size;
	close(STAGE_PLAN_FD);
	host_proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (host_proc < 0)
		die(CAUSE_OTHER, errno, "open /proc");
	inherited_umask = umask(0);
	// What the shim ignores, a container's process must not.
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid(); // fails only for a leader, which is what is wanted
	run(&plan);
}

// glibc hands the arguments to constructors. The priority makes it the first of all.
__attribute__((constructor(101))) static void stage(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "stage") == 0)
		enter();
}
