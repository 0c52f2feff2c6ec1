/* fork_dump -- a forked copy of the process that looks at its own heap and writes what it sees; for
 * the daemon's pages and signals. */
#ifndef EBBI_DAEMON_FORK_DUMP_H
#define EBBI_DAEMON_FORK_DUMP_H

#include <ebb/fd.h>
#include <ebb/loop.h>
#include <ebb/writer.h>

struct ebbi_fork_dump;

/* Fails before it has written anything, or not at all. */
typedef enum ebb_err ebbi_fork_dump_look(struct ebb_writer *writer, void *arg);

/* Forks; the copy calls run(writer, arg) and ends. What it writes comes out of
 * ebbi_fork_dump_output after a verdict (see ebb_http_reply_judged), or, with a path, goes to that
 * new file. One at a time. Fails: EBB_ERR_BUSY, EBB_ERR_SYSTEM, EBB_ERR_LIMIT (a copy may not fit
 * the bound). When: the main thread. */
enum ebb_err ebbi_fork_dump_start(struct ebbi_fork_dump **frozen, ebbi_fork_dump_look *run,
                                  void *arg, const char *path) EBB_MUST_CHECK;
/* With a path: becomes readable when the copy is done, with the reason if it failed. */
ebb_fd ebbi_fork_dump_output(const struct ebbi_fork_dump *frozen);
/* Reaps it; kills it first unless it is done. Returns whether it ended well. */
bool ebbi_fork_dump_end(struct ebbi_fork_dump *frozen, bool is_done);

/* /debug/heap.heapsnapshot and /debug/growth. */
void ebbi_admin_add_fork_dump_pages(void);
/* SIGUSR2: a snapshot into folder (NULL: the working folder), told in the log when it is written.
 */
void ebbi_snapshot_to_file(struct ebb_loop *loop, const char *name, const char *folder);
/* At the end of the loop: ends one that still runs. */
void ebbi_fork_dump_stop(void);

#endif
