// The stage: a small program that carries out a plan and becomes the container's process. It runs before the Go runtime of
// the re-executed shim starts, as its only thread.
//
// It inherits stdio, descriptor 3 (the control socket, SOCK_SEQPACKET) and descriptor 4 (the plan, a memfd). A plan is a
// row of operations in the order of execution: u16 number, u16 zero, u32 bytes of payload, payload. Numbers in a payload are
// host order u32 (u64 where said); a string is its length as u32, its bytes and a zero that is not counted.
#ifndef BERTH_STAGE_H
#define BERTH_STAGE_H

#include <stddef.h>
#include <stdint.h>

enum {
	STAGE_CONTROL_FD = 3,
	STAGE_PLAN_FD = 4,
};

// Operations. The payload follows the name.
enum {
	OP_TASKS = 1,     // n × path: files of cgroup v1 hierarchies ("…/tasks") to enter
	OP_OOM_ADJ,       // value
	OP_SETNS,         // CLONE_NEW… type, path
	OP_SETNS_FD,      // CLONE_NEW… flags, inherited descriptor: a pidfd
	OP_FORK,          // continue in a child, for a pid namespace that was entered
	OP_UNSHARE,       // flags
	OP_ROOT,          // path: make mounts slaves of the host's, and the tree at path the root of what follows
	OP_MOUNT,         // see struct of op_mount
	OP_BIND,          // see op_bind
	OP_NODE,          // path, st_mode, major, minor, uid, gid; an existing one stays
	OP_LINK,          // text, path; an existing one stays
	OP_UNLINK,        // path; an absent one is fine
	OP_PIVOT,         // make the root the process's root and forget the host's mounts
	OP_DEV_NULL,      // stdio on the host's /dev/null: the container's instead
	OP_MKDIRS,        // path, inside
	OP_CONSOLE,       // mount it at /dev/console, rows, columns: new terminal as stdio, master sent back
	OP_SEAL,          // path, inside: set read-only what is mounted there
	OP_HOSTNAME,      // name
	OP_DOMAINNAME,    // name
	OP_SYSCTL,        // path below sys/, value
	OP_READONLY,      // path, inside
	OP_MASK,          // n × path, inside
	OP_RLIMIT,        // resource, u64 soft, u64 hard
	OP_KEYRING,       // name, permission bits to add (0: leave)
	OP_NO_NEW_PRIVS,  //
	OP_SECCOMP,       // flags, program
	OP_UMASK,         // mask; 0xffffffff restores what was inherited
	OP_USER,          // see op_user
	OP_LOOKUP,        // file, PATH
	OP_WAIT,          // whether to wait: tell that all is ready, then wait for one byte
	OP_EXEC,          // n × argument, n × environment
};

// Messages of the stage, each one packet.
enum {
	MSG_PID = 'P',     // value: of the child of OP_FORK, in the namespace of the one who started the stage
	MSG_CONSOLE = 'C', // with one descriptor
	MSG_READY = 'R',
	MSG_ERROR = 'E', // value: errno; cause; text: what was attempted
};

// Causes of an error; they choose the wording.
enum {
	CAUSE_OTHER = 0,
	CAUSE_STAT,      // the file named cannot be examined
	CAUSE_DIRECTORY, // it is a directory
	CAUSE_ACCESS,    // it may not be executed
	CAUSE_PATH,      // nothing of that name in PATH
	CAUSE_RELATIVE,  // found, but relative to the current directory
};

struct message {
	uint32_t kind;
	int32_t value;
	int32_t cause;
	char text[1012];
};

// The rest is the stage's own.

struct cursor {
	const unsigned char *p, *end;
};

uint32_t take32(struct cursor *c);
uint64_t take64(struct cursor *c);
const char *take_string(struct cursor *c);
const void *take_bytes(struct cursor *c, uint32_t *n);

void die(int cause, int err, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));
void send_message(int kind, int value, int fd);

extern int host_proc; // root of a procfs that was not made by the container: the host's, after op_pivot the one mounted here

void op_root(struct cursor *c);
void op_mount(struct cursor *c);
void op_bind(struct cursor *c);
void op_node(struct cursor *c);
void op_link(struct cursor *c);
void op_unlink(struct cursor *c);
void op_pivot(void);
void op_dev_null(void);
void op_mkdirs(struct cursor *c);
void op_console(struct cursor *c);
void op_seal(struct cursor *c);
void op_sysctl(struct cursor *c);
void op_readonly(struct cursor *c);
void op_mask(struct cursor *c);

void op_rlimit(struct cursor *c);
void op_keyring(struct cursor *c);
void op_seccomp(struct cursor *c);
void op_user(struct cursor *c);
void op_lookup(struct cursor *c);
void op_exec(struct cursor *c) __attribute__((noreturn));

int is_dev_null(int fd);

#endif
