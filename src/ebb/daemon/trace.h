/* trace -- the heap trace: a CSV file with a row per collection and per interval; for daemon.c. */
#ifndef EBBI_DAEMON_TRACE_H
#define EBBI_DAEMON_TRACE_H

#include <ebb/fd.h>
#include <ebb/loop.h>

struct ebbi_trace {
    ebb_fd file;
    struct ebb_timer *timer;
};

/* Writes to path from now on, each interval_ms on the loop. */
enum ebb_err ebbi_trace_open(struct ebbi_trace *trace, struct ebb_loop *loop,
                             struct ebb_scope *scope, const char *path,
                             uint64_t interval_ms) EBB_MUST_CHECK;
/* Ends the timer; rows may still be written. Before the loop is closed. */
void ebbi_trace_pause(struct ebbi_trace *trace);
/* A row for each collection since the last call, then one for now. Without an open file nothing. */
void ebbi_trace_rows(struct ebbi_trace *trace);

#endif
