/* inventory -- what the process was started with, and what the system lets it have. */
#ifndef EBB_INVENTORY_H
#define EBB_INVENTORY_H

#include <ebb/fd.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* Calls see for every descriptor of the process, the libraries' included, with what the kernel says
 * it is ("socket:[123]", "/dev/null", "anon_inode:[eventpoll]"). Returns how many. Allocates
 * nothing. */
size_t ebb_descriptors_each(void (*see)(int fd, const char *what, void *context), void *context);

/* Opens /dev/null for each of the descriptors 0-2 that is closed: else the next thing that is
 * opened would be taken for a standard stream, written to and replaced. ebb_daemon_run begins with
 * it; a main that opens anything before that calls it first. */
void ebb_streams_take(void);

/* Takes stock of inherited descriptors: 0-2 stay; sockets from the service manager ($LISTEN_FDS,
 * when $LISTEN_PID names us) wait to be adopted; all others are closed. The variables are removed,
 * so that our children do not take them for theirs. Returns how many were closed. When: first in
 * main, before anything is opened. */
size_t ebb_inherited_take(void);
/* Names in the log those that were closed. When: once the log is where it shall be. */
void ebb_inherited_tell(void);
/* How many sockets of the service manager wait. */
int ebb_inherited_count(void);
/* Takes the next of them. Its note is its name in $LISTEN_FDNAMES, or its address. Fails:
 * EBB_ERR_LIMIT; EBB_ERR_STALE when there is none. */
enum ebb_err ebb_inherited_adopt(ebb_fd *handle, struct ebb_scope *scope) EBB_MUST_CHECK;

/* Makes room for count descriptors: raises RLIMIT_NOFILE when it is lower. Fails: EBB_ERR_LIMIT;
 * who ("--conn-limit (-c) 5000") is named in the sentence. */
enum ebb_err ebb_descriptors_reserve(uint64_t count, const char *who) EBB_MUST_CHECK;
/* The same, as far as the system allows it: returns how many there may be, count or fewer. */
uint64_t ebb_descriptors_reserve_most(uint64_t count, const char *who);

/* The main thread's stack grows up to the limit of just then: raises RLIMIT_STACK when less than
 * 512 KiB are allowed. When: first in main; ebb_daemon_run does it, but what main does before needs
 * stack as well. Fails: EBB_ERR_LIMIT. */
enum ebb_err ebb_stack_reserve(void) EBB_MUST_CHECK;

/* What may be had of memory. 0: no limit is known. */
struct ebb_memory_limits {
    uint64_t machine;    /* bytes of RAM */
    uint64_t hard, soft; /* the cgroup's, the lowest on the way up: memory.max (v1: limit_in_bytes),
                            memory.high */
    int version;         /* of the cgroup: 1, 2, or 0 for none */
    char folder[512];    /* of the cgroup, "" for none */
};
/* root: a folder that holds proc/ and sys/ ("" for the real ones; tests bring their own). */
void ebb_memory_limits_read(struct ebb_memory_limits *limits, const char *root);
/* The lowest limit of the cgroup and those that it lies in, 0 for none. */
uint64_t ebb_memory_limit_of_group(const struct ebb_memory_limits *limits);
/* The lowest of all limits, 0 for none known. */
uint64_t ebb_memory_limit(const struct ebb_memory_limits *limits);
/* How often the cgroup was held back because of its limits (v2: events high and max; v1: failcnt).
 * Only rises. */
uint64_t ebb_memory_events(const struct ebb_memory_limits *limits);

__END_DECLS

#endif
