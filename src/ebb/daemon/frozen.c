/* frozen -- what takes long to look at is looked at in a copy of the process.
 *
 * fork gives a copy whose memory stands still; the copy has this thread alone, collects, and writes
 * what it sees into a pipe or a file, while the daemon goes on. The daemon stands still for the
 * fork itself.
 *
 * 1. The copy keeps its output and stderr open, under their numbers, and closes all else: a
 * connection which the daemon closes is closed then, and what the copied program still does by
 * habit (wake a loop) meets a closed descriptor.
 * 2. The copy ends by _exit, gets no signal handler of ours, and is killed with its parent or when
 * it takes longer than COPY_SECONDS_MAX.
 * 3. The end of the pipe means that the copy has ended: it alone holds the other end. */
#include "frozen.h"

#include "admin.h"
#include "gc/types.h"
#include "process.h"
#include "tell/events.h"

#include <ebb/heap.h>
#include <ebb/mem.h>
#include <ebb/scope.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COPY_SECONDS_MAX 300
#define COPY_NICE        10
#define SNAPSHOT_MODE    0600
#define BUFFER_BYTES     65536

struct ebbi_frozen {
    struct ebb_scope *scope;
    ebb_fd output;
    pid_t copy;
};

static struct ebbi_frozen *running;
static struct ebb_scope
    *volatile copy_scope; /* holds it in the copy, which would else find it forgotten */

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

static void close_all_but(int a, int b, int c) {
    unsigned from = 0;
    for (;;) {
        unsigned keep = ~0U; /* the next one to keep */
        for (int i = 0; i < 3; i++) {
            unsigned fd = (unsigned)(i == 0 ? a : i == 1 ? b : c);
            if (fd >= from && fd < keep)
                keep = fd;
        }
        if (keep > from)
            close_range(from, keep == ~0U ? keep : keep - 1, 0);
        if (keep == ~0U)
            return;
        from = keep + 1;
    }
}

static _Noreturn void be_copy(int output, int alive, void (*run)(struct ebb_writer *, void *),
                              void *arg) {
    struct buffer buffer = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, SIG_DFL);
    alarm(COPY_SECONDS_MAX);
    ebb_finalizers_notify(NULL);
    close_all_but(STDERR_FILENO, output, alive);
    fcntl(output, F_SETFL, 0); /* it waits for a slow reader */
    if (nice(COPY_NICE) < 0 && errno == EPERM)
        errno = 0;
    buffer.writer.write = buffer_write;
    ebb_fd_writer_init(&buffer.file, output);
    run(&buffer.writer, arg);
    buffer_flush(&buffer);
    _exit(0);
}

/* --- the daemon --- */

enum ebb_err ebbi_frozen_start(struct ebbi_frozen **out, void (*run)(struct ebb_writer *, void *),
                               void *arg, const char *path) {
    if (running)
        return ebb_err_set(EBB_ERR_BUSY, "another look at the heap is being taken; try again");
    struct ebb_scope *scope = ebb_scope_new("frozen copy");
    ebb_fd ends[2], file = EBB_FD_NONE;
    enum ebb_err error = ebb_fd_pipe(ends, scope, "frozen copy");
    if (error == EBB_OK && path)
        error = ebb_fd_open(&file, scope, path, O_WRONLY | O_CREAT | O_EXCL, SNAPSHOT_MODE);
    pid_t copy = -1;
    if (error == EBB_OK) {
        copy_scope = scope;
        int alive = ebb_fd_get(ends[1]), output = path ? ebb_fd_get(file) : alive;
        copy = fork();
        if (copy == 0)
            be_copy(output, alive, run, arg);
        if (copy < 0)
            error = ebb_err_set(EBB_ERR_SYSTEM, "cannot fork: %s", strerror(errno));
    }
    copy_scope = NULL;
    if (error) {
        if (file.generation != 0)
            ebbi_remove(path);
        ebb_scope_close(scope);
        return error;
    }
    ebb_fd_close(ends[1]);
    struct ebbi_frozen *frozen = ebb_new_sized(&ebb_type_frozen, sizeof(*frozen));
    *frozen = (struct ebbi_frozen){.scope = scope, .output = ends[0], .copy = copy};
    running = *out = frozen;
    return EBB_OK;
}

ebb_fd ebbi_frozen_output(const struct ebbi_frozen *frozen) {
    return frozen->output;
}

bool ebbi_frozen_end(struct ebbi_frozen *frozen, bool is_done) {
    int status = 0;
    if (!is_done)
        kill(frozen->copy, SIGKILL);
    while (waitpid(frozen->copy, &status, 0) < 0 && errno == EINTR)
        ;
    ebb_scope_close(frozen->scope);
    running = NULL;
    ebb_done(frozen);
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

static void write_snapshot(struct ebb_writer *writer, void *arg) {
    (void)arg;
    static const struct ebb_snapshot_resources resources = {each_resource};
    ebb_snapshot_write(writer, &resources);
}

static void write_growth(struct ebb_writer *writer, void *arg) {
    ebb_growth_write(writer, arg != NULL);
}

static bool reply_ended(bool complete, void *arg) {
    return ebbi_frozen_end(arg, complete);
}

static void reply_frozen(struct ebb_http_request *request, const char *content_type,
                         void (*run)(struct ebb_writer *, void *), void *arg) {
    struct ebbi_frozen *frozen;
    if (ebbi_frozen_start(&frozen, run, arg, NULL) != EBB_OK) {
        ebb_writef(ebb_http_body(request), "503: %s\n", ebb_err_text());
        ebb_http_reply(request, 503, "text/plain; charset=utf-8");
        return;
    }
    ebb_http_reply_from(request, 200, content_type, frozen->output, reply_ended, frozen);
}

static void snapshot_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    reply_frozen(request, "application/json", write_snapshot, NULL);
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
        reply_frozen(request, ebbi_format_type(format), write_growth, json ? &as_json : NULL);
    }
}

void ebbi_admin_add_frozen_pages(void) {
    ebb_admin_page("/debug/heap.heapsnapshot",
                   "the object graph, for the Memory tab of Chrome DevTools", NULL, snapshot_page,
                   NULL);
    ebb_admin_page("/debug/growth",
                   "POST: count the heap; GET: the types that grew since, and what holds them",
                   "format", growth_page, NULL);
}

/* --- SIGUSR2 --- */

static struct {
    struct ebbi_frozen *frozen;
    struct ebb_watch *watch;
    char path[512];
} to_file;

static void file_end(bool is_done) {
    struct ebbi_frozen *frozen = to_file.frozen;
    ebb_watch_close(to_file.watch);
    to_file.frozen = NULL;
    to_file.watch = NULL;
    if (ebbi_frozen_end(frozen, is_done))
        ebb_tell(snapshot_written, to_file.path);
    else
        ebb_tell(snapshot_failed, to_file.path,
                 ebbi_remove(to_file.path) ? "it could not be written to its end"
                                           : "only a part of it could be written");
}

static void on_copy_ended(int events, void *arg) {
    (void)events, (void)arg;
    file_end(true);
}

void ebbi_snapshot_to_file(struct ebb_loop *loop, const char *name, const char *folder) {
    struct timespec now;
    struct ebbi_frozen *frozen;
    clock_gettime(CLOCK_REALTIME, &now);
    char path[sizeof(to_file.path)];
    snprintf(path, sizeof(path), "%s/%s-%d-%lld.%03ld.heapsnapshot", folder ? folder : ".", name,
             (int)getpid(), (long long)now.tv_sec, now.tv_nsec / 1000000);
    if (ebbi_frozen_start(&frozen, write_snapshot, NULL, path) != EBB_OK) {
        ebb_tell(snapshot_failed, path, ebb_err_text());
        return;
    }
    to_file.frozen = frozen;
    memcpy(to_file.path, path, sizeof(path));
    if (ebb_watch_open(&to_file.watch, loop, frozen->output, EBB_READ, on_copy_ended, NULL) !=
        EBB_OK)
        file_end(false);
}

void ebbi_frozen_stop(void) {
    if (to_file.frozen)
        file_end(false);
}
