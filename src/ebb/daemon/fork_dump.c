/* fork_dump -- what takes long to look at is looked at in a copy of the process.
 *
 * fork gives a copy whose memory stands still; the copy has this thread alone, collects, and writes
 * what it sees into a pipe or a file, while the daemon goes on. The daemon stands still for the
 * fork itself.
 *
 * A page that either of them writes to exists twice from then on: in the worst case all that is
 * resident, and what the copy needs to look at it. Where the process has a bound there is no copy
 * unless that fits, and it stays reserved until the copy has ended.
 *
 * 1. The copy keeps its output and stderr open (copy.c) and ends by _exit.
 * 2. Into the pipe it writes a verdict first: '+' and what it sees, or '-' and the reason why it
 * sees nothing; with a file, a reason only.
 * 3. The end of the pipe means that the copy has ended: it alone holds the other end.
 * 4. What the daemon keeps about it is static: the heap that the copy sees holds nothing of it but
 * its scope. */
#include "fork_dump.h"

#include "admin.h"
#include "gc/copy.h"
#include "process.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#include <ebb/collector.h>
#include <ebb/heap.h>
#include <ebb/mem.h>
#include <ebb/scope.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COPY_SECONDS_MAX 300
#define SNAPSHOT_MODE    0600
#define BUFFER_BYTES     65536
#define REASON_BYTES     256 /* at most: a pipe takes them at once */
#define MIB              UINT64_C(1048576)
#define MARGIN           16 /* a sixteenth of the bound stays free */
#define RETRY_SECONDS    "10"

struct ebbi_fork_dump {
    struct ebb_scope *scope;
    ebb_fd output;
    pid_t copy;
    uint64_t reserved; /* bytes */
};

static struct ebbi_fork_dump the_copy; /* one at a time; it has a scope from start to end */

/* --- the copy --- */

struct buffer {
    struct ebb_writer writer;
    struct ebb_fd_writer file;
    size_t used;
    char bytes[BUFFER_BYTES];
};

static void buffer_flush(struct buffer *self) {
    self->file.writer.write(&self->file.writer, self->bytes, self->used);
    self->used = 0;
    if (self->file.failed) /* nobody reads any more */
        _exit(1);
}

static void buffer_write(struct ebb_writer *writer, const char *bytes, size_t length) {
    struct buffer *self = (struct buffer *)writer;
    while (length > 0) {
        size_t room = sizeof(self->bytes) - self->used, take = length < room ? length : room;
        memcpy(self->bytes + self->used, bytes, take);
        self->used += take;
        bytes += take;
        length -= take;
        if (self->used == sizeof(self->bytes))
            buffer_flush(self);
    }
}

static void say_reason(int alive) {
    char text[REASON_BYTES];
    int length = snprintf(text, sizeof(text), "-%s", ebb_err_text());
    ssize_t ignored =
        write(alive, text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
    (void)ignored;
}

static _Noreturn void be_copy(int output, int alive, ebbi_fork_dump_look *run, void *arg) {
    struct buffer buffer = {0};
    ebbi_copy_begin((const int[COPY_KEEPS]){STDERR_FILENO, output, alive}, COPY_SECONDS_MAX);
    fcntl(output, F_SETFL, 0); /* it waits for a slow reader */
    buffer.writer.write = buffer_write;
    ebb_fd_writer_init(&buffer.file, output);
    if (output == alive)
        buffer_write(&buffer.writer, "+", 1);
    if (run(&buffer.writer, arg) != EBB_OK) { /* and wrote nothing */
        say_reason(alive);
        _exit(1);
    }
    buffer_flush(&buffer);
    _exit(0);
}

/* --- the daemon --- */

/* Reserves what a copy may cost at worst. */
static enum ebb_err reserve(uint64_t *bytes) {
    uint64_t bound = ebb_metric_value(&ebb_metric_memory_bound), resident = ebbi_process_resident();
    uint64_t needed = resident + ebb_snapshot_bytes(), left = bound / MARGIN * (MARGIN - 1);
    *bytes = bound ? needed : 0;
    left = resident < left ? left - resident : 0;
    if (needed <= left ? ebb_reserve(*bytes) : bound == 0)
        return EBB_OK;
    return ebb_err_set(EBB_ERR_LIMIT,
                       "a copy of the process may take %llu MiB, and its bound of %llu MiB leaves "
                       "%llu; raise --memory-max or the cgroup's limit, or lower the cache's",
                       (unsigned long long)(needed / MIB), (unsigned long long)(bound / MIB),
                       (unsigned long long)(left / MIB));
}

static void fork_dump_close(struct ebbi_fork_dump *frozen) {
    ebb_unreserve(frozen->reserved);
    ebb_scope_close(frozen->scope);
    *frozen = (struct ebbi_fork_dump){0};
}

/* Forks, and says in frozen what is there then. */
static enum ebb_err start(struct ebbi_fork_dump *frozen, ebbi_fork_dump_look *run, void *arg,
                          const char *path) {
    ebb_fd ends[2], file = EBB_FD_NONE;
    enum ebb_err error = ebb_fd_pipe(ends, frozen->scope, "frozen copy");
    if (error == EBB_OK && path)
        error = ebb_fd_open(&file, frozen->scope, path, O_WRONLY | O_CREAT | O_EXCL, SNAPSHOT_MODE);
    if (error)
        return error;
    int alive = ebb_fd_get(ends[1]), output = path ? ebb_fd_get(file) : alive;
    frozen->copy = fork();
    if (frozen->copy == 0)
        be_copy(output, alive, run, arg);
    if (frozen->copy < 0) {
        error = ebb_err_set(EBB_ERR_SYSTEM, "cannot fork: %s", strerror(errno));
        if (path)
            ebbi_remove(path);
        return error;
    }
    ebb_fd_close(ends[1]);
    frozen->output = ends[0];
    return EBB_OK;
}

enum ebb_err ebbi_fork_dump_start(struct ebbi_fork_dump **out, ebbi_fork_dump_look *run, void *arg,
                                  const char *path) {
    struct ebbi_fork_dump *frozen = &the_copy;
    uint64_t reserved;
    if (frozen->scope)
        return ebb_err_set(EBB_ERR_BUSY, "another look at the heap is being taken; try again");
    enum ebb_err error = reserve(&reserved);
    if (error)
        return error;
    frozen->scope = ebb_scope_new("frozen copy");
    frozen->reserved = reserved;
    error = start(frozen, run, arg, path);
    if (error) {
        fork_dump_close(frozen);
        return error;
    }
    *out = frozen;
    return EBB_OK;
}

ebb_fd ebbi_fork_dump_output(const struct ebbi_fork_dump *frozen) {
    return frozen->output;
}

bool ebbi_fork_dump_end(struct ebbi_fork_dump *frozen, bool is_done) {
    int status = 0;
    if (!is_done)
        kill(frozen->copy, SIGKILL);
    while (waitpid(frozen->copy, &status, 0) < 0 && errno == EINTR)
        ;
    fork_dump_close(frozen);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* --- pages --- */

static void (*see_resource)(const char *kind, const char *name, void *context);

static void one_resource(const struct ebb_resource_view *view, void *context) {
    char name[96];
    snprintf(name, sizeof(name), "%d %s (%s)", view->fd, view->note,
             view->scope ? view->scope : "");
    see_resource(ebb_resource_class_name(view->kind), name, context);
}

static void each_resource(void (*see)(const char *kind, const char *name, void *context),
                          void *context) {
    see_resource = see;
    ebb_resources_each(one_resource, context);
}

static enum ebb_err write_snapshot(struct ebb_writer *writer, void *arg) {
    (void)arg;
    static const struct ebb_snapshot_resources resources = {each_resource};
    return ebb_snapshot_write(writer, &resources);
}

static enum ebb_err write_growth(struct ebb_writer *writer, void *arg) {
    return ebb_growth_write(writer, arg != NULL);
}

static bool reply_ended(bool complete, void *arg) {
    return ebbi_fork_dump_end(arg, complete);
}

static void reply_fork_dump(struct ebb_http_request *request, const char *content_type,
                            ebbi_fork_dump_look *run, void *arg) {
    struct ebbi_fork_dump *frozen;
    if (ebbi_fork_dump_start(&frozen, run, arg, NULL) != EBB_OK) {
        ebb_http_reply_header(request, "Retry-After", RETRY_SECONDS);
        ebb_writef(ebb_http_body(request), "503: %s\n", ebb_err_text());
        ebb_http_reply(request, 503, "text/plain; charset=utf-8");
        return;
    }
    ebb_http_reply_judged(request, content_type, frozen->output, reply_ended, frozen);
}

static void snapshot_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    reply_fork_dump(request, "application/json", write_snapshot, NULL);
}

static void growth_page(struct ebb_http_request *request, void *arg) {
    static char as_json;
    enum ebbi_format format;
    (void)arg;
    if (!ebbi_format_of(request, &format))
        return;
    if (ebb_http_is_post(request)) {
        ebb_growth_begin();
        ebb_write(ebb_http_body(request), "counted; GET tells what has grown since\n");
        ebb_http_reply(request, 200, "text/plain; charset=utf-8");
    } else if (!ebb_growth_begun()) {
        ebb_write(ebb_http_body(request), "409: POST here first, then do the same thing N times\n");
        ebb_http_reply(request, 409, "text/plain; charset=utf-8");
    } else {
        bool json = format == EBBI_FORMAT_JSON;
        reply_fork_dump(request, ebbi_format_type(format), write_growth, json ? &as_json : NULL);
    }
}

void ebbi_admin_add_fork_dump_pages(void) {
    ebb_admin_page("/debug/heap.heapsnapshot",
                   "the object graph, for the Memory tab of Chrome DevTools", NULL, snapshot_page,
                   NULL);
    ebb_admin_page("/debug/growth",
                   "POST: count the heap; GET: the types that grew since, and what holds them",
                   "format", growth_page, NULL);
}

/* --- SIGUSR2 --- */

static struct {
    struct ebbi_fork_dump *frozen;
    struct ebb_watch *watch;
    char path[512];
} to_file;

/* why: or NULL. */
static void file_end(bool is_done, const char *why) {
    struct ebbi_fork_dump *frozen = to_file.frozen;
    ebb_watch_close(to_file.watch);
    to_file.frozen = NULL;
    to_file.watch = NULL;
    if (ebbi_fork_dump_end(frozen, is_done))
        ebb_log_event(snapshot_written, to_file.path);
    else if (ebbi_remove(to_file.path))
        ebb_log_event(snapshot_failed, to_file.path,
                      why ? why : "it could not be written to its end");
    else
        ebb_log_event(snapshot_failed, to_file.path, "only a part of it could be written");
}

static void on_copy_ended(int events, void *arg) {
    char reason[REASON_BYTES] = "";
    (void)events, (void)arg;
    ssize_t got = read(ebb_fd_get(to_file.frozen->output), reason, sizeof(reason) - 1);
    if (got >= 0 || (errno != EINTR && errno != EAGAIN))
        file_end(true, got > 1 ? reason + 1 : NULL);
}

void ebbi_snapshot_to_file(struct ebb_loop *loop, const char *name, const char *folder) {
    struct timespec now;
    struct ebbi_fork_dump *frozen;
    clock_gettime(CLOCK_REALTIME, &now);
    char path[sizeof(to_file.path)];
    snprintf(path, sizeof(path), "%s/%s-%d-%lld.%03ld.heapsnapshot", folder ? folder : ".", name,
             (int)getpid(), (long long)now.tv_sec, now.tv_nsec / 1000000);
    if (ebbi_fork_dump_start(&frozen, write_snapshot, NULL, path) != EBB_OK) {
        ebb_log_event(snapshot_failed, path, ebb_err_text());
        return;
    }
    to_file.frozen = frozen;
    memcpy(to_file.path, path, sizeof(path));
    if (ebb_watch_open(&to_file.watch, loop, frozen->output, EBB_READ, on_copy_ended, NULL) !=
        EBB_OK)
        file_end(false, ebb_err_text());
}

void ebbi_fork_dump_stop(void) {
    if (to_file.frozen)
        file_end(false, NULL);
}
