/* process -- going to the background, being known by a pid file, becoming another user; for
 * daemon.c. */
#ifndef EBBI_DAEMON_PROCESS_H
#define EBBI_DAEMON_PROCESS_H

#include <ebb/err.h>
#include <ebb/fd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EBBI_STRANGERS_MAX 1024 /* descriptors above it are not told apart */

/* Which descriptors were open at the start: whoever started us may mean something by them. */
struct ebbi_strangers {
    uint64_t open[EBBI_STRANGERS_MAX / 64];
};
void ebbi_strangers_remember(struct ebbi_strangers *strangers);
/* Logs each open descriptor that was not there at the start; returns how many. When: everything is
 * closed. */
size_t ebbi_strangers_new(const struct ebbi_strangers *strangers);

/* Forks. In the parent: waits until the child said ebbi_background_ready or died, sets *status to
 * what the program exits with and returns true. In the child: returns false. When: before the
 * collector and any thread. */
bool ebbi_background_fork(int *status);
/* In the child: sends the parent home and lets go of the terminal, and of the folder unless
 * keeps_folder. Without ebbi_background_fork nothing. */
void ebbi_background_ready(bool keeps_folder);

/* Opens as user, whom a file that is made belongs to then; what user may not is done as root, where
 * ebb_fd_open follows no link that another user could have made. user NULL, or not root: as
 * ebb_fd_open. Fails: EBB_ERR_USAGE no such user, else as ebb_fd_open. */
enum ebb_err ebbi_open_for(ebb_fd *handle, struct ebb_scope *scope, const char *path, int flags,
                           unsigned mode, const char *user) EBB_MUST_CHECK;

/* As unlink, with the care of ebb_fd_open for the folders on the way. False: errno says why. */
bool ebbi_remove(const char *path);

/* Writes our pid to path and holds a lock on it; the file is the user's if that may write there.
 * Fails: EBB_ERR_BUSY names the process that holds it. A file that it made is gone then. */
enum ebb_err ebbi_pid_file_open(ebb_fd *handle, struct ebb_scope *scope, const char *path,
                                const char *user) EBB_MUST_CHECK;
/* Removes the file; the scope closes the handle. */
void ebbi_pid_file_remove(ebb_fd handle, const char *path);

/* Becomes name, with its groups, when root; else nothing. */
enum ebb_err ebbi_become_user(const char *name) EBB_MUST_CHECK;

#endif
