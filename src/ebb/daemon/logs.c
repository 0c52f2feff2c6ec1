/* logs -- where the log goes.
 *
 * "auto" is the journal when stderr is its stream (systemd says so with $JOURNAL_STREAM), else text
 * on stderr. The journal hears its own protocol, so that level and fields arrive as such.
 *
 * 1. The log's descriptor has one number from open to close: another file is put behind it
 * (dup3), because the writer may be in the middle of a line.
 * 2. The log is closed last, after everything that may still have something to say. */
#include "logs.h"

#include "admin.h"
#include "process.h"
#include "telemetry/events.h"

#include <ebb/scope.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOG_MODE       0640
#define LOG_FLAGS      (O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_NONBLOCK)
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static const char *const format_names[] = {
    [EBB_LOG_TEXT] = "text", [EBB_LOG_JSON] = "json", [EBB_LOG_JOURNAL] = "journald"};
#define FORMATS (sizeof(format_names) / sizeof(format_names[0]))

/* Is stderr what systemd connected to its journal? */
static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat seen;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &seen) == 0 && seen.st_dev == device && seen.st_ino == inode;
}

static bool find_format(const struct ebb_daemon_plan *plan, enum ebb_log_format *format) {
    const char *wanted = plan->log_format ? plan->log_format : "auto";
    for (size_t i = 0; i < FORMATS; i++)
        if (strcmp(wanted, format_names[i]) == 0) {
            *format = (enum ebb_log_format)i;
            return true;
        }
    *format = plan->log_file == NULL && stderr_is_journal() ? EBB_LOG_JOURNAL : EBB_LOG_TEXT;
    return strcmp(wanted, "auto") == 0;
}

enum ebb_err ebbi_logs_check(const struct ebb_daemon_plan *plan) {
    enum ebb_log_format format;
    if (!find_format(plan, &format))
        return ebb_err_set(EBB_ERR_USAGE,
                           "log format \"%s\" is unknown; allowed: auto, text, json, journald",
                           plan->log_format);
    if (format == EBB_LOG_JOURNAL && plan->log_file)
        return ebb_err_set(EBB_ERR_USAGE,
                           "a log file cannot have the journal's format; allowed: text, json");
    return EBB_OK;
}

/* Who opens it does not wait, who writes to it, on a thread of its own, does. */
static bool wait_when_full(ebb_fd handle) {
    int fd = ebb_fd_get(handle), flags = fcntl(fd, F_GETFL);
    return fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

/* $EBB_JOURNAL_SOCKET is for tests, and for journals of containers. */
static enum ebb_err open_journal(struct ebbi_logs *logs) {
    const char *path = getenv("EBB_JOURNAL_SOCKET");
    if (path == NULL)
        path = JOURNAL_SOCKET;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    enum ebb_err error = ebb_fd_socket(&logs->fd, logs->scope, AF_UNIX, SOCK_DGRAM, path);
    if (error)
        return error;
    if (connect(ebb_fd_get(logs->fd), (struct sockaddr *)&address, sizeof(address)) != 0 ||
        !wait_when_full(logs->fd))
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot reach the journal at %s: %s", path,
                           strerror(errno));
    return EBB_OK;
}

enum ebb_err ebbi_logs_open(struct ebbi_logs *logs, const struct ebb_daemon_plan *plan) {
    enum ebb_log_format format;
    enum ebb_err error = EBB_OK;
    find_format(plan, &format);
    ebbi_events_add_library();
    ebb_log_service_set(plan->name);
    *logs = (struct ebbi_logs){.scope = ebb_scope_new("log"), .path = plan->log_file};
    if (plan->log_file)
        error =
            ebbi_open_for(&logs->fd, logs->scope, plan->log_file, LOG_FLAGS, LOG_MODE, plan->user);
    if (plan->log_file && error == EBB_OK)
        wait_when_full(logs->fd);
    else if (format == EBB_LOG_JOURNAL)
        error = open_journal(logs);
    if (error)
        return error;
    ebb_log_format_set(format);
    if (logs->fd.generation)
        ebb_log_fd_set(ebb_fd_get(logs->fd));
    ebb_log_start();
    return EBB_OK;
}

void ebbi_logs_reopen(struct ebbi_logs *logs) {
    ebb_fd fresh;
    if (logs->path == NULL) {
        ebb_log_event(nothing_to_reopen);
        return;
    }
    enum ebb_err error = ebb_fd_open(&fresh, logs->scope, logs->path, LOG_FLAGS, LOG_MODE);
    if (error == EBB_OK) {
        wait_when_full(fresh);
        if (dup3(ebb_fd_get(fresh), ebb_fd_get(logs->fd), O_CLOEXEC) < 0)
            error = ebb_err_set(EBB_ERR_SYSTEM, "%s: %s", logs->path, strerror(errno));
        else
            ebb_log_fd_set(ebb_fd_get(logs->fd));
        ebb_fd_close(fresh);
    }
    if (error)
        ebb_log_event(log_not_reopened, ebb_err_text());
    else
        ebb_log_event(log_reopened, logs->path);
}

void ebbi_logs_close(struct ebbi_logs *logs) {
    ebb_log_stop();
    ebb_log_fd_set(STDERR_FILENO);
    ebb_log_format_set(EBB_LOG_TEXT);
    ebb_scope_close(logs->scope);
    *logs = (struct ebbi_logs){.path = NULL};
}

/* --- pages --- */

struct listing {
    struct ebb_writer *body;
    const char *between;
};

static void write_module(const char *module, enum ebb_log_level level, void *context) {
    struct listing *listing = context;
    ebb_writef(listing->body, "%s\"%s\":\"%s\"", listing->between, module,
               ebb_log_level_name(level));
    listing->between = ",";
}

/* Sets what ?module=M&level=L asks for. False: told what is wrong. */
static bool set_level(struct ebb_http_request *request) {
    const char *module = ebb_http_query(request, "module"),
               *name = ebb_http_query(request, "level");
    enum ebb_log_level level;
    bool known = name && ebb_log_level_parse(name, &level);
    if (known && module)
        known = ebb_log_module_level_set(module, level);
    else if (known)
        ebb_log_level_set(level);
    if (known)
        ebb_log_event(log_level_set, module ? module : "all modules", name);
    return known;
}

static void log_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct ebb_writer *body = ebb_http_body(request);
    if (ebb_http_is_post(request) && !set_level(request)) {
        ebb_write(body, "400: give level=error|warn|info|debug|trace, and module=M for one of the "
                        "modules that GET lists\n");
        ebb_http_reply(request, 400, "text/plain; charset=utf-8");
        return;
    }
    struct listing listing = {body, ""};
    ebb_write(body, "{\"levels\":{");
    ebb_log_modules_each(write_module, &listing);
    ebb_write(body, "}}\n");
    ebb_http_reply(request, 200, "application/json");
}

static void write_member(struct ebb_writer *body, const char *before, const char *text) {
    ebb_write(body, before);
    ebb_write_json_string(body, text, strlen(text));
}

static void write_event(const struct ebb_event *event, void *context) {
    struct listing *listing = context;
    ebb_write(listing->body, listing->between);
    write_member(listing->body, "{\"id\":\"", event->id);
    write_member(listing->body, "\",\"level\":\"", ebb_log_level_name(event->level));
    write_member(listing->body, "\",\"module\":\"", event->module);
    write_member(listing->body, "\",\"message\":\"", event->format);
    write_member(listing->body, "\",\"fields\":\"", event->fields);
    write_member(listing->body, "\",\"advice\":\"", event->advice);
    ebb_write(listing->body, "\"}");
    listing->between = ",\n";
}

static void events_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct listing listing = {ebb_http_body(request), ""};
    ebb_write(listing.body, "{\"events\":[");
    ebb_events_each(write_event, &listing);
    ebb_write(listing.body, "]}\n");
    ebb_http_reply(request, 200, "application/json");
}

void ebbi_logs_add_pages(void) {
    ebb_admin_page("/debug/log", "log levels by module; POST ?module=M&level=L sets one",
                   "module level", log_page, NULL);
    ebbi_admin_page_read_only("/debug/events", "what the log may say, and what to do about it",
                              NULL, events_page);
}
