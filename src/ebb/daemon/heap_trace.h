/* heap_trace -- the heap trace: a row per collection and per interval; kept for the pages, written
 * to a CSV file, told in the log; for daemon.c. */
#ifndef EBBI_DAEMON_HEAP_TRACE_H
#define EBBI_DAEMON_HEAP_TRACE_H

#include <ebb/fd.h>
#include <ebb/loop.h>
#include <ebb/writer.h>

struct ebbi_trace {
    struct ebb_timer *timer;
    struct ebb_scope *scope;
    ebb_fd file;
    const char *path, *user;
    bool rotates;              /* it is a regular file */
    uint64_t bytes, bytes_max; /* of the file; when it is full it becomes PATH.1 */
    bool fails;                /* the latest row could not be written */
    uint64_t rows_lost;        /* since then */
};

/* Rows from now on, each interval_ms on the loop. path: or NULL for no file; the file is user's,
 * see ebbi_open_for. */
enum ebb_err ebbi_trace_open(struct ebbi_trace *trace, struct ebb_loop *loop,
                             struct ebb_scope *scope, const char *path, const char *user,
                             uint64_t bytes_max, uint64_t interval_ms) EBB_MUST_CHECK;
/* Ends the timer; rows may still be written. Before the loop is closed. */
void ebbi_trace_pause(struct ebbi_trace *trace);
/* A row for each collection since the last call, then one for now. */
void ebbi_trace_rows(struct ebbi_trace *trace);

/* The latest rows, oldest first. */
void ebbi_trace_write_csv(struct ebb_writer *writer);
void ebbi_trace_write_json(struct ebb_writer *writer);

#endif
