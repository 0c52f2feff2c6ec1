/* Resources other than plain descriptors, pins, and closing that neither fails nor allocates. What
 * was let go of is proved by the system: /proc, the other end of a pipe, a file that is gone. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ebb/clock.h>
#include <ebb/loop.h>
#include <ebb/resource.h>
#include <ebb/thread.h>

#include "telemetry/metrics.h"

#define PAGE       4096
#define PIN_CYCLES 100000

/* Every call of malloc in this program, libc's own included. A sanitizer brings its own malloc. */
static _Atomic uint64_t mallocs;
#if !defined(__SANITIZE_ADDRESS__)
void *__libc_malloc(size_t size);
void *malloc(size_t size) {
    atomic_fetch_add(&mallocs, 1);
    return __libc_malloc(size);
}
#endif

static uint64_t allocations(void) {
    return atomic_load(&mallocs) + ebb_metric_value(&ebb_metric_allocated_bytes);
}

static bool is_mapped(const void *at) {
    unsigned char page;
    return mincore((void *)(uintptr_t)at, PAGE, &page) == 0 || errno != ENOMEM;
}

static void wait_a_byte(int fd) {
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EAGAIN)
        usleep(100);
}

struct gate {
    _Atomic bool open;
};

static void wait_at_gate(void *arg) {
    while (!atomic_load(&((struct gate *)arg)->open))
        usleep(100);
}

/* One of each class. */
static void open_all(struct ebb_scope *scope, struct gate *gate) {
    static const char *const sleeper[] = {"/bin/sleep", "1000", NULL};
    ebb_fd handle, ends[2];
    ok(ebb_fd_open(&handle, scope, "/dev/null", O_RDONLY, 0));
    ok(ebb_fd_socket(&handle, scope, AF_UNIX, SOCK_STREAM, "socket"));
    ok(ebb_fd_pipe(ends, scope, "pipe"));
    ok(ebb_fd_eventfd(&handle, scope, "eventfd"));
    ok(ebb_fd_timerfd(&handle, scope, "timerfd"));
    ok(ebb_fd_epoll(&handle, scope, "epoll"));
    ok(ebb_map_open(&handle, scope, EBB_FD_NONE, PAGE, PROT_READ, "mapping"));
    ok(ebb_locked_open(&handle, scope, PAGE, "locked"));
    ok(ebb_temporary_open(&handle, scope, NULL));
    ok(ebb_child_open(&handle, scope, sleeper, (int[]){-1, -1, -1}));
    ok(ebb_thread_open(&handle, scope, "waiter", wait_at_gate, gate));
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(ebb_fd_adopt(&handle, scope, EBB_RESOURCE_listener, listening, "listener"));
}

START_TEST(every_class_is_opened_counted_and_closed_without_an_allocation) {
    struct gate gate = {false};
    struct ebb_scope *scope = ebb_scope_new("all");
    uint64_t fds = ebb_metric_value(&ebb_metric_process_open_fds);
    open_all(scope, &gate);
    for (int kind = EBB_RESOURCE_none + 1; kind < EBB_RESOURCE_CLASSES; kind++)
        ck_assert_uint_eq(ebb_resources_count((enum ebb_resource_class)kind),
                          kind == EBB_RESOURCE_pipe ? 2 : 1);
    atomic_store(&gate.open, true);
    uint64_t before = allocations();
    ebb_scope_close(scope);
    ck_assert_uint_eq(allocations(), before);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_process_open_fds), fds);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left, not even a dead one */
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

#if defined(__SANITIZE_ADDRESS__)
static int threads_now(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = 0;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}
#endif

START_TEST(closing_works_when_no_memory_can_be_had) {
    struct gate gate = {true};
    struct rlimit before, none;
    struct ebb_scope *scope = ebb_scope_new("all");
#if defined(__SANITIZE_ADDRESS__) /* which maps memory when a thread ends: so that is awaited */
    int threads = threads_now();
    open_all(scope, &gate);
    while (threads_now() > threads)
        usleep(100);
#else
    open_all(scope, &gate);
#endif
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    none = before;
    none.rlim_cur = PAGE; /* less than there is: every mmap and brk fails */
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
    void *refused = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ebb_scope_close(scope);
    size_t left = ebb_resources_each(NULL, NULL);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
    ck_assert_ptr_eq(refused, MAP_FAILED);
    ck_assert_uint_eq(left, 0);
}
END_TEST

START_TEST(a_mapping_shows_its_file_and_goes_away) {
    struct ebb_scope *scope = ebb_scope_new("map");
    ebb_fd file, map;
    ok(ebb_temporary_open(&file, scope, NULL));
    ck_assert_int_eq(pwrite(ebb_fd_get(file), "hello", 5, PAGE - 5), 5);
    ok(ebb_map_open(&map, scope, file, PAGE, PROT_READ, "hello"));
    size_t length;
    const char *at = ebb_map_get(map, &length);
    ck_assert_uint_eq(length, PAGE);
    ck_assert_mem_eq(at + PAGE - 5, "hello", 5);
    ck_assert_int_eq(ebb_fd_get(map), -1);
    ck_assert_ptr_null(ebb_map_get(file, NULL));
    ebb_fd_close(map);
    ck_assert(!is_mapped(at));
    ck_assert_ptr_null(ebb_map_get(map, NULL));
    ebb_fd_close(file);
    ck_assert_int_eq(ebb_map_open(&map, scope, file, PAGE, PROT_READ, "gone"), EBB_ERR_STALE);
    ebb_scope_close(scope);
}
END_TEST

START_TEST(locked_memory_is_locked_and_has_a_limit) {
    struct ebb_scope *scope = ebb_scope_new("locked");
    struct rlimit before, none;
    ebb_fd handle, second;
    ok(ebb_locked_open(&handle, scope, PAGE, "secret"));
    memset(ebb_map_get(handle, NULL), 's', PAGE);
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long locked_kib = 0;
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "VmLck: %lu", &locked_kib) == 1)
            break;
    fclose(status);
#if !defined(__SANITIZE_ADDRESS__) /* whose mlock does nothing */
    ck_assert_uint_ge(locked_kib, PAGE / 1024);
#endif
    if (geteuid() != 0) { /* root may lock what it likes */
        ck_assert_int_eq(getrlimit(RLIMIT_MEMLOCK, &before), 0);
        none = before;
        none.rlim_cur = 0;
        ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
        ck_assert_int_eq(ebb_locked_open(&second, scope, PAGE, "more"), EBB_ERR_LIMIT);
        ck_assert_ptr_nonnull(strstr(ebb_err_text(), "RLIMIT_MEMLOCK"));
        ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &before), 0);
    }
    ebb_scope_close(scope);
}
END_TEST

static void path_of(ebb_fd handle, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", ebb_fd_get(handle));
    ssize_t length = readlink(link, path, size - 1);
    ck_assert_int_gt(length, 0);
    path[length] = '\0';
}

START_TEST(a_temporary_file_goes_with_its_handle_even_when_renamed) {
    struct ebb_scope *scope = ebb_scope_new("temporary");
    char path[4096], other[4096 + 8];
    ebb_fd first, second, third;
    ok(ebb_temporary_open(&first, scope, NULL));
    path_of(first, path, sizeof path);
    ck_assert_int_eq(access(path, F_OK), 0);
    ebb_fd_close(first);
    ck_assert_int_ne(access(path, F_OK), 0);

    ok(ebb_temporary_open(&second, scope, NULL));
    path_of(second, path, sizeof path);
    snprintf(other, sizeof other, "%s-moved", path);
    ck_assert_int_eq(rename(path, other), 0);
    ebb_fd_close(second);
    ck_assert_int_ne(access(other, F_OK), 0);

    ok(ebb_temporary_open(&third, scope,
                          NULL)); /* somebody else's file under the same name stays */
    path_of(third, path, sizeof path);
    ck_assert_int_eq(unlink(path), 0);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ebb_scope_close(scope);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(ebb_temporary_open(&third, NULL, "/no/such/folder"), EBB_ERR_SYSTEM);
}
END_TEST

START_TEST(a_child_talks_ends_and_is_reaped) {
    static const char *const words[] = {"/bin/sh", "-c", "cat; exit 7", NULL};
    static const char *const sleeper[] = {"/bin/sleep", "1000", NULL};
    static const char *const absent[] = {"/no/such/program", NULL};
    struct ebb_scope *scope = ebb_scope_new("child");
    ebb_fd child, in[2], out[2];
    int status = 0;
    ok(ebb_fd_pipe(in, scope, "in"));
    ok(ebb_fd_pipe(out, scope, "out"));
    fcntl(ebb_fd_get(in[0]), F_SETFL, 0);
    ok(ebb_child_open(&child, scope, words, (int[]){ebb_fd_get(in[0]), ebb_fd_get(out[1]), -1}));
    ck_assert_int_eq(write(ebb_fd_get(in[1]), "x", 1), 1);
    wait_a_byte(ebb_fd_get(out[0]));
    ebb_fd_close(in[1]);
    ok(ebb_child_wait(child, &status));
    ck_assert_int_eq(status, 7);
    pid_t id = ebb_child_id(child);
    ebb_fd_close(child);
    ck_assert_int_eq(kill(id, 0), -1);
    ck_assert_int_eq(ebb_child_id(child), 0);
    ck_assert_int_eq(ebb_child_wait(child, &status), EBB_ERR_STALE);

    ok(ebb_child_open(&child, scope, sleeper, (int[]){-1, -1, -1}));
    id = ebb_child_id(child);
    kill(id, SIGTERM);
    ok(ebb_child_wait(child, &status));
    ck_assert_int_eq(status, 128 + SIGTERM);
    ck_assert_int_eq(ebb_child_open(&child, scope, absent, (int[]){-1, -1, -1}), EBB_ERR_SYSTEM);
    ebb_scope_close(scope);
    ck_assert_int_eq(kill(id, 0), -1);
}
END_TEST

START_TEST(a_pinned_descriptor_stays_open_until_the_last_pin_is_gone) {
    struct ebb_scope *scope = ebb_scope_new("pin");
    ebb_fd handle;
    ok(ebb_fd_eventfd(&handle, scope, "pinned"));
    int fd = ebb_fd_pin(handle);
    ck_assert_int_eq(ebb_fd_pin(handle), fd);
    ebb_fd_close(handle);
    ck_assert_int_eq(ebb_fd_get(handle), -1); /* nobody new gets at it */
    ck_assert_int_eq(ebb_fd_pin(handle), -1);
    ck_assert(!ebb_fd_give(handle, scope));
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_eventfd), 1);
    ebb_scope_close(scope);
    ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
    ebb_fd_unpin(handle);
    ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
    ebb_fd_unpin(handle);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

struct caller {
    struct ebb_loop *loop;
    struct ebb_scope *scope;
    struct ebb_watch *watch;
    ebb_fd handle;
    int fd;
    bool open_after_close;
};

static void close_yourself(int events, void *arg) {
    (void)events;
    struct caller *self = arg;
    ebb_watch_close(self->watch);
    ebb_scope_close(self->scope);
    self->open_after_close = fcntl(self->fd, F_GETFD) >= 0;
    ebb_loop_stop(self->loop);
}

START_TEST(a_close_during_a_callback_takes_effect_after_it) {
    struct caller self = {.scope = ebb_scope_new("caller")};
    ok(ebb_loop_new(&self.loop, "test"));
    ok(ebb_fd_eventfd(&self.handle, self.scope, "in flight"));
    self.fd = ebb_fd_get(self.handle);
    ok(ebb_watch_open(&self.watch, self.loop, self.handle, EBB_READ, close_yourself, &self));
    uint64_t one = 1;
    ck_assert_int_eq(write(self.fd, &one, sizeof one), sizeof one);
    ebb_loop_run(self.loop);
    ck_assert(self.open_after_close);
    ck_assert_int_eq(fcntl(self.fd, F_GETFD), -1);
    ebb_loop_close(self.loop);
}
END_TEST

struct pinner {
    _Atomic uint64_t handle; /* index and generation of the newest */
    _Atomic bool end;
    int wrong;
};

/* Pins whatever is newest: what it got must be an open eventfd for as long as the pin lasts. */
static void pin_and_look(void *arg) {
    struct pinner *self = arg;
    while (!atomic_load(&self->end)) {
        uint64_t both = atomic_load(&self->handle);
        ebb_fd handle = {(uint32_t)both, (uint32_t)(both >> 32)};
        int fd = ebb_fd_pin(handle);
        if (fd < 0)
            continue;
        uint64_t one = 1;
        self->wrong += write(fd, &one, sizeof one) != sizeof one;
        ebb_fd_unpin(handle);
    }
}

START_TEST(pins_hold_while_another_thread_closes) {
    struct pinner self = {0};
    struct ebb_thread *thread;
    struct ebb_scope *scope = ebb_scope_new("pins");
    ok(ebb_thread_start(&thread, "pinner", pin_and_look, &self));
    for (int i = 0; i < PIN_CYCLES; i++) {
        ebb_fd handle;
        ok(ebb_fd_eventfd(&handle, scope, "cycle"));
        atomic_store(&self.handle, (uint64_t)handle.generation << 32 | handle.index);
        ebb_fd_close(handle);
    }
    atomic_store(&self.end, true);
    ebb_thread_join(thread);
    ck_assert_int_eq(self.wrong, 0);
    ebb_scope_close(scope);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}
END_TEST

START_TEST(a_timer_of_the_kernel_fires) {
    struct ebb_scope *scope = ebb_scope_new("timer");
    ebb_fd handle;
    ok(ebb_fd_timerfd(&handle, scope, "soon"));
    struct itimerspec soon = {.it_value = {.tv_nsec = 1000}};
    ck_assert_int_eq(timerfd_settime(ebb_fd_get(handle), 0, &soon, NULL), 0);
    uint64_t times = 0;
    while (read(ebb_fd_get(handle), &times, sizeof times) < 0 && errno == EAGAIN)
        usleep(100);
    ck_assert_uint_eq(times, 1);
    ebb_scope_close(scope);
}
END_TEST

int main(void) {
    harness_collector();
    ebb_loop_library_start();
    const TTest *const tests[] = {
        every_class_is_opened_counted_and_closed_without_an_allocation,
        closing_works_when_no_memory_can_be_had,
        a_mapping_shows_its_file_and_goes_away,
        locked_memory_is_locked_and_has_a_limit,
        a_temporary_file_goes_with_its_handle_even_when_renamed,
        a_child_talks_ends_and_is_reaped,
        a_pinned_descriptor_stays_open_until_the_last_pin_is_gone,
        a_close_during_a_callback_takes_effect_after_it,
        pins_hold_while_another_thread_closes,
        a_timer_of_the_kernel_fires,
    };
    return harness_run("resource", tests, sizeof(tests) / sizeof(tests[0]));
}
