/* Scopes and their descriptors. What a scope forgot is proved by the other end: a peer that reads
 * the end of file, or a descriptor that the kernel gives out again. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ebb/fd.h>
#include <ebb/log.h>
#include <ebb/thread.h>

#include "telemetry/metrics.h"

#define THREADS           8
#define CYCLES_PER_THREAD 125000 /* a million in all */
#define OLD_HANDLES       32
#define MANY              2500 /* more than two chunks of the table */

void forget_a_socket(void *arg);

static ebb_fd adopt(struct ebb_scope *scope, enum ebb_resource_class kind, int fd,
                    const char *note) {
    ebb_fd handle;
    ck_assert_msg(ebb_fd_adopt(&handle, scope, kind, fd, note) == EBB_OK, "%s", ebb_err_text());
    return handle;
}

static ebb_fd open_eventfd(struct ebb_scope *scope) {
    ebb_fd handle;
    ck_assert_msg(ebb_fd_eventfd(&handle, scope, "test") == EBB_OK, "%s", ebb_err_text());
    return handle;
}

static void socket_pair(int ends[2]) {
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

START_TEST(a_scope_closes_newest_first) {
    /* An epoll set lists what became ready in the order in which it did. */
    int set = epoll_create1(EPOLL_CLOEXEC), peer[3];
    struct ebb_scope *scope = ebb_scope_new("test");
    for (int i = 0; i < 3; i++) {
        int ends[2];
        socket_pair(ends);
        peer[i] = ends[1];
        adopt(scope, EBB_RESOURCE_socket, ends[0], "pair");
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, peer[i], &event), 0);
    }
    ebb_scope_close(scope);
    struct epoll_event ready[3];
    ck_assert_int_eq(epoll_wait(set, ready, 3, 0), 3);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(ready[i].data.u32, 2 - i);
    for (int i = 0; i < 3; i++)
        close(peer[i]);
    close(set);
}
END_TEST

START_TEST(a_closed_handle_is_stale) {
    struct ebb_scope *scope = ebb_scope_new("test");
    ebb_fd handle = open_eventfd(scope);
    int fd = ebb_fd_get(handle);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    uint64_t stale_before = ebb_metric_value(&ebb_metric_stale_handles);
    ebb_fd_close(handle);
    ck_assert_int_eq(ebb_fd_get(handle), -1);
    ebb_fd again = open_eventfd(scope); /* most likely the same number and the same entry */
    ebb_fd_close(handle);
    ck_assert_int_ge(ebb_fd_get(again), 0);
    ck_assert(!ebb_fd_give(handle, scope));
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_stale_handles), stale_before + 2);
    ck_assert_int_eq(ebb_fd_get(EBB_FD_NONE), -1);
    ck_assert_int_eq(ebb_fd_get((ebb_fd){UINT32_MAX, 1}), -1);
    ebb_fd_close(EBB_FD_NONE);
    ebb_scope_close(scope);
    ck_assert_int_eq(ebb_fd_get(again), -1);
}
END_TEST

struct cycler {
    struct ebb_thread *thread;
    int reached, broken; /* stale handles that reached something; own descriptors somebody closed */
};

/* Opens and closes without end while others do the same, and tries all its old handles. */
static void cycle(void *arg) {
    struct cycler *self = arg;
    struct ebb_scope *scope = ebb_scope_new("cycler");
    ebb_fd old[OLD_HANDLES] = {{0, 0}};
    for (int i = 0; i < CYCLES_PER_THREAD; i++) {
        ebb_fd now;
        if (ebb_fd_eventfd(&now, scope, "cycle") != EBB_OK) {
            self->broken++;
            break;
        }
        ebb_fd_close(old[i % OLD_HANDLES]);
        uint64_t one = 1;
        if (write(ebb_fd_get(now), &one, sizeof one) != sizeof one)
            self->broken++;
        ebb_fd_close(now);
        old[i % OLD_HANDLES] = now;
        for (int j = 0; j < OLD_HANDLES; j++)
            self->reached += ebb_fd_get(old[j]) != -1;
    }
    ebb_scope_close(scope);
}

START_TEST(a_stale_handle_never_reaches_a_recycled_descriptor) {
    struct cycler cycler[THREADS] = {{0}};
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(ebb_thread_start(&cycler[i].thread, "cycler", cycle, &cycler[i]), EBB_OK);
    for (int i = 0; i < THREADS; i++) {
        ebb_thread_join(cycler[i].thread);
        ck_assert_int_eq(cycler[i].reached, 0);
        ck_assert_int_eq(cycler[i].broken, 0);
    }
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

START_TEST(a_given_resource_is_closed_by_its_new_scope) {
    struct ebb_scope *from = ebb_scope_new("from"), *to = ebb_scope_new("to");
    ebb_fd first = open_eventfd(from), second = open_eventfd(from), third = open_eventfd(from);
    ck_assert(ebb_fd_give(second, to));
    ebb_scope_close(from);
    ck_assert_int_eq(ebb_fd_get(first), -1);
    ck_assert_int_ge(ebb_fd_get(second), 0);
    ck_assert_int_eq(ebb_fd_get(third), -1);
    ebb_scope_close(to);
    ck_assert_int_eq(ebb_fd_get(second), -1);
    ebb_scope_close(NULL);
}
END_TEST

static void see_one(const struct ebb_resource_view *view, void *context) {
    struct ebb_resource_view *out = context;
    *out = *view;
    ck_assert_str_eq(view->scope, "the scope");
    ck_assert_uint_eq(strlen(view->note), 47);
}

START_TEST(the_inventory_names_class_note_and_owner) {
    char note[100];
    memset(note, 'n', sizeof note - 1);
    note[sizeof note - 1] = '\0';
    struct ebb_scope *scope = ebb_scope_new("the scope");
    ebb_fd handle = adopt(scope, EBB_RESOURCE_pipe, eventfd(0, EFD_CLOEXEC), note);
    struct ebb_resource_view view = {0};
    ck_assert_uint_eq(ebb_resources_each(see_one, &view), 1);
    ck_assert_int_eq(view.kind, EBB_RESOURCE_pipe);
    ck_assert_int_eq(view.fd, ebb_fd_get(handle));
    ck_assert_uint_ne(view.opened_ns, 0);
    ck_assert_uint_ne(view.opened_at, 0);
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_pipe), 1);
    ck_assert_str_eq(ebb_resource_class_name(EBB_RESOURCE_pipe), "pipe");
    ebb_scope_close(scope);
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_pipe), 0);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

START_TEST(the_table_grows) {
    struct rlimit before, raised;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    raised = before;
    raised.rlim_cur = raised.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &raised), 0);
    static ebb_fd handle[MANY];
    struct ebb_scope *scope = ebb_scope_new("many");
    for (int i = 0; i < MANY; i++)
        handle[i] = open_eventfd(scope);
    for (int i = 1; i < MANY; i++)
        ck_assert_int_ne(ebb_fd_get(handle[i]), ebb_fd_get(handle[i - 1]));
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), MANY);
    ebb_scope_close(scope);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
}
END_TEST

/* On a thread of its own, so that no stack that is still in use remembers the scope. */
void forget_a_socket(void *arg) {
    struct ebb_scope *scope = ebb_scope_new("forgetful");
    ebb_fd handle;
    if (ebb_fd_adopt(&handle, scope, EBB_RESOURCE_socket, *(int *)arg, "peer 7") != EBB_OK)
        abort();
}

static void forget(int fd) {
    struct ebb_thread *thread;
    static int passed;
    passed = fd;
    ck_assert_int_eq(ebb_thread_start(&thread, "forget", forget_a_socket, &passed), EBB_OK);
    ebb_thread_join(thread);
}

START_TEST(a_forgotten_scope_is_closed_counted_and_named) {
    int ends[2], log = memfd_create("log", MFD_CLOEXEC);
    socket_pair(ends);
    struct ebb_metric *metric = ebbi_metric_resources_forgotten[EBB_RESOURCE_socket];
    uint64_t before = ebb_resources_forgotten(), metric_before = ebb_metric_value(metric);
    forget(ends[0]);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 1);
    ebb_log_fd_set(log);
    ebb_collect_fully(EBB_CAUSE_demand);
    ebb_log_fd_set(STDERR_FILENO);
    ck_assert_uint_eq(ebb_resources_forgotten(), before + 1);
    ck_assert_uint_eq(ebb_metric_value(metric), metric_before + 1);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
    char text[2048] = "";
    ck_assert_int_eq(read(ends[1], text, 1), 0); /* the other end hears that it was closed */
    ck_assert_int_gt(pread(log, text, sizeof text - 1, 0), 0);
    ck_assert_ptr_nonnull(strstr(text, "forgotten: socket peer 7"));
    ck_assert_ptr_nonnull(strstr(text, "\"forgetful\""));
    ck_assert_msg(strstr(text, "forget_a_socket") != NULL, "no call site in: %s", text);
    close(ends[1]);
    close(log);
}
END_TEST

START_TEST(a_full_process_first_takes_back_what_was_forgotten) {
    int ends[2];
    socket_pair(ends);
    struct rlimit before, full;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct ebb_scope *scope = ebb_scope_new("test");
    ebb_fd handle;
    forget(ends[0]);
    full = before;
    full.rlim_cur = (rlim_t)ends[1] + 1; /* every lower number must be in use: fill the gaps */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &full), 0);
    struct ebb_scope *filler = ebb_scope_new("filler");
    for (int fd; (fd = dup(STDIN_FILENO)) >= 0;)
        adopt(filler, EBB_RESOURCE_file, fd, "filler");
    ck_assert_int_eq(errno, EMFILE);
    uint64_t forgotten = ebb_resources_forgotten();
    enum ebb_err rescued = ebb_fd_open(&handle, scope, "/dev/null", O_RDONLY, 0);
    ck_assert_msg(rescued == EBB_OK, "%s", ebb_err_text());
    ck_assert_uint_eq(ebb_resources_forgotten(), forgotten + 1);
    ebb_fd second;
    ck_assert_int_eq(ebb_fd_open(&second, scope, "/dev/null", O_RDONLY, 0), EBB_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "RLIMIT_NOFILE"));
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "/dev/null"));
    ck_assert_int_eq(ebb_fd_get(second), -1);
    ck_assert_int_eq(ebb_fd_eventfd(&second, scope, "e"), EBB_ERR_LIMIT);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ebb_scope_close(filler);
    ebb_scope_close(scope);
    close(ends[1]);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_is_named) {
    struct ebb_scope *scope = ebb_scope_new("test");
    ebb_fd handle;
    ck_assert_int_eq(ebb_fd_open(&handle, scope, "/no/such/file", O_RDONLY, 0), EBB_ERR_SYSTEM);
    ck_assert_str_eq(ebb_err_text(), "cannot open /no/such/file: No such file or directory");
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
    ebb_scope_close(scope);
}
END_TEST

HARNESS_MAIN_COLLECTED("scope", a_scope_closes_newest_first, a_closed_handle_is_stale,
                       a_stale_handle_never_reaches_a_recycled_descriptor,
                       a_given_resource_is_closed_by_its_new_scope,
                       the_inventory_names_class_note_and_owner, the_table_grows,
                       a_forgotten_scope_is_closed_counted_and_named,
                       a_full_process_first_takes_back_what_was_forgotten,
                       a_file_that_cannot_be_opened_is_named)
