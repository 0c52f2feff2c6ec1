/* fd -- descriptors as managed resources: every one has a class, an owner (its scope), and a
 * generation.
 *
 * A handle is an index and a generation: after close it is stale, and a stale handle never reaches
 * a recycled descriptor. All are opened close-on-exec. */
#ifndef EBB_FD_H
#define EBB_FD_H

#include <ebb/err.h>
#include <ebb/scope.h>
#include <ebb/writer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

typedef struct {
    uint32_t index, generation; /* {0,0} is no handle */
} ebb_fd;

#define EBB_FD_NONE ((ebb_fd){0, 0})

enum ebb_resource_class {
#define EBB_RESOURCE(id, name, ...) EBB_RESOURCE_##id,
#include <ebb/tbl/resources.def>
    EBB_RESOURCE_CLASSES
};
const char *ebb_resource_class_name(enum ebb_resource_class kind);

/* Puts an open descriptor under the scope's care. note (copied, cut at 47 bytes) is its peer or
 * path. On failure (EBB_ERR_LIMIT) fd is closed. noinline: the call site is remembered. */
enum ebb_err ebb_fd_adopt(ebb_fd *handle, struct ebb_scope *scope, enum ebb_resource_class kind,
                          int fd, const char *note) EBB_MUST_CHECK;

/* As open(2). As root, nothing is followed in a folder that another user may write to, nor below
 * it: a symbolic link on the way, or a file with a second name, is refused. */
enum ebb_err ebb_fd_open(ebb_fd *handle, struct ebb_scope *scope, const char *path, int flags,
                         unsigned mode) EBB_MUST_CHECK;
enum ebb_err ebb_fd_eventfd(ebb_fd *handle, struct ebb_scope *scope,
                            const char *note) EBB_MUST_CHECK;

/* Nonblocking ones of other kinds. A timer's clock is CLOCK_MONOTONIC; arm it with
 * timerfd_settime. */
enum ebb_err ebb_fd_timerfd(ebb_fd *handle, struct ebb_scope *scope,
                            const char *note) EBB_MUST_CHECK;
enum ebb_err ebb_fd_epoll(ebb_fd *handle, struct ebb_scope *scope, const char *note) EBB_MUST_CHECK;
enum ebb_err ebb_fd_socket(ebb_fd *handle, struct ebb_scope *scope, int family, int type,
                           const char *note) EBB_MUST_CHECK;
/* ends[0] is to be read, ends[1] to be written. */
enum ebb_err ebb_fd_pipe(ebb_fd ends[2], struct ebb_scope *scope, const char *note) EBB_MUST_CHECK;

/* The descriptor, or -1 when the handle is stale. Valid until it is closed: do not keep it past a
 * iteration. */
int ebb_fd_get(ebb_fd handle);
/* Copies its note; "" when stale. */
void ebb_fd_note(ebb_fd handle, char *out, size_t size);
/* Moves it to another scope. False when stale. */
bool ebb_fd_give(ebb_fd handle, struct ebb_scope *to);
/* Closes it. Never fails, never allocates; a stale handle does nothing (counted). While somebody
 * has it pinned, the handle goes stale now and the resource is closed by the last unpin. */
void ebb_fd_close(ebb_fd handle);
/* Keeps the resource open until ebb_fd_unpin, whoever closes it meanwhile; the descriptor, or -1
 * when the handle is stale (or its resource has no descriptor): then there is nothing to unpin. A
 * loop pins what it calls a watch for. */
int ebb_fd_pin(ebb_fd handle);
void ebb_fd_unpin(ebb_fd handle);

/* One open resource, as the inventory shows it. */
struct ebb_resource_view {
    enum ebb_resource_class kind;
    int fd;            /* -1: it has none */
    uint64_t at, size; /* a mapping's address and bytes, a child's process id */
    const char *note, *scope;
    uint64_t opened_ns;  /* ebb_clock_ns */
    uintptr_t opened_at; /* return address */
};
/* Calls see for each open resource; returns how many. Under the table's lock: see must not open or
 * close. */
size_t ebb_resources_each(void (*see)(const struct ebb_resource_view *view, void *context),
                          void *context);
size_t ebb_resources_count(enum ebb_resource_class kind);
/* How many were closed by a finalizer because somebody forgot. */
uint64_t ebb_resources_forgotten(void);

__END_DECLS

#endif
