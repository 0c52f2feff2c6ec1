/* main -- the command line, then everything else is somebody's. */
#include "cmd/events.h"
#include "cmd/compatibility.h"
#include "cmd/metrics.h"
#include "cmd/options.h"
#include "server.h"

#include <ebb/inventory.h>
#include <ebb/log.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

static struct settings settings;

static struct ebb_type *const types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "tbl/types.def"
};

#define EBB_TYPE EBB_TYPE_DECLARE
#include "tbl/store_types.def"
static struct ebb_type *const cache_types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "tbl/store_types.def"
};

static uint64_t connections(void) {
    return ebb_metric_value(&ebb_metric_connections);
}

static const char license[] =
    "ebbd " EBB_VERSION
    ", Copyright the ebb authors, BSD-3-Clause: redistribution and use in source "
    "and binary\nforms are allowed if the copyright notice and the license's disclaimer are kept; "
    "no "
    "warranty of any kind.\nIt uses libevent (BSD-3-Clause) and the Boehm collector (MIT-style).\n";

/* -r: as memcached, all that is allowed. */
static void raise_core_limit(void) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_CORE, &limit) == 0)
        return;
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur > 0)
            return;
    }
    ebb_log_event(no_core_files);
}

/* What concerns the whole process, in the process that serves. */
static void prepare_process(void) {
    if (settings.core_dumps)
        raise_core_limit();
    options_tell(&settings);
}

static enum ebb_err start(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)arg;
    prepare_process();
    return server_open(&settings, ebb_daemon_budget(daemon), loop);
}

static void stop(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    server_close();
}

static bool drain(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    return server_drain();
}

static void memory_read(struct ebb_daemon *daemon, size_t *target, size_t *used, void *arg) {
    (void)daemon;
    (void)arg;
    server_memory_read(target, used);
}

static bool memory_set(struct ebb_daemon *daemon, size_t target, void *arg) {
    (void)daemon;
    (void)arg;
    return server_memory_set(target);
}

static void tick(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    server_tick();
}

static void status(struct ebb_daemon *daemon, struct ebb_writer *writer, void *arg) {
    (void)daemon;
    (void)arg;
    server_status(writer);
}

static void ready(struct ebb_daemon *daemon, void *arg) {
    (void)arg;
    server_tell(daemon);
}

static int serve(void) {
    struct ebb_daemon_plan plan = {
        .name = "ebbd",
        .version = EBB_VERSION,
        .gc_profile = settings.gc_profile,
        .heap_trace = settings.heap_trace,
        .heap_trace_bytes_max = settings.heap_trace_size,
        .leak_report = settings.leak_report,
        .snapshot_folder = settings.snapshot_folder,
        .admin = settings.admin,
        .admin_allow_remote = settings.admin_allow_remote,
        .pid_file = settings.pid_file,
        .user = settings.user,
        .background = settings.background,
        .keeps_folder = settings.core_dumps, /* as memcached: there they go */
        .budget = settings.memory_mib << 20,
        .budget_name = "--memory-limit (-m)",
        .memory_max = settings.memory_max,
        .gc_cpu_percent = (unsigned)settings.gc_cpu_percent,
        .system_root = settings.system_root,
        .close_inherited = true,
        .drain_seconds = (unsigned)settings.drain_seconds,
        .types = types,
        .types_count = sizeof(types) / sizeof(types[0]),
        .metrics = metrics_rows,
        .metrics_count = metrics_rows_count,
        .start = start,
        .stop = stop,
        .drain = drain,
        .memory_read = memory_read,
        .memory_set = memory_set,
        .tick = tick,
        .ready = ready,
        .status = status,
        .log_file = settings.log_file,
        .log_format = settings.log_format,
        .alarms = alarms_rows,
        .alarms_count = alarms_rows_count,
        .alarm_changes = &settings.alarm,
        .stall_ms = settings.stall_ms,
        .load = connections,
        .cache_types = cache_types,
        .cache_types_count = sizeof(cache_types) / sizeof(cache_types[0]),
        .events = events_rows,
        .events_count = events_rows_count,
    };
    alarms_prepare();
    ebb_log_level_set(
        (enum ebb_log_level)(EBB_LOG_INFO + (settings.verbose < 2 ? settings.verbose : 2)));
    return ebb_daemon_run(&plan);
}

int main(int argc, char **argv) {
    struct ebb_fd_writer out;
    ebb_streams_take();
    if (ebb_stack_reserve() != EBB_OK) {
        ebb_fd_writer_init(&out, STDERR_FILENO);
        ebb_write(&out.writer, "ebbd: "); /* which takes less stack than ebb_writef */
        ebb_write(&out.writer, ebb_err_text());
        ebb_write(&out.writer, "\n");
        return EX_OSERR;
    }
    ebb_fd_writer_init(&out, STDOUT_FILENO);
    if (settings_read(&settings, argc, argv) != EBB_OK) {
        fprintf(stderr, "ebbd: %s\n", ebb_err_text());
        return EX_USAGE;
    }
    if (settings_print_only(&settings)) {
        if (settings.help)
            settings_write_help(&out.writer);
        else if (settings.compatibility)
            compatibility_write(&out.writer);
        else if (settings.flags_table)
            settings_write_table(&out.writer);
        else if (settings.license)
            ebb_write(&out.writer, license);
        else
            ebb_write(&out.writer, "ebbd " EBB_VERSION "\n");
        return out.failed ? EX_IOERR : EX_OK;
    }
    if (settings.user == NULL && (getuid() == 0 || geteuid() == 0)) {
        fprintf(stderr, "ebbd: can't run as root without the -u switch\n");
        return EX_USAGE;
    }
    return serve();
}
