/* logs -- where the log goes: stderr, a file that can be rotated, the journal; for daemon.c. */
#ifndef EBBI_DAEMON_LOGS_H
#define EBBI_DAEMON_LOGS_H

#include <ebb/daemon.h>
#include <ebb/fd.h>

struct ebbi_logs {
    struct ebb_scope *scope;
    ebb_fd fd;        /* of the file or the journal's socket */
    const char *path; /* of the file, or NULL */
};

/* Is this a format that plan->log_format may name? Fails: EBB_ERR_USAGE. */
enum ebb_err ebbi_logs_check(const struct ebb_daemon_plan *plan) EBB_MUST_CHECK;
/* Sends the log where the plan wants it and starts its thread. */
enum ebb_err ebbi_logs_open(struct ebbi_logs *logs,
                            const struct ebb_daemon_plan *plan) EBB_MUST_CHECK;
/* On SIGHUP: the file is opened anew, under its old name. */
void ebbi_logs_reopen(struct ebbi_logs *logs);
/* Writes what waits; then the log goes to stderr again. */
void ebbi_logs_close(struct ebbi_logs *logs);

/* Adds /debug/log and /debug/events. */
void ebbi_logs_add_pages(void);

#endif
