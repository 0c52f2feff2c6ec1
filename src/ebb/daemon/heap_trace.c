/* heap_trace -- the collector keeps its records in a ring; here they are taken out and become rows.
 *
 * The collector's ring has one consumer, which is this. Rows are kept in a ring of our own for the
 * pages, go to a file when one is wanted, and collections are told in the log at level debug.
 *
 * 1. The file never grows past bytes_max: it then becomes PATH.1, in place of an older one, and a
 * new one begins. Where that is not allowed (the daemon has become another user), it begins anew.
 * 2. What the system refuses (a descriptor, room on the disk) costs the rows of that time: the next
 * row tries again, and the log says when it fails and when it goes on.
 * 3. Only a regular file is rotated, and one process alone writes it; a pipe may not make us wait.
 */
#include "heap_trace.h"

#include "base/open.h"
#include "process.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRACE_MODE 0644
#define ROWS       1024

static struct ebb_heap_record *rows; /* ROWS; in the heap, where no collection looks into them */
static uint64_t rows_taken;

/* --- the file --- */

static enum ebb_err file_open(struct ebbi_trace *trace) {
    struct stat is;
    enum ebb_err error = ebbi_open_for(&trace->file, trace->scope, trace->path,
                                       O_WRONLY | O_CREAT | O_NONBLOCK, TRACE_MODE, trace->user);
    if (error)
        return error;
    int fd = ebb_fd_get(trace->file);
    trace->rotates = fstat(fd, &is) == 0 && S_ISREG(is.st_mode);
    trace->bytes = 0;
    if (!trace->rotates || (flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 0) == 0))
        return EBB_OK;
    error = errno == EWOULDBLOCK
                ? ebb_err_set(EBB_ERR_BUSY, "heap trace %s is being written by another process",
                              trace->path)
                : ebb_err_set(EBB_ERR_SYSTEM, "cannot write %s: %s", trace->path, strerror(errno));
    ebb_fd_close(trace->file);
    trace->file = EBB_FD_NONE;
    return error;
}

static int file_of(const struct ebbi_trace *trace) {
    return trace->file.generation ? ebb_fd_get(trace->file) : -1;
}

static void file_fails(struct ebbi_trace *trace, const char *why) {
    if (!trace->fails)
        ebb_log_event(heap_trace_fails, trace->path, why);
    trace->fails = true;
}

/* A row, or without one the header. False: nothing of it is in the file. */
static bool file_write(struct ebbi_trace *trace, const struct ebb_heap_record *record) {
    char text[1024];
    struct ebb_array_writer row;
    ebb_array_writer_init(&row, text, sizeof(text));
    if (record)
        ebb_heap_record_write(&row.writer, record);
    else
        ebb_heap_record_write_header(&row.writer);
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, file_of(trace));
    file.writer.write(&file.writer, text, row.used);
    if (!file.failed) {
        trace->bytes += row.used;
        return true;
    }
    file_fails(trace, strerror(errno));
    if (trace->rotates && (ftruncate(file_of(trace), (off_t)trace->bytes) != 0 ||
                           lseek(file_of(trace), (off_t)trace->bytes, SEEK_SET) < 0))
        trace->bytes = trace->bytes_max; /* then it is over with this one */
    return false;
}

/* PATH becomes PATH.1. */
static bool file_move_aside(const struct ebbi_trace *trace) {
    char word[PATH_MAX], old[PATH_MAX + 2];
    bool way_exposed;
    int folder = ebbi_open_folder(trace->path, word, &way_exposed);
    if (folder < 0)
        return false;
    snprintf(old, sizeof(old), "%s.1", word);
    bool moved = renameat(folder, word, folder, old) == 0;
    close(folder);
    return moved;
}

/* Makes place for a new file; the old one stays as PATH.1 where that can be. */
static bool file_rotate(struct ebbi_trace *trace) {
    if (file_move_aside(trace)) {
        ebb_fd_close(trace->file);
        trace->file = EBB_FD_NONE;
        return true;
    }
    bool later = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    if (later || ftruncate(file_of(trace), 0) != 0 || lseek(file_of(trace), 0, SEEK_SET) != 0) {
        file_fails(trace, strerror(errno));
        return false;
    }
    trace->bytes = 0;
    return true;
}

/* Whether there is a file that a row may go to. */
static bool file_ready(struct ebbi_trace *trace) {
    if (file_of(trace) >= 0 && trace->rotates && trace->bytes >= trace->bytes_max &&
        !file_rotate(trace))
        return false;
    if (file_of(trace) < 0 && file_open(trace) != EBB_OK) {
        file_fails(trace, ebb_err_text());
        return false;
    }
    return trace->bytes > 0 || file_write(trace, NULL);
}

static void file_take(struct ebbi_trace *trace, const struct ebb_heap_record *record) {
    if (!file_ready(trace) || !file_write(trace, record)) {
        trace->rows_lost++;
    } else if (trace->fails) {
        ebb_log_event(heap_trace_goes_on, trace->path, trace->rows_lost);
        trace->fails = false;
        trace->rows_lost = 0;
    }
}

/* --- rows --- */

/* One collection, in the manner of Go's gctrace. */
static void tell_collection(const struct ebb_heap_record *r) {
    ebb_log_event(collection, r->number, ebb_cause_name(r->cause), (double)r->pause_ns / 1e6,
                  (double)r->mark_ns / 1e6, (double)r->sweep_ns / 1e6, r->heap >> 10, r->live >> 10,
                  r->free >> 10, r->unmapped >> 10, r->rss >> 10, r->allocated_since >> 10,
                  r->dropped_since >> 10, r->finalized, r->leaks);
}

static void row_take(struct ebbi_trace *trace, const struct ebb_heap_record *record) {
    rows[rows_taken++ % ROWS] = *record;
    if (record->cause != EBB_CAUSE_interval)
        tell_collection(record);
    if (trace->path)
        file_take(trace, record);
}

void ebbi_trace_rows(struct ebbi_trace *trace) {
    struct ebb_heap_record now, record;
    uint64_t lost = 0;
    bool pending = true;
    ebb_heap_now(&now);
    while (ebb_heap_record_take(&record, &lost)) {
        if (pending && record.unix_ns > now.unix_ns) {
            row_take(trace, &now);
            pending = false;
        }
        row_take(trace, &record);
    }
    ebb_count(&ebb_metric_heap_records_lost, lost);
    if (pending)
        row_take(trace, &now);
}

static void on_interval(void *arg) {
    ebbi_trace_rows(arg);
}

enum ebb_err ebbi_trace_open(struct ebbi_trace *trace, struct ebb_loop *loop,
                             struct ebb_scope *scope, const char *path, const char *user,
                             uint64_t bytes_max, uint64_t interval_ms) {
    trace->scope = scope;
    trace->path = path;
    trace->user = user;
    trace->bytes_max = bytes_max;
    rows = ebb_bytes(ROWS * sizeof(*rows));
    if (path) {
        enum ebb_err error = file_open(trace);
        if (error)
            return error;
        file_write(trace, NULL);
    }
    trace->timer = ebb_timer_open(loop, interval_ms, true, on_interval, trace);
    return EBB_OK;
}

void ebbi_trace_pause(struct ebbi_trace *trace) {
    if (trace->timer)
        ebb_timer_close(trace->timer);
    trace->timer = NULL;
}

/* --- pages --- */

static uint64_t oldest(void) {
    return rows_taken > ROWS ? rows_taken - ROWS : 0;
}

void ebbi_trace_write_csv(struct ebb_writer *writer) {
    ebb_heap_record_write_header(writer);
    for (uint64_t i = oldest(); i < rows_taken; i++)
        ebb_heap_record_write(writer, &rows[i % ROWS]);
}

void ebbi_trace_write_json(struct ebb_writer *writer) {
    ebb_write(writer, "{\"rows\":[");
    for (uint64_t i = oldest(); i < rows_taken; i++) {
        ebb_write(writer, i > oldest() ? ",\n" : "\n");
        ebb_heap_record_write_json(writer, &rows[i % ROWS]);
    }
    ebb_write(writer, "]}\n");
}
