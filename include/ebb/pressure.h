/* pressure -- hears that memory is short.
 *
 * From $MEMORY_PRESSURE_WATCH when the service manager set it (/dev/null: from nowhere), else from
 * the pressure file of our cgroup (v2), else from that of the machine. */
#ifndef EBB_PRESSURE_H
#define EBB_PRESSURE_H

#include <ebb/inventory.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_pressure {
    ebb_fd source;
    ebb_fd ready; /* readable when there is something to take; none: ask each second */
    char what[300];
    bool is_stream;     /* a pipe or socket: what comes is read and dropped */
    bool ended;         /* nobody speaks at the other end any more: close the watch */
    int64_t changed_ns; /* of a file that cannot be waited for */
};

/* root as for ebb_memory_limits_read. Without any source, or one that cannot be used, it succeeds,
 * says so in the log, and nothing is ever heard. Fails: EBB_ERR_LIMIT. */
enum ebb_err ebb_pressure_open(struct ebb_pressure *pressure, struct ebb_scope *scope,
                               const struct ebb_memory_limits *limits,
                               const char *root) EBB_MUST_CHECK;
/* True when memory was short since the last call. is_ready: the loop says that `ready` is readable;
 * else this only looks at a file that cannot be waited for. */
bool ebb_pressure_take(struct ebb_pressure *pressure, bool is_ready);

__END_DECLS

#endif
