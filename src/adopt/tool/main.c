/* main -- ebb-adopt: runs a program that was never written for it on a collected heap, and reports
 * what the program loses.
 *
 *   ebb-adopt run [FLAG...] -- PROGRAM [ARGUMENT...]
 *   ebb-adopt report [PID|NAME] [--json]
 *
 * 1. What is wrong with the command line is said before anything is started: 64; 127 where there
 * is no such program, 126 where it cannot be run or watched.
 * 2. Else the exit status is the program's; 3 where it is asked to tell of lost memory. */
#include "adopt.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    BUDGET_BYTES = 64 << 20,
    STATUS_NOT_RUNNABLE = 126,
    STATUS_LEAKED = 3,
    END_SECONDS = 90,
    RECLAIM_MIN = 3
};

static const struct ebb_setting setting_rows[] = {
#define EBB_SETTING(...) EBB_SETTING_ROW(settings, __VA_ARGS__)
#include "../tbl/settings.def"
};
#define EBB_EVENT EBB_EVENT_DEFINE
#include "../tbl/events.def"
static const struct ebb_event *const events[] = {
#define EBB_EVENT EBB_EVENT_ADDRESS
#include "../tbl/events.def"
};
#define EBB_METRIC EBB_METRIC_DEFINE
#include "../tbl/metrics.def"
static struct ebb_metric *const metrics[] = {
#define EBB_METRIC EBB_METRIC_ADDRESS
#include "../tbl/metrics.def"
};
#define EBB_TYPE EBB_TYPE_DEFINE
#include "../tbl/types.def"
static struct ebb_type *const types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "../tbl/types.def"
};

static struct settings settings;
static const char **program_words;
static char program_path[PATH_MAX], library_path[PATH_MAX];
static bool is_plain;
static char plain_reason[512];
static bool has_leaked;
static struct ebb_scope *scope;

static void on_program_end(void *arg) {
    ebb_daemon_stop(arg);
}

/* What the program finds in its environment. */
static enum ebb_err prepare(struct ebb_loop *loop) {
    char name[64], token[ADOPT_TOKEN_BYTES], variable[192];
    enum ebb_err error = hear_open(loop, scope, name, token);
    if (error)
        return error;
    if (is_plain) {
        ebb_log_event(adopted_plain, plain_reason);
        return EBB_OK;
    }
    snprintf(variable, sizeof variable, "%u:%u:%d:%s:%s", (unsigned)settings.interval_ms,
             (unsigned)settings.reclaim, getpid(), token, name);
    setenv(ADOPT_VARIABLE, variable, 1);
    setenv("LD_PRELOAD", library_path, 1);
    return EBB_OK;
}

static enum ebb_err start(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)arg;
    scope = ebb_scope_new("adopt");
    pages_open();
    enum ebb_err error = prepare(loop);
    if (error == EBB_OK)
        error = program_start(loop, scope, program_words, on_program_end, daemon);
    if (error) {
        program_close();
        hear_close();
        ebb_scope_close(scope);
    }
    return error;
}

static void tick(struct ebb_daemon *daemon, void *arg) {
    (void)daemon, (void)arg;
    program_tick();
    processes_look();
}

static bool drain(struct ebb_daemon *daemon, void *arg) {
    (void)daemon, (void)arg;
    return program_end();
}

static void stop(struct ebb_daemon *daemon, void *arg) {
    (void)daemon, (void)arg;
    hear_rest();
    processes_look();
    has_leaked = processes_lost() > 0;
    if (settings.leak_report && pages_write_files(settings.leak_report) != EBB_OK)
        fprintf(stderr, "ebb-adopt: %s\n", ebb_err_text());
    program_close();
    hear_close();
    ebb_scope_close(scope);
}

static int watch(void) {
    const struct ebb_daemon_plan plan = {
        .name = "ebb-adopt",
        .version = EBB_VERSION,
        .admin = settings.admin,
        .admin_allow_remote = settings.admin_allow_remote,
        .log_file = settings.log_file,
        .log_format = settings.log_format,
        .budget = BUDGET_BYTES,
        .drain_seconds = END_SECONDS,
        .types = types,
        .types_count = sizeof types / sizeof types[0],
        .metrics = metrics,
        .metrics_count = sizeof metrics / sizeof metrics[0],
        .events = events,
        .events_count = sizeof events / sizeof events[0],
        .start = start,
        .tick = tick,
        .drain = drain,
        .stop = stop,
    };
    int status = ebb_daemon_run(&plan);
    if (status != 0)
        return status;
    status = program_status();
    return status == 0 && has_leaked && settings.exit_status_on_leak ? STATUS_LEAKED : status;
}

static int refuse(int status) {
    fprintf(stderr, "ebb-adopt: %s\n", ebb_err_text());
    return status;
}

/* Before the daemon starts: what is refused here leaves no trace. */
static int check_and_watch(void) {
    int status = EX_USAGE;
    if (program_find(program_words[0], program_path, sizeof program_path, &status) != EBB_OK)
        return refuse(status);
    program_words[0] = program_path;
    if (program_library(settings.library, library_path, sizeof library_path) != EBB_OK)
        return refuse(EX_USAGE);
    if (program_check(program_path) != EBB_OK) {
        if (!settings.or_plain)
            return refuse(STATUS_NOT_RUNNABLE);
        is_plain = true;
        snprintf(plain_reason, sizeof plain_reason, "%s", ebb_err_text());
    }
    return watch();
}

static void print_help(FILE *to) {
    struct ebb_fd_writer out;
    fprintf(to, "usage: ebb-adopt run [FLAG...] -- PROGRAM [ARGUMENT...]\n"
                "       ebb-adopt report [PID|NAME] [--json]\n");
    fflush(to);
    ebb_fd_writer_init(&out, fileno(to));
    ebb_settings_write_help(setting_rows, sizeof setting_rows / sizeof *setting_rows, &out.writer);
}

static int run(int argc, char **argv) {
    int end = 1;
    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    if (ebb_settings_parse(setting_rows, sizeof setting_rows / sizeof *setting_rows, &settings, end,
                           argv) != EBB_OK)
        return refuse(EX_USAGE);
    if (settings.help) {
        print_help(stdout);
        return EX_OK;
    }
    if (settings.reclaim > 0 && settings.reclaim < RECLAIM_MIN) {
        ebb_err_set(EBB_ERR_USAGE, "--reclaim %u: 0, or at least %d rounds",
                    (unsigned)settings.reclaim, RECLAIM_MIN);
        return refuse(EX_USAGE);
    }
    if (end + 1 >= argc) {
        ebb_err_set(EBB_ERR_USAGE,
                    "run: no program is given: put it, and its arguments, behind --");
        return refuse(EX_USAGE);
    }
    program_words = (const char **)(uintptr_t)(argv + end + 1);
    return check_and_watch();
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "run") == 0)
        return run(argc - 1, argv + 1);
    if (strcmp(command, "report") == 0)
        return ask_report(argc - 2, argv + 2);
    if (strcmp(command, "--version") == 0) {
        printf("ebb-adopt " EBB_VERSION "\n");
        return EX_OK;
    }
    bool is_help = strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0;
    print_help(is_help ? stdout : stderr);
    return is_help ? EX_OK : EX_USAGE;
}
