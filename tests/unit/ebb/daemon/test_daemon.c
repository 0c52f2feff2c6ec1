/* daemon: ebb_daemon_run for real, each time in a process of its own: start, pages, signals,
 * refusals, a proved end.
 *
 * This program never starts the collector itself, so its children are as fresh as after exec. */
#include "client.h"
#include "harness.h"

#include <ebb/admin.h>
#include <ebb/daemon.h>
#include <ebb/fd.h>
#include <ebb/leak.h>
#include <ebb/log.h>
#include <ebb/scope.h>
#include <daemon/admin.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>

#define TEXT_MAX (256 * 1024)

struct planted {
    struct planted *next;
};

#define TEST_TYPES(ROW) ROW(planted, EBB_POINTERS, EBB_OWNED, "an object to lose")
TEST_TYPES(EBB_TYPE_DECLARE)
TEST_TYPES(EBB_TYPE_DEFINE)
static struct ebb_type *const types[] = {TEST_TYPES(EBB_TYPE_ADDRESS)};

static char folder[] = "/tmp/ebb-test-daemon-XXXXXX";
static char answer[TEXT_MAX], errors[TEXT_MAX];
static int port_pipe[2], error_pipe[2];

/* Tells the test the admin port: the daemon is ready. */
static void tell_port(struct ebb_daemon *daemon, void *arg) {
    (void)arg;
    int port = ebb_daemon_admin_port(daemon);
    ssize_t ignored = write(port_pipe[1], &port, sizeof(port));
    (void)ignored;
}

static struct ebb_daemon_plan plan_of(void) {
    return (struct ebb_daemon_plan){.name = "testd",
                                    .version = "1",
                                    .gc_profile = EBB_PROFILE_DEFAULT,
                                    .admin = "127.0.0.1:0",
                                    .budget = 1 << 20,
                                    .types = types,
                                    .types_count = 1,
                                    .ready = tell_port};
}

/* Starts the plan in a child; what it writes to stderr is read by end_daemon. */
static pid_t start_daemon(const struct ebb_daemon_plan *plan) {
    ck_assert_int_eq(pipe2(port_pipe, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(error_pipe, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(error_pipe[1], STDERR_FILENO);
        close(port_pipe[0]);
        close(error_pipe[0]);
        close(error_pipe[1]);
        _exit(ebb_daemon_run(plan));
    }
    close(port_pipe[1]);
    close(error_pipe[1]);
    return child;
}

/* The admin port once it is ready, 0 when it ended instead. */
static int wait_ready(void) {
    int port = 0;
    ssize_t got;
    while ((got = read(port_pipe[0], &port, sizeof(port))) < 0 && errno == EINTR)
        ;
    return got == (ssize_t)sizeof(port) ? port : 0;
}

/* Its exit status; stderr stands in errors. */
static int end_daemon(pid_t child, int signal_number) {
    int status;
    if (signal_number)
        kill(child, signal_number);
    client_read_all(error_pipe[0], errors, sizeof(errors));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    close(port_pipe[0]);
    close(error_pipe[0]);
    ck_assert_msg(WIFEXITED(status), "killed by signal %d: %s", WTERMSIG(status), errors);
    return WEXITSTATUS(status);
}

static void path_in_folder(char *path, size_t size, const char *name) {
    snprintf(path, size, "%s/%s", folder, name);
}

START_TEST(it_starts_answers_and_ends_with_0_on_both_signals) {
    int signals[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        struct ebb_daemon_plan plan = plan_of();
        pid_t child = start_daemon(&plan);
        int port = wait_ready();
        ck_assert_int_gt(port, 0);
        ck_assert_int_eq(client_request(port, "GET", "/healthz", answer, sizeof(answer)), 200);
        ck_assert_str_eq(client_body(answer), "ok\n");
        ck_assert_int_eq(client_request(port, "GET", "/metrics", answer, sizeof(answer)), 200);
        ck_assert_ptr_nonnull(strstr(answer, "\nebb_heap_bytes "));
        ck_assert_ptr_nonnull(strstr(answer, "\nprocess_open_fds "));
        int status = end_daemon(child, signals[i]);
        ck_assert_msg(status == 0, "status %d: %s", status, errors);
        ck_assert_ptr_null(strstr(errors, "WARN"));
    }
}
END_TEST

START_TEST(every_page_answers_and_the_index_lists_it) {
    struct ebb_daemon_plan plan = plan_of();
    pid_t child = start_daemon(&plan);
    int port = wait_ready();
    ck_assert_int_eq(client_request(port, "GET", "/debug", answer, sizeof(answer)), 200);
    static const char *const pages[] = {"/metrics", "/healthz", "/debug/heap", "/debug/resources",
                                        "/debug/leaks"};
    for (size_t i = 0; i < 5; i++)
        ck_assert_ptr_nonnull(strstr(answer, pages[i]));
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(client_request(port, "GET", pages[i], answer, sizeof(answer)), 200);
        int posted = strcmp(pages[i], "/debug/leaks") == 0 ? 200 : 405; /* a look for leaks */
        ck_assert_int_eq(client_request(port, "POST", pages[i], answer, sizeof(answer)), posted);
    }
    ck_assert_int_eq(client_request(port, "GET", "/nothing", answer, sizeof(answer)), 404);
    ck_assert_int_eq(client_request(port, "GET", "/debug/heap", answer, sizeof(answer)), 200);
    ck_assert_ptr_nonnull(strstr(answer, "libevent"));
    ck_assert_int_eq(client_request(port, "GET", "/debug/resources", answer, sizeof(answer)), 200);
    ck_assert_ptr_nonnull(strstr(answer, "listener"));
    ck_assert_int_eq(end_daemon(child, SIGTERM), 0);
}
END_TEST

START_TEST(a_port_in_use_ends_the_start_and_says_which) {
    struct ebb_daemon_plan plan = plan_of();
    int taken = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ck_assert_int_eq(bind(taken, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(taken, 1), 0);
    getsockname(taken, (struct sockaddr *)&address, &size);
    char text[64], expected[128];
    snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(address.sin_port));
    snprintf(expected, sizeof(expected), "testd: 127.0.0.1 port %d is in use",
             ntohs(address.sin_port));
    plan.admin = text;
    ck_assert_int_eq(end_daemon(start_daemon(&plan), 0), EX_OSERR);
    ck_assert_msg(strstr(errors, expected) != NULL, "%s", errors);
    close(taken);
}
END_TEST

START_TEST(a_public_admin_address_is_refused_unless_allowed) {
    struct ebb_daemon_plan plan = plan_of();
    plan.admin = "0.0.0.0:0";
    ck_assert_int_eq(end_daemon(start_daemon(&plan), 0), EX_USAGE);
    ck_assert_msg(
        strncmp(errors, "testd: admin address \"0.0.0.0:0\": not a loopback address", 55) == 0,
        "%s", errors);
    plan.admin_allow_remote = true;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 0);
}
END_TEST

START_TEST(an_admin_address_is_host_and_port_and_nothing_else) {
    struct ebbi_address address;
    ck_assert_int_eq(ebbi_admin_address(&address, "[::1]:9150", false), EBB_OK);
    ck_assert_str_eq(address.host, "::1");
    ck_assert_int_eq(address.port, 9150);
    ck_assert_int_eq(ebbi_admin_address(&address, "localhost:0", false), EBB_OK);
    ck_assert_str_eq(address.host, "127.0.0.1");
    static const char *const wrong[] = {
        "",          "9150",         ":9150",      "::1:9150",
        "[::1]9150", "127.0.0.1:",   "[::1]",      "127.0.0.1:65536",
        "a b:1",     "127.0.0.1:1x", "[127.0.0.1", "127.0.0.1:-1",
        "[::]:1",    "10.0.0.1:1",   "[]:1",       "]:1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(ebbi_admin_address(&address, wrong[i], false) == EBB_ERR_USAGE, "%s",
                      wrong[i]);
}
END_TEST

START_TEST(an_unknown_profile_is_a_usage_error) {
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = "no-such-profile";
    ck_assert_int_eq(end_daemon(start_daemon(&plan), 0), EX_USAGE);
    ck_assert_ptr_nonnull(strstr(errors, "no-such-profile"));
}
END_TEST

START_TEST(the_heap_trace_has_a_header_interval_rows_and_the_last_collection) {
    char path[128], text[4096];
    path_in_folder(path, sizeof(path), "heap.csv");
    struct ebb_daemon_plan plan = plan_of();
    plan.heap_trace = path;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 0);
    int file = open(path, O_RDONLY);
    ck_assert_int_ge(file, 0);
    client_read_all(file, text, sizeof(text));
    close(file);
    ck_assert_ptr_nonnull(strstr(text, "pause"));
    ck_assert_ptr_nonnull(strstr(text, "shutdown"));
    ck_assert_ptr_nonnull(strstr(text, "interval"));
    unlink(path);
}
END_TEST

START_TEST(the_pid_file_names_it_keeps_a_second_one_out_and_is_gone_at_the_end) {
    char path[128], text[32] = "", expected[32];
    path_in_folder(path, sizeof(path), "testd.pid");
    struct ebb_daemon_plan plan = plan_of();
    plan.pid_file = path;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    int first_port = port_pipe[0], first_errors = error_pipe[0];
    int file = open(path, O_RDONLY);
    ck_assert_int_gt(read(file, text, sizeof(text) - 1), 0);
    close(file);
    snprintf(expected, sizeof(expected), "%d\n", (int)child);
    ck_assert_str_eq(text, expected);
    ck_assert_int_eq(end_daemon(start_daemon(&plan), 0), EX_OSERR);
    ck_assert_ptr_nonnull(strstr(errors, "is held by a running process"));
    ck_assert_int_eq(access(path, F_OK), 0);
    port_pipe[0] = first_port;
    error_pipe[0] = first_errors;
    ck_assert_int_eq(end_daemon(child, SIGTERM), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* static and used, so that they live */
static __attribute__((used)) struct planted *neighbours;

/* This program's flock, for a file system without locks. */
static int lock_error;

int flock(int fd, int operation) {
    errno = lock_error;
    return lock_error ? -1 : (int)syscall(SYS_flock, fd, operation);
}

START_TEST(a_pid_file_that_cannot_be_locked_is_held_by_nobody_and_not_left) {
    char path[128], expected[256];
    path_in_folder(path, sizeof(path), "testd.pid");
    struct ebb_daemon_plan plan = plan_of();
    plan.pid_file = path;
    lock_error = ENOLCK;
    int status = end_daemon(start_daemon(&plan), 0);
    lock_error = 0;
    ck_assert_int_eq(status, EX_OSERR);
    snprintf(expected, sizeof(expected), "testd: cannot lock pid file %s: %s; give a path on a",
             path, strerror(ENOLCK));
    ck_assert_msg(strncmp(errors, expected, strlen(expected)) == 0, "%s", errors);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

static __attribute__((noinline)) void lose_an_object(void) {
    struct planted *lost = ebb_new(planted);
    lost->next = lost;
    ebb_keep(lost);
    for (int i = 0; i < 63; i++) {
        struct planted *more = ebb_new(planted);
        more->next = neighbours;
        neighbours = more;
    }
}

static enum ebb_err start_and_lose(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)daemon;
    (void)loop;
    for (int i = 0; i < 50; i++) /* one may hide in an old stack frame; not fifty */
        lose_an_object();
    (void)arg;
    return EBB_OK;
}

static const char *leak_profile(char *path, size_t size) {
    path_in_folder(path, size, "strict.conf");
    FILE *file = fopen(path, "w");
    fputs("exit_status_on_leak = true\n", file);
    fclose(file);
    return path;
}

START_TEST(a_planted_leak_is_named_and_makes_the_exit_status_3) {
    char path[128];
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = leak_profile(path, sizeof(path));
    plan.start = start_and_lose;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 3);
    ck_assert_msg(strstr(errors, "planted") && strstr(errors, "lose_an_object"), "%s", errors);
    unlink(path);
}
END_TEST

enum { QUIET_LOST = 20, QUIET_NEIGHBOURS = 40 };

static struct planted *quiet[QUIET_LOST * QUIET_NEIGHBOURS];
static struct ebb_scope *quiet_scope[QUIET_LOST];

static __attribute__((noinline)) void make_quiet(void) {
    for (int i = 0; i < QUIET_LOST * QUIET_NEIGHBOURS; i++)
        quiet[i] = ebb_new(planted);
    for (int i = 0; i < QUIET_LOST; i++) {
        ebb_fd handle;
        quiet_scope[i] = ebb_scope_new("quiet");
        ck_assert_int_eq(ebb_fd_open(&handle, quiet_scope[i], "/dev/null", O_RDONLY, 0), EBB_OK);
    }
}

/* All was born, and lived, before the latest collection; the daemon does nothing after this. */
static void lose_in_the_quiet(struct ebb_daemon *daemon, void *arg) {
    (void)daemon, (void)arg;
    if (quiet[0] != NULL)
        return;
    make_quiet();
    ebb_collect(EBB_CAUSE_demand);
    ebb_collect(EBB_CAUSE_demand);
    for (int i = 0; i < QUIET_LOST; i++) {
        quiet[i * QUIET_NEIGHBOURS + 1] = NULL;
        quiet_scope[i] = NULL;
    }
}

static const char *quiet_profile(char *path, size_t size) {
    path_in_folder(path, size, "quiet.conf");
    FILE *file = fopen(path, "w");
    fputs("idle_collect_seconds = 1\n", file);
    fclose(file);
    return path;
}

/* Reads its stderr until the text stands there; the daemon runs on. */
static void wait_for_line(const char *wanted) {
    size_t used = strlen(errors);
    while (strstr(errors, wanted) == NULL) {
        ssize_t got = client_read(error_pipe[0], errors + used, sizeof(errors) - 1 - used);
        ck_assert_msg(got > 0, "ended without \"%s\": %s", wanted, errors);
        used += (size_t)got;
        errors[used] = '\0';
    }
}

START_TEST(a_quiet_daemon_finds_what_it_lost) {
    char path[128];
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = quiet_profile(path, sizeof(path));
    plan.tick = lose_in_the_quiet;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    errors[0] = '\0';
    wait_for_line("forgotten: file /dev/null");
    wait_for_line(" scope (");
    wait_for_line(" planted (");
    end_daemon(child, SIGTERM);
    unlink(path);
}
END_TEST

static __attribute__((noinline)) void release_twice(void) {
    struct planted *object = ebb_new(planted);
    ebb_done(object);
    ebb_done(object);
    ebb_keep(object);
}

static enum ebb_err start_and_misuse(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)daemon, (void)loop, (void)arg;
    release_twice();
    return EBB_OK;
}

START_TEST(a_misuse_names_both_call_sites_and_makes_the_exit_status_3) {
    if (EBB_DEBUG)
        return; /* it ends a debug build at once */
    char path[128];
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = leak_profile(path, sizeof(path));
    plan.start = start_and_misuse;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 3);
    const char *line = strstr(errors, "ebb_done for the second time, by release_twice (");
    ck_assert_msg(line && strstr(errors, "made in release_twice ("), "%s", errors);
    ck_assert_msg(strstr(errors, "1 misuses"), "%s", errors);
    unlink(path);
}
END_TEST

/* static and used, so it is reachable at the end and only left open */
static __attribute__((used)) struct ebb_scope *kept;

static enum ebb_err start_and_keep_open(struct ebb_daemon *daemon, struct ebb_loop *loop,
                                        void *arg) {
    (void)daemon;
    (void)loop;
    (void)arg;
    kept = ebb_scope_new("kept");
    ebb_fd handle;
    return ebb_fd_open(&handle, kept, "/dev/null", O_RDONLY, 0);
}

START_TEST(what_is_still_open_at_the_end_is_named) {
    char path[128];
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = leak_profile(path, sizeof(path));
    plan.start = start_and_keep_open;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 3);
    ck_assert_msg(strstr(errors, "still open at the end: file") && strstr(errors, "/dev/null"),
                  "%s", errors);
    unlink(path);
}
END_TEST

static enum ebb_err start_with_a_stray(struct ebb_daemon *daemon, struct ebb_loop *loop,
                                       void *arg) {
    (void)daemon;
    (void)loop;
    (void)arg;
    return open("/dev/zero", O_RDONLY | O_CLOEXEC) >= 0 ? EBB_OK : EBB_ERR_SYSTEM;
}

START_TEST(a_descriptor_that_nobody_owns_is_named_at_the_end_in_every_profile) {
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = "deploy";
    plan.start = start_with_a_stray;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 3);
    ck_assert_msg(strstr(errors, "(/dev/zero), which nobody owns") != NULL, "%s", errors);
}
END_TEST

static __attribute__((noinline)) enum ebb_err forget_one(void) {
    ebb_fd handle;
    return ebb_fd_open(&handle, ebb_scope_new("lost"), "/dev/null", O_RDONLY, 0);
}

static enum ebb_err start_and_forget(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)daemon;
    (void)loop;
    (void)arg;
    enum ebb_err error = EBB_OK;
    for (int i = 0; i < 20 && error == EBB_OK; i++) /* one may hide in an old stack frame */
        error = forget_one();
    return error;
}

START_TEST(a_forgotten_descriptor_is_closed_and_named_by_class_and_site) {
    char path[128];
    struct ebb_daemon_plan plan = plan_of();
    plan.gc_profile = leak_profile(path, sizeof(path));
    plan.start = start_and_forget;
    pid_t child = start_daemon(&plan);
    ck_assert_int_gt(wait_ready(), 0);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 3);
    ck_assert_msg(strstr(errors, "forgotten: file /dev/null") && strstr(errors, "forget_one"), "%s",
                  errors);
    unlink(path);
}
END_TEST

static enum ebb_err start_and_fail(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)daemon;
    (void)loop;
    (void)arg;
    return ebb_err_set(EBB_ERR_BUSY, "the moon is in use");
}

START_TEST(a_failed_start_is_told_even_from_the_background) {
    for (int background = 0; background < 2; background++) {
        struct ebb_daemon_plan plan = plan_of();
        plan.start = start_and_fail;
        plan.background = background;
        ck_assert_int_eq(end_daemon(start_daemon(&plan), 0), EX_OSERR);
        ck_assert_str_eq(errors, "testd: the moon is in use\n");
    }
}
END_TEST

START_TEST(in_the_background_the_parent_leaves_when_it_answers) {
    char path[128], text[32] = "";
    path_in_folder(path, sizeof(path), "background.pid");
    struct ebb_daemon_plan plan = plan_of();
    plan.background = true;
    plan.pid_file = path;
    pid_t parent = start_daemon(&plan);
    int port = wait_ready();
    int status;
    ck_assert_int_eq(waitpid(parent, &status, 0), parent);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_int_eq(client_request(port, "GET", "/healthz", answer, sizeof(answer)), 200);
    int file = open(path, O_RDONLY);
    ck_assert_int_gt(read(file, text, sizeof(text) - 1), 0);
    close(file);
    kill(atoi(text), SIGTERM);
    /* The daemon holds the other end of this pipe until it is gone. */
    ck_assert_int_eq(read(port_pipe[0], text, sizeof(text)), 0);
    ck_assert_int_ne(access(path, F_OK), 0);
    close(port_pipe[0]);
    close(error_pipe[0]);
}
END_TEST

START_TEST(sigusr1_logs_a_census) {
    struct ebb_daemon_plan plan = plan_of();
    pid_t child = start_daemon(&plan);
    int port = wait_ready();
    kill(child, SIGUSR1);
    kill(child, SIGHUP);
    /* A turn later both have been handled: the answer comes from a turn after them. */
    ck_assert_int_eq(client_request(port, "GET", "/healthz", answer, sizeof(answer)), 200);
    ck_assert_int_eq(client_request(port, "GET", "/healthz", answer, sizeof(answer)), 200);
    ck_assert_int_eq(end_daemon(child, SIGTERM), 0);
    ck_assert_ptr_nonnull(strstr(errors, "heap: libevent "));
    ck_assert_ptr_nonnull(strstr(errors, "SIGHUP"));
}
END_TEST

/* Each of them changed how the daemon ran, or ended it, when it reached the collector's library. */
static const char *const strange[][2] = {
    {"GC_ENABLE_INCREMENTAL", "1"},  {"GC_FIND_LEAK", "1"},        {"GC_DONT_GC", "1"},
    {"GC_MAXIMUM_HEAP_SIZE", "20M"}, {"GC_LOG_FILE", "/dev/null"}, {"GC_MARKERS", "8"},
    {"GC_UNMAP_THRESHOLD", "0"},     {"GC_OF_ANOTHER_PROGRAM", ""}};
enum { STRANGE = sizeof(strange) / sizeof(strange[0]), MORE_THAN_20M = 32 };

static enum ebb_err start_in_a_clean_environment(struct ebb_daemon *daemon, struct ebb_loop *loop,
                                                 void *arg) {
    (void)daemon;
    (void)loop;
    (void)arg;
    static void *held[MORE_THAN_20M];
    for (char **at = environ; *at; at++)
        if (strncmp(*at, "GC_", 3) == 0)
            return ebb_err_set(EBB_ERR_BUSY, "%s is there", *at);
    for (int i = 0; i < MORE_THAN_20M; i++)
        held[i] = ebb_bytes(1 << 20);
    uint64_t before = ebb_collections();
    ebb_collect(EBB_CAUSE_demand);
    return ebb_collections() > before && held[0]
               ? EBB_OK
               : ebb_err_set(EBB_ERR_BUSY, "nothing was collected");
}

START_TEST(what_the_environment_says_to_the_collector_is_taken_out_and_told_in_one_line) {
    struct ebb_daemon_plan plan = plan_of();
    plan.start = start_in_a_clean_environment;
    for (size_t i = 0; i < STRANGE; i++)
        setenv(strange[i][0], strange[i][1], 1);
    pid_t child = start_daemon(&plan);
    for (size_t i = 0; i < STRANGE; i++)
        unsetenv(strange[i][0]);
    wait_ready();
    ck_assert_msg(end_daemon(child, SIGTERM) == 0, "%s", errors);
    const char *line = strstr(errors, "taken out of the environment: ");
    ck_assert_msg(line != NULL, "%s", errors);
    for (size_t i = 0; i < STRANGE; i++) {
        const char *name = strstr(line, strange[i][0]);
        ck_assert_msg(name && name < line + strcspn(line, "\n"), "%s", errors);
    }
    ck_assert_ptr_null(strstr(line + 1, "taken out of the environment"));
}
END_TEST

START_TEST(a_failing_power_is_told_and_the_collectors_signals_do_nothing_from_outside) {
    struct ebb_daemon_plan plan = plan_of();
    pid_t child = start_daemon(&plan);
    int port = wait_ready();
    for (int i = 0; i < 3; i++) {
        kill(child, SIGPWR);
        kill(child, SIGSTKFLT);
        kill(child, SIGURG);
        ck_assert_int_eq(client_request(port, "GET", "/healthz", answer, sizeof(answer)), 200);
        ck_assert_int_eq(client_request(port, "POST", "/debug/collect", answer, sizeof(answer)),
                         200);
    }
    ck_assert_int_eq(end_daemon(child, SIGTERM), 0);
    ck_assert_msg(strstr(errors, "WARN") && strstr(errors, "SIGPWR"), "%s", errors);
}
END_TEST

START_TEST(a_limit_of_processor_time_ends_it_as_it_ends_any_program) {
    struct ebb_daemon_plan plan = plan_of();
    struct rlimit core, none;
    getrlimit(RLIMIT_CORE, &core);
    none = (struct rlimit){.rlim_max = core.rlim_max};
    setrlimit(RLIMIT_CORE, &none);
    pid_t child = start_daemon(&plan);
    setrlimit(RLIMIT_CORE, &core);
    int status;
    wait_ready();
    kill(child, SIGXCPU);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU);
    close(port_pipe[0]);
    close(error_pipe[0]);
}
END_TEST

static int run_in_folder(const TTest *const *tests, size_t count) {
    if (mkdtemp(folder) == NULL)
        return EXIT_FAILURE;
    int status = harness_run("daemon", tests, count);
    rmdir(folder);
    return status;
}

int main(void) {
    const TTest *const tests[] = {
        it_starts_answers_and_ends_with_0_on_both_signals,
        every_page_answers_and_the_index_lists_it,
        a_port_in_use_ends_the_start_and_says_which,
        a_public_admin_address_is_refused_unless_allowed,
        an_admin_address_is_host_and_port_and_nothing_else,
        an_unknown_profile_is_a_usage_error,
        the_heap_trace_has_a_header_interval_rows_and_the_last_collection,
        the_pid_file_names_it_keeps_a_second_one_out_and_is_gone_at_the_end,
        a_pid_file_that_cannot_be_locked_is_held_by_nobody_and_not_left,
        a_planted_leak_is_named_and_makes_the_exit_status_3,
        a_quiet_daemon_finds_what_it_lost,
        a_misuse_names_both_call_sites_and_makes_the_exit_status_3,
        what_is_still_open_at_the_end_is_named,
        a_descriptor_that_nobody_owns_is_named_at_the_end_in_every_profile,
        a_forgotten_descriptor_is_closed_and_named_by_class_and_site,
        a_failed_start_is_told_even_from_the_background,
        in_the_background_the_parent_leaves_when_it_answers,
        sigusr1_logs_a_census,
        what_the_environment_says_to_the_collector_is_taken_out_and_told_in_one_line,
        a_failing_power_is_told_and_the_collectors_signals_do_nothing_from_outside,
        a_limit_of_processor_time_ends_it_as_it_ends_any_program,
    };
    return run_in_folder(tests, sizeof(tests) / sizeof(tests[0]));
}
