/* alarms: a real daemon with everything wrong at once raises the library's alarms, says so in its
 * log, its metrics and on its pages; the watchdog names the function that stands still. */
#include "client.h"
#include "harness.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/daemon.h>
#include <ebb/fd.h>
#include <ebb/mem.h>
#include <ebb/scope.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define TEXT_MAX       (512 * 1024)
#define PATIENCE_LOOKS 300
#define LOOK_MS        100
#define GROWTH_BYTES   65536
#define STALL_MS       400
#define COLLECTING_NS                                                                              \
    (EBB_NS_PER_SECOND / 10) /* of CPU in a tick: the share wants a whole second */
#define WINDOW "9"

struct planted {
    struct planted *next;
    char rest[GROWTH_BYTES];
};

#define TEST_TYPES(ROW)                                                                            \
    ROW(planted, EBB_POINTERS, EBB_OWNED, "an object to lose")                                     \
    ROW(kept, EBB_POINTERS, EBB_SHARED, "an object that is kept for no reason")
TEST_TYPES(EBB_TYPE_DECLARE)
TEST_TYPES(EBB_TYPE_DEFINE)
static struct ebb_type *const types[] = {TEST_TYPES(EBB_TYPE_ADDRESS)};

static char answer[TEXT_MAX], log_text[TEXT_MAX];
static int port_pipe[2];
static struct planted *kept;
static struct ebb_scope *scope;
static __attribute__((used)) void *neighbours;

static void tell_port(struct ebb_daemon *daemon, void *arg) {
    (void)arg;
    int port = ebb_daemon_admin_port(daemon);
    ssize_t ignored = write(port_pipe[1], &port, sizeof(port));
    (void)ignored;
}

/* A large one, and a small one among many that live. */
__attribute__((noinline)) static void lose_one(void) {
    struct planted *lost = ebb_new(planted);
    lost->rest[0] = 1;
    for (int i = 0; i < 64; i++) {
        void **more = ebb_new_sized(&ebb_type_planted, sizeof(void *));
        if (i == 32)
            continue;
        *more = neighbours;
        neighbours = more;
    }
}

/* The watchdog must find this name. */
__attribute__((noinline)) static void stand_still_here(void) {
    struct timespec nap = {.tv_nsec = STALL_MS * 1000000L};
    while (nanosleep(&nap, &nap) != 0 && errno == EINTR)
        ;
    __asm__ volatile("" ::: "memory"); /* no tail call: the frame stays */
}

/* A second in the life of a daemon that does everything wrong. */
static void tick_badly(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    ebb_fd handle;
    stand_still_here(); /* first: what follows takes long enough when others want the processor */
    struct planted *more = ebb_new_sized(&ebb_type_kept, sizeof(*more));
    more->next = kept;
    kept = more;
    lose_one();
    if (scope == NULL)
        scope = ebb_scope_new("hoard");
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ebb_fd_eventfd(&handle, scope, "one more"), EBB_OK);
    for (uint64_t start_ns = ebb_clock_cpu_ns(); ebb_clock_cpu_ns() - start_ns < COLLECTING_NS;)
        ebb_collect(EBB_CAUSE_demand);
}

static void tick_well(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    for (int i = 0; i < 100; i++)
        ebb_done(ebb_new(planted));
    ebb_collect(EBB_CAUSE_demand);
}

static struct ebb_daemon_plan plan_of(const char *log_file) {
    static struct ebb_setting_list changes = {
        .value = {"heap_grows=100000/" WINDOW, "descriptors_grow=6/" WINDOW, "leaks_found=1/60",
                  "pauses_long=1e-9/60", "gc_share_high=0.0001/60", "descriptors_near_limit=1e-9/2",
                  "log_lossy=1/60"},
        .count = 7};
    return (struct ebb_daemon_plan){.name = "testd",
                                    .version = "1",
                                    .gc_profile = "deploy",
                                    .admin = "127.0.0.1:0",
                                    .budget = 1 << 20,
                                    .types = types,
                                    .types_count = 2,
                                    .log_file = log_file,
                                    .log_format = "json",
                                    .alarm_changes = &changes,
                                    .stall_ms = STALL_MS / 4,
                                    .ready = tell_port};
}

static pid_t start_daemon(const struct ebb_daemon_plan *plan, int *port) {
    ck_assert_int_eq(pipe2(port_pipe, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
        _exit(ebb_daemon_run(plan));
    }
    close(port_pipe[1]);
    ck_assert_int_eq(read(port_pipe[0], port, sizeof(*port)), sizeof(*port));
    close(port_pipe[0]);
    return child;
}

static void stop_daemon(pid_t child) {
    int status;
    kill(child, SIGTERM);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
}

/* Asks again and again until every name stands on the page. */
static void wait_for_all(int port, const char *path, const char *const *names, size_t count) {
    size_t found = 0;
    struct timespec nap = {.tv_nsec = LOOK_MS * 1000000L};
    for (int i = 0; i < PATIENCE_LOOKS && found < count; i++) {
        nanosleep(&nap, NULL);
        ck_assert_int_eq(client_request(port, "GET", path, answer, sizeof(answer)), 200);
        for (found = 0; found < count && strstr(answer, names[found]); found++)
            ;
    }
    ck_assert_msg(found == count, "%s does not come", names[found]);
}

static void read_log(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    client_read_all(fd, log_text, sizeof(log_text));
    close(fd);
}

static void wait_for_log(const char *path, const char *text) {
    struct timespec nap = {.tv_nsec = LOOK_MS * 1000000L};
    for (int i = 0; i < PATIENCE_LOOKS; i++) {
        read_log(path);
        if (strstr(log_text, text))
            return;
        nanosleep(&nap, NULL);
    }
    const char *stall = strstr(log_text, "loop_stalled");
    ck_abort_msg("%s does not come; the first stall: %.2000s", text, stall ? stall : "none");
}

START_TEST(what_goes_wrong_is_raised_and_told) {
    char path[] = "/tmp/ebb-test-alarms-XXXXXX";
    int fd = mkstemp(path), port;
    struct ebb_daemon_plan plan = plan_of(path);
    plan.tick = tick_badly;
    pid_t child = start_daemon(&plan, &port);
    static const char *const on_metrics[] = {
        "ebb_alarm{alarm=\"heap_grows\"} 1",    "ebb_alarm{alarm=\"descriptors_grow\"} 1",
        "ebb_alarm{alarm=\"leaks_found\"} 1",   "ebb_alarm{alarm=\"pauses_long\"} 1",
        "ebb_alarm{alarm=\"gc_share_high\"} 1", "ebb_alarm{alarm=\"descriptors_near_limit\"} 1",
        "ebb_alarm{alarm=\"loop_stalled\"} 1",  "ebb_alarm{alarm=\"accept_refused\"} 0",
    };
    wait_for_all(port, "/metrics", on_metrics, 8);
    static const char *const on_health[] = {"degraded\n", "heap_grows: ", "leaks_found: "};
    wait_for_all(port, "/healthz", on_health, 3);
    static const char *const ready[] = {"ready\n"};
    wait_for_all(port, "/readyz", ready, 1);
    static const char *const stalled[] = {"ebb_loop_stalls_total "};
    wait_for_all(port, "/metrics", stalled, 1);
    ck_assert_ptr_null(strstr(answer, "ebb_loop_stalls_total 0\n"));
    /* Each second it stands still there, and sometimes elsewhere too when others want the
     * processor. */
    wait_for_log(path, "stand_still_here");
    wait_for_log(path, "\"event.code\":\"loop_goes_on\"");
    stop_daemon(child);
    read_log(path);
    ck_assert_ptr_nonnull(
        strstr(log_text, "\"event.code\":\"alarm_raised\",\"ebb.alarm\":\"heap_grows\""));
    ck_assert_ptr_nonnull(
        strstr(log_text, "\"event.code\":\"loop_stalled\",\"ebb.loop\":\"main\""));
    unlink(path);
    close(fd);
}
END_TEST

START_TEST(a_log_that_cannot_be_written_is_an_alarm_and_no_reason_to_stop) {
    int port;
    struct ebb_daemon_plan plan = plan_of("/dev/full");
    plan.stall_ms = 0;
    plan.alarm_changes = NULL;
    plan.tick = tick_well;
    pid_t child = start_daemon(&plan, &port);

    /* A level that is set is a line in the log, which is lost. */
    ck_assert_int_eq(client_request(port, "POST", "/debug/log?level=info", answer, sizeof(answer)),
                     200);
    static const char *const raised[] = {"ebb_alarm{alarm=\"log_lossy\"} 1"};
    ck_assert_int_eq(client_request(port, "GET", "/debug/log", answer, sizeof(answer)), 200);
    wait_for_all(port, "/metrics", raised, 1);
    ck_assert_ptr_null(strstr(answer, "ebb_log_dropped_total{reason=\"write_failed\"} 0\n"));
    stop_daemon(child);
}
END_TEST

START_TEST(a_daemon_that_is_well_raises_nothing) {
    int port;
    struct ebb_daemon_plan plan = plan_of(NULL);
    plan.stall_ms = 1000;
    plan.alarm_changes = NULL;
    plan.tick = tick_well;
    pid_t child = start_daemon(&plan, &port);
    static const char *const turns[] = {"\"demand\":3"}; /* three seconds of work */
    wait_for_all(port, "/debug/status", turns, 1);
    ck_assert_int_eq(client_request(port, "GET", "/healthz", answer, sizeof(answer)), 200);
    ck_assert_str_eq(client_body(answer), "ok\n");
    ck_assert_int_eq(client_request(port, "GET", "/debug/alarms", answer, sizeof(answer)), 200);
    ck_assert_ptr_null(strstr(answer, "\"raised\":true"));
    stop_daemon(child);
}
END_TEST

HARNESS_MAIN("alarms", what_goes_wrong_is_raised_and_told,
             a_log_that_cannot_be_written_is_an_alarm_and_no_reason_to_stop,
             a_daemon_that_is_well_raises_nothing)
