/* trace -- the collector keeps its records in a ring; here they are taken out and become rows.
 *
 * The ring has one consumer, so there is one trace. A disk that is full ends the trace, not the
 * daemon. */
#include "trace.h"

#include "tell/events.h"
#include "tell/metrics.h"

#include <ebb/collector.h>
#include <fcntl.h>

#define TRACE_MODE 0644

static void write_rows(void *arg) {
    ebbi_trace_rows(arg);
}

enum ebb_err ebbi_trace_open(struct ebbi_trace *trace, struct ebb_loop *loop,
                             struct ebb_scope *scope, const char *path, uint64_t interval_ms) {
    enum ebb_err error =
        ebb_fd_open(&trace->file, scope, path, O_WRONLY | O_CREAT | O_TRUNC, TRACE_MODE);
    if (error)
        return error;
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, ebb_fd_get(trace->file));
    ebb_heap_record_write_header(&file.writer);
    trace->timer = ebb_timer_open(loop, interval_ms, true, write_rows, trace);
    return EBB_OK;
}

void ebbi_trace_pause(struct ebbi_trace *trace) {
    if (trace->timer)
        ebb_timer_close(trace->timer);
    trace->timer = NULL;
}

void ebbi_trace_rows(struct ebbi_trace *trace) {
    int fd = trace->file.generation ? ebb_fd_get(trace->file) : -1;
    if (fd < 0)
        return;
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, fd);
    struct ebb_heap_record record;
    uint64_t lost = 0;
    while (ebb_heap_record_take(&record, &lost))
        ebb_heap_record_write(&file.writer, &record);
    ebb_count(&ebb_metric_heap_records_lost, lost);
    ebb_heap_now(&record);
    ebb_heap_record_write(&file.writer, &record);
    if (file.failed) {
        ebb_tell(heap_trace_ends);
        ebbi_trace_pause(trace);
        ebb_fd_close(trace->file);
    }
}
