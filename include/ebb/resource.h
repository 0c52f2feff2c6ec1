/* resource -- what is neither memory nor a plain descriptor, under the care of scopes: mappings,
 * locked memory, temporary files, child processes, threads.
 *
 * Handles, ebb_fd_close, ebb_fd_give and ebb_fd_pin are those of <ebb/fd.h>; ebb_fd_get is -1 for
 * what has no descriptor. */
#ifndef EBB_RESOURCE_H
#define EBB_RESOURCE_H

#include <ebb/fd.h>
#include <sys/types.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* length bytes of file (EBB_FD_NONE: zeroed memory of our own), protection as of mmap(2); shared
 * with the file. The collector does not look into a mapping: see ebb_root_add. */
enum ebb_err ebb_map_open(ebb_fd *handle, struct ebb_scope *scope, ebb_fd file, size_t length,
                          int protection, const char *note) EBB_MUST_CHECK;
/* Zeroed memory for secrets: never swapped out, not in core dumps nor in children, wiped when it is
 * closed. Fails: EBB_ERR_LIMIT names RLIMIT_MEMLOCK. */
enum ebb_err ebb_locked_open(ebb_fd *handle, struct ebb_scope *scope, size_t length,
                             const char *note) EBB_MUST_CHECK;
/* The memory of either; NULL when the handle is stale. length may be NULL. */
void *ebb_map_get(ebb_fd handle, size_t *length);

/* A new file in folder (NULL: $TMPDIR or the system's), for reading and writing by this user alone.
 * Closing it removes its name. The note is its path, cut in front when it is long. */
enum ebb_err ebb_temporary_open(ebb_fd *handle, struct ebb_scope *scope,
                                const char *folder) EBB_MUST_CHECK;

/* Starts the program argv[0] (a path) with argv and our environment. descriptors: what its 0, 1 and
 * 2 shall be; -1: /dev/null. Signals are as after exec. Closing it kills it when it still runs, and
 * reaps it. The descriptor becomes readable when it ends. */
enum ebb_err ebb_child_open(ebb_fd *handle, struct ebb_scope *scope, const char *const argv[],
                            const int descriptors[3]) EBB_MUST_CHECK;
/* Process id, or 0 when stale. */
pid_t ebb_child_id(ebb_fd handle);
/* Waits for its end; then *status is its exit status, or 128 + the signal. Fails: EBB_ERR_STALE. */
enum ebb_err ebb_child_wait(ebb_fd handle, int *status) EBB_MUST_CHECK;

/* ebb_thread_start under the care of a scope: closing joins it, so it must be about to end. */
enum ebb_err ebb_thread_open(ebb_fd *handle, struct ebb_scope *scope, const char *name,
                             void (*run)(void *), void *arg) EBB_MUST_CHECK;

__END_DECLS

#endif
