/* daemon -- from main to the exit status.
 *
 * The order is what matters here:
 * 1. Checks that need nothing come first, so a wrong flag is told before anything is opened.
 * 2. The fork to the background comes before the collector and any thread.
 * 3. libevent's memory is hooked before the first loop.
 * 4. The admin address opens before start, which may begin to serve; root is given up after it, so
 * that start may bind what only root may.
 * 5. The end is proved: everything is closed, everything unreachable is collected, and what then is
 * still open or was found leaked is told by name. */
#include <ebb/daemon.h>

#include "admin.h"
#include "alarms.h"
#include "base/open.h"
#include "fork_dump.h"
#include "gc/start.h"
#include "governor.h"
#include "logs.h"
#include "process.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"
#include "heap_trace.h"
#include "trace_page.h"

#include <ebb/clock.h>
#include <ebb/leak.h>
#include <ebb/scope.h>
#include <ebb/watchdog.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#define START_BYTES     (8 << 20)
#define TICK_MS         1000
#define DRAIN_MS        20
#define EXIT_LEAK       3
#define TRACE_BYTES_MAX (64 << 20)
#define SIGNALS_MAX     6

struct ebb_daemon {
    const struct ebb_daemon_plan *plan; /* own_plan */
    struct ebb_daemon_plan own_plan;    /* the program's, with paths that hold in any folder */
    struct ebb_profile profile;
    struct ebbi_address admin_address;
    struct ebb_loop *loop;
    struct ebb_scope *scope; /* pid file and heap trace */
    ebb_fd pid_file;
    struct ebb_http *admin;
    struct ebbi_logs logs;
    struct ebb_watchdog *watchdog;
    struct ebbi_trace trace;
    struct ebbi_governor governor;
    struct ebb_timer *tick, *drain;
    uint64_t drain_until_ns; /* 0: not ending yet */
    struct ebbi_strangers strangers;
    struct ebb_signal *signals[SIGNALS_MAX];
    uint64_t collections, collected_ns; /* at the latest look, and when their number last changed */
    uint64_t idle_cpu_ns;               /* what the latest idle collection took */
};

static struct ebb_daemon the_daemon; /* static, so what it holds is reachable for the collector */

static void tell_failure(const struct ebb_daemon *self) {
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, STDERR_FILENO);
    ebb_writef(&file.writer, "%s: %s\n", self->plan->name, ebb_err_text());
}

static int status_of(enum ebb_err error) {
    return error == EBB_ERR_USAGE ? EX_USAGE : EX_OSERR;
}

/* --- each second --- */

static uint64_t collections_so_far(void) {
    uint64_t sum = 0;
    for (int cause = 0; cause < EBB_CAUSES; cause++)
        sum += ebb_metric_value(ebbi_metric_collections[cause]);
    return sum;
}

/* Collects when nothing was collected for the profile's time: whatever was lost since is found
 * then, also in a daemon that allocates nothing. Where a collection takes long, less often. */
static void collect_when_idle(struct ebb_daemon *self) {
    uint64_t now = ebb_loop_now_ns(self->loop), collections = collections_so_far();
    if (collections != self->collections) {
        self->collections = collections;
        self->collected_ns = now;
    }
    uint64_t wait_ns = self->profile.idle_collect_seconds * EBB_NS_PER_SECOND;
    uint64_t share_ns = self->idle_cpu_ns * 1000 / self->profile.idle_collect_per_mille;
    if (wait_ns == 0 || now - self->collected_ns < (wait_ns > share_ns ? wait_ns : share_ns))
        return;
    uint64_t before = ebb_metric_value(&ebb_metric_gc_cpu);
    ebb_collect(EBB_CAUSE_idle);
    self->idle_cpu_ns = ebb_metric_value(&ebb_metric_gc_cpu) - before;
}

static void tick(void *arg) {
    struct ebb_daemon *self = arg;
    collect_when_idle(self);
    ebbi_governor_tick(&self->governor, ebb_loop_now_ns(self->loop));
    ebb_leaks_tell();
    ebbi_alarms_tick();
    if (self->plan->tick)
        self->plan->tick(self, self->plan->arg);
}

/* --- signals --- */

static void on_stop_signal(void *arg) {
    ebb_daemon_stop(arg);
}

static void on_hangup(void *arg) {
    struct ebb_daemon *self = arg;
    ebbi_logs_reopen(&self->logs);
}

static void log_census(void *arg) {
    (void)arg;
    ebbi_census_tell();
}

static void on_power_fails(void *arg) {
    struct ebb_daemon *self = arg;
    ebb_log_event(power_fails, self->plan->name);
}

static void take_snapshot(void *arg) {
    struct ebb_daemon *self = arg;
    ebbi_snapshot_to_file(self->loop, self->plan->name, self->plan->snapshot_folder);
}

static const struct {
    int number;
    void (*fn)(void *arg);
} signals[] = {{SIGTERM, on_stop_signal}, {SIGINT, on_stop_signal}, {SIGHUP, on_hangup},
               {SIGPWR, on_power_fails},  {SIGUSR1, log_census},    {SIGUSR2, take_snapshot}};
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static enum ebb_err open_signals(struct ebb_daemon *self) {
    enum ebb_err error = EBB_OK;
    for (size_t i = 0; i < SIGNALS && error == EBB_OK; i++)
        error =
            ebb_signal_open(&self->signals[i], self->loop, signals[i].number, signals[i].fn, self);
    return error;
}

/* From here on they are ignored: by default they would cut short the end, which is to be proved.
 * Blocked meanwhile, since closing puts back what they did before. */
static void close_signals(struct ebb_daemon *self) {
    sigset_t ours, before;
    sigemptyset(&ours);
    for (size_t i = 0; i < SIGNALS; i++)
        sigaddset(&ours, signals[i].number);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    for (size_t i = 0; i < SIGNALS; i++) {
        if (self->signals[i])
            ebb_signal_close(self->signals[i]);
        self->signals[i] = NULL;
        signal(signals[i].number, SIG_IGN);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- the start --- */

static enum ebb_err check_plan(struct ebb_daemon *self) {
    const struct ebb_daemon_plan *plan = self->plan;
    enum ebb_err error = ebbi_logs_check(plan);
    if (error == EBB_OK && plan->admin)
        error = ebbi_admin_address(&self->admin_address, plan->admin, plan->admin_allow_remote);
    if (error == EBB_OK)
        error = ebbi_governor_check(&self->governor, plan);
    if (error)
        return error;
    return ebb_profile_read(&self->profile,
                            plan->gc_profile ? plan->gc_profile : EBB_PROFILE_DEFAULT);
}

/* What the collector and libevent take before they do anything; where they get none, they end the
 * program themselves. */
static enum ebb_err check_memory(void) {
    void *at = mmap(NULL, START_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return ebb_err_set(
            EBB_ERR_SYSTEM,
            "no memory to start with: the system refuses %d MiB (%s); " EBBI_MEMORY_REMEDY,
            START_BYTES >> 20, strerror(errno));
    munmap(at, START_BYTES);
    return EBB_OK;
}

/* In the middle of something, and without memory: an orderly end would need some. */
static void refuse_at_once(void) {
    struct ebb_daemon *self = &the_daemon;
    tell_failure(self);
    ebbi_pid_file_remove(self->pid_file, self->plan->pid_file);
    _exit(EX_OSERR);
}

static const char *absolute(const char *path) {
    char text[PATH_MAX];
    if (path == NULL)
        return NULL;
    ebbi_absolute(path, text, sizeof(text));
    char *kept = ebb_bytes(strlen(text) + 1);
    return memcpy(kept, text, strlen(text) + 1);
}

/* In the background the working folder changes, and these are opened, or removed, later. */
static void hold_paths(struct ebb_daemon_plan *plan) {
    plan->log_file = absolute(plan->log_file);
    plan->pid_file = absolute(plan->pid_file);
    plan->heap_trace = absolute(plan->heap_trace);
    plan->leak_report = absolute(plan->leak_report);
    plan->snapshot_folder = absolute(plan->snapshot_folder ? plan->snapshot_folder : ".");
}

static enum ebb_err start_library(struct ebb_daemon *self) {
    const struct ebb_daemon_plan *plan = self->plan;
    ebbi_start_refusal_set(refuse_at_once);
    ebb_collector_start(&self->profile);
    enum ebb_err error = ebb_leak_suppressions_default();
    if (error)
        return error;
    ebb_budget_set(plan->budget);
    ebbi_metrics_add_library();
    ebb_types_add(plan->types, plan->types_count);
    ebb_metrics_add(plan->metrics, plan->metrics_count);
    ebb_events_add(plan->events, plan->events_count);
    ebb_loop_library_start();
    error = ebb_loop_new(&self->loop, "main");
    if (error)
        return error;
    ebb_loop_finalize_here(self->loop);
    self->scope = ebb_scope_new("daemon");
    return EBB_OK;
}

static enum ebb_err open_trace(struct ebb_daemon *self) {
    static char path[320];
    snprintf(path, sizeof(path), "%s-heap.csv", self->plan->name);
    const char *wanted = self->plan->heap_trace;
    if (wanted == NULL && self->profile.heap_trace)
        wanted = self->plan->background ? absolute(path) : path;
    uint64_t bytes_max = self->plan->heap_trace_bytes_max;
    return ebbi_trace_open(&self->trace, self->loop, self->scope, wanted, self->plan->user,
                           bytes_max ? bytes_max : TRACE_BYTES_MAX,
                           self->profile.heap_trace_interval_ms);
}

static enum ebb_err open_all(struct ebb_daemon *self) {
    const struct ebb_daemon_plan *plan = self->plan;
    enum ebb_err error = ebbi_logs_open(&self->logs, plan);
    if (error)
        return error;
    ebb_inherited_tell();
    ebb_collector_tell();
    error = ebbi_alarms_start(plan);
    if (error == EBB_OK && plan->stall_ms > 0)
        error = ebb_watchdog_start(&self->watchdog, plan->stall_ms);
    if (error)
        return error;
    error = ebbi_leak_report_start(plan->leak_report, plan->user);
    if (error == EBB_OK)
        error = open_signals(self);
    if (error)
        return error;
    self->tick = ebb_timer_open(self->loop, TICK_MS, true, tick, self);
    if (plan->pid_file)
        error = ebbi_pid_file_open(&self->pid_file, self->scope, plan->pid_file, plan->user);
    if (plan->admin)
        ebbi_status_add(self, plan);
    if (error == EBB_OK && plan->admin)
        error = ebbi_admin_open(&self->admin, self->loop, &self->admin_address, plan->name);
    if (error == EBB_OK)
        error = open_trace(self);
    return error;
}

/* The plan's own start, and what may come only after it. */
static enum ebb_err start_work(struct ebb_daemon *self) {
    const struct ebb_daemon_plan *plan = self->plan;
    enum ebb_err error = plan->start ? plan->start(self, self->loop, plan->arg) : EBB_OK;
    if (error)
        return error;
    error = ebbi_governor_open(&self->governor, self, self->loop, self->scope);
    if (error == EBB_OK && plan->user)
        error = ebbi_become_user(plan->user);
    if (error && plan->stop)
        plan->stop(self, plan->arg);
    return error;
}

/* --- the end --- */

static void close_all(struct ebb_daemon *self) {
    ebb_watchdog_stop(self->watchdog);
    self->watchdog = NULL;
    ebbi_trace_page_stop();
    ebb_http_close(self->admin);
    ebbi_governor_close(&self->governor);
    ebb_timer_close(self->tick);
    ebb_timer_close(self->drain);
    close_signals(self);
    ebbi_trace_pause(&self->trace);
    ebbi_fork_dump_stop();
    ebb_loop_close(self->loop);
    self->admin = NULL;
    self->tick = self->drain = NULL;
    self->loop = NULL;
}

static void warn_still_open(const struct ebb_resource_view *view, void *context) {
    const struct ebb_daemon *self = context;
    if (view->fd != ebb_fd_get(self->logs.fd)) /* the log is closed last */
        ebb_log_event(still_open, ebb_resource_class_name(view->kind), view->fd, view->note,
                      view->scope ? view->scope : "none");
}

static void tell_foreign(const struct ebb_site *site, void *context) {
    (void)context;
    ebb_log_event(foreign_held, site->allocated - site->gone, site->type->name,
                  site->allocated_bytes - site->gone_bytes, ebb_site_label(site));
}

/* Collects, tells what was lost, and says whether that was nothing. Leaked memory counts where the
 * profile says so; what is still open always does. */
static bool prove_clean(struct ebb_daemon *self) {
    ebb_loop_library_stop();
    ebb_collect_fully(EBB_CAUSE_shutdown);
    ebb_leaks_tell();
    uint64_t foreign = ebb_foreign_each(tell_foreign, NULL);
    if (ebbi_leak_report_write() != EBB_OK)
        ebb_log_event(report_failed, ebb_err_text());
    ebbi_trace_rows(&self->trace);
    ebbi_pid_file_remove(self->pid_file, self->plan->pid_file);
    ebb_scope_close(self->scope);
    self->scope = NULL;
    size_t open_still = ebb_resources_each(warn_still_open, self);
    open_still -= ebb_fd_get(self->logs.fd) >= 0;
    open_still += ebbi_strangers_new(&self->strangers);
    uint64_t leaks = ebb_leaks_inexcusable() + ebb_used_after_done_count() + foreign,
             forgotten = ebb_resources_forgotten(), misuses = ebb_misuse_count();
    if (open_still == 0 && leaks == 0 && forgotten == 0 && misuses == 0) {
        ebb_log_event(ended);
        return true;
    }
    ebb_log_event(ended_unclean, leaks, forgotten, open_still, misuses);
    return open_still == 0 && forgotten == 0 && !self->profile.exit_status_on_leak;
}

static int run_until_stopped(struct ebb_daemon *self) {
    const struct ebb_daemon_plan *plan = self->plan;
    self->collected_ns = ebb_clock_ns();
    ebbi_start_refusal_set(NULL);
    if (plan->ready)
        plan->ready(self, plan->arg);
    ebbi_background_ready(plan->keeps_folder);
    ebbi_alarms_ready(true);
    ebb_loop_run(self->loop);
    ebbi_alarms_ready(false);
    ebb_log_event(stops, plan->name);
    if (plan->stop)
        plan->stop(self, plan->arg);
    close_all(self);
    bool clean = prove_clean(self);
    ebbi_logs_close(&self->logs);
    return clean ? EXIT_SUCCESS : EXIT_LEAK;
}

/* A failed start: tells it, and leaves nothing behind in the file system. */
static int give_up(struct ebb_daemon *self, enum ebb_err error) {
    tell_failure(self);
    if (self->loop)
        close_all(self);
    ebbi_pid_file_remove(self->pid_file, self->plan->pid_file);
    ebb_scope_close(self->scope);
    ebbi_logs_close(&self->logs);
    return status_of(error);
}

int ebb_daemon_run(const struct ebb_daemon_plan *plan) {
    struct ebb_daemon *self = &the_daemon;
    *self = (struct ebb_daemon){.own_plan = *plan, .plan = &self->own_plan};
    int status;
    ebb_streams_take();
    enum ebb_err error = check_plan(self);
    if (error == EBB_OK)
        error = ebb_stack_reserve();
    if (error == EBB_OK)
        error = check_memory();
    if (error) {
        tell_failure(self);
        return status_of(error);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that may not grow is no reason to end */
    if (plan->close_inherited)
        ebb_inherited_take();
    ebbi_strangers_remember(&self->strangers);
    if (plan->background && ebbi_background_fork(&status))
        return status;
    error = start_library(self);
    if (plan->background)
        hold_paths(&self->own_plan);
    if (error == EBB_OK)
        error = open_all(self);
    if (error == EBB_OK)
        error = start_work(self);
    return error ? give_up(self, error) : run_until_stopped(self);
}

static void drain(void *arg) {
    struct ebb_daemon *self = arg;
    if (self->plan->drain(self, self->plan->arg)) {
        ebb_loop_stop(self->loop);
    } else if (ebb_clock_ns() >= self->drain_until_ns) {
        ebb_log_event(drain_cut, self->plan->drain_seconds);
        ebb_loop_stop(self->loop);
    }
}

static void begin_end(void *arg) {
    struct ebb_daemon *self = arg;
    bool again = self->drain_until_ns != 0;
    self->drain_until_ns = ebb_clock_ns() + self->plan->drain_seconds * EBB_NS_PER_SECOND;
    if (again || self->plan->drain == NULL || self->plan->drain_seconds == 0) {
        ebb_loop_stop(self->loop);
        return;
    }
    self->drain = ebb_timer_open(self->loop, DRAIN_MS, true, drain, self);
    drain(self);
}

void ebb_daemon_stop(struct ebb_daemon *daemon) {
    ebbi_alarms_ready(false);
    ebb_loop_post(daemon->loop, begin_end, daemon);
}

size_t ebb_daemon_budget(const struct ebb_daemon *daemon) {
    return ebbi_governor_budget(&daemon->governor);
}

int ebb_daemon_admin_port(const struct ebb_daemon *daemon) {
    return daemon->admin ? ebb_http_port(daemon->admin) : 0;
}
