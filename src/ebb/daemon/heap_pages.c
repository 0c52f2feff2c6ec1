/* heap_pages -- the heap, its trace, its profile and its leaks at the admin address and in the log.
 *
 * Each is there for people (text) and for programs (JSON, CSV). */
#include "admin.h"
#include "fork_dump.h"
#include "telemetry/events.h"
#include "heap_trace.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/daemon.h>
#include <ebb/heap.h>
#include <ebb/leak.h>
#include <ebb/scope.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define REPORT_MODE 0644
#define PATH_BYTES  1024
#define ERROR_TEXT  256

static const char *report_path;

/* --- formats --- */

bool ebbi_format_of(struct ebb_http_request *request, enum ebbi_format *format) {
    static const char *const names[] = {"text", "json", "csv"};
    const char *asked = ebb_http_query(request, "format"),
               *accept = ebb_http_header(request, "Accept");
    *format = EBBI_FORMAT_TEXT;
    if (asked == NULL) {
        if (accept && strstr(accept, "application/json"))
            *format = EBBI_FORMAT_JSON;
        else if (accept && strstr(accept, "text/csv"))
            *format = EBBI_FORMAT_CSV;
        return true;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(asked, names[i]) == 0) {
            *format = (enum ebbi_format)i;
            return true;
        }
    ebb_write(ebb_http_body(request), "400: format is one of text, json, csv\n");
    ebb_http_reply(request, 400, "text/plain; charset=utf-8");
    return false;
}

const char *ebbi_format_type(enum ebbi_format format) {
    static const char *const types[] = {"text/plain; charset=utf-8", "application/json",
                                        "text/csv; charset=utf-8"};
    return types[format];
}

/* ?gc=1 as in Go: what is dead shall not be counted. Another value than 0 and 1 is answered with a
 * 400; then false. */
static bool collected_if_asked(struct ebb_http_request *request) {
    const char *gc = ebb_http_query(request, "gc");
    if (gc == NULL || strcmp(gc, "0") == 0)
        return true;
    if (strcmp(gc, "1") == 0) {
        ebb_collect_fully(EBB_CAUSE_demand);
        return true;
    }
    ebb_write(ebb_http_body(request), "400: gc is 0 or 1\n");
    ebb_http_reply(request, 400, "text/plain; charset=utf-8");
    return false;
}

/* --- the heap --- */

static void heap_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    enum ebbi_format format;
    struct ebb_census census;
    if (!ebbi_format_of(request, &format) || !collected_if_asked(request))
        return;
    ebb_census_take(&census);
    if (format == EBBI_FORMAT_JSON)
        ebb_census_write_json(ebb_http_body(request), &census);
    else
        ebb_census_write_text(ebb_http_body(request), &census);
    ebb_http_reply(request, 200,
                   ebbi_format_type(format == EBBI_FORMAT_JSON ? format : EBBI_FORMAT_TEXT));
}

/* A writer that makes a log line of each line. */
struct line_writer {
    struct ebb_writer writer;
    char line[512];
    size_t used;
};

static void line_write(struct ebb_writer *writer, const char *bytes, size_t length) {
    struct line_writer *self = (struct line_writer *)writer;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != '\n' && self->used < sizeof(self->line) - 1) {
            self->line[self->used++] = bytes[i];
            continue;
        }
        struct ebb_log_site site = {0}; /* a fresh one: these lines belong together */
        self->line[self->used] = 0;
        if (self->used > 0 && ebb_log_on(EBB_LOG_INFO))
            ebb_log_event_write(&site, &ebb_event_heap_line, ebb_event_format_heap_line,
                                self->line);
        self->used = 0;
    }
}

void ebbi_census_tell(void) {
    struct ebb_census census;
    struct line_writer lines = {.writer = {line_write}};
    ebb_census_take(&census);
    ebb_census_write_text(&lines.writer, &census);
}

static void profile_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    if (!collected_if_asked(request))
        return;
    ebb_heap_profile_write(ebb_http_body(request));
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

/* A GET asks whether there are symbols at all, a POST what they are. */
static void symbol_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct ebb_writer *body = ebb_http_body(request);
    bool readable = true;
    if (ebb_http_is_post(request))
        readable = ebb_heap_symbols_write(body, ebb_http_sent(request));
    else
        ebb_write(body, "num_symbols: 1\n");
    if (!readable)
        ebb_write(body, "400: addresses are to be sent as 0x1a2b+0x3c4d\n");
    ebb_http_reply(request, readable ? 200 : 400, "text/plain; charset=utf-8");
}

/* As in Go: arguments, with NULs between them. */
static void cmdline_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    ebb_heap_cmdline_write(ebb_http_body(request));
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

static void trace_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    enum ebbi_format format;
    if (!ebbi_format_of(request, &format))
        return;
    if (format == EBBI_FORMAT_JSON)
        ebbi_trace_write_json(ebb_http_body(request));
    else
        ebbi_trace_write_csv(ebb_http_body(request));
    ebb_http_reply(request, 200,
                   ebbi_format_type(format == EBBI_FORMAT_TEXT ? EBBI_FORMAT_TEXT : format));
}

/* --- leaks --- */

static enum ebb_err write_report(struct ebb_scope *scope, const char *path,
                                 void (*write)(struct ebb_writer *)) {
    ebb_fd handle;
    enum ebb_err error =
        ebb_fd_open(&handle, scope, path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, REPORT_MODE);
    if (error)
        return error;
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, ebb_fd_get(handle));
    write(&file.writer);
    return file.failed ? ebb_err_set(EBB_ERR_SYSTEM, "cannot write %s", path) : EBB_OK;
}

enum ebb_err ebbi_leak_report_write(void) {
    char json[PATH_BYTES];
    if (report_path == NULL)
        return EBB_OK;
    snprintf(json, sizeof(json), "%s.json", report_path);
    struct ebb_scope *scope = ebb_scope_new("leak report");
    enum ebb_err error = write_report(scope, report_path, ebb_leaks_write_text);
    if (error == EBB_OK)
        error = write_report(scope, json, ebb_leaks_write_json);
    ebb_scope_close(scope);
    return error;
}

/* Leaves what is there as it is. */
static enum ebb_err try_report(struct ebb_scope *scope, const char *path) {
    ebb_fd handle;
    return ebb_fd_open(&handle, scope, path, O_WRONLY | O_CREAT | O_NONBLOCK, REPORT_MODE);
}

enum ebb_err ebbi_leak_report_start(const char *path, const char *user) {
    char json[PATH_BYTES], why[ERROR_TEXT];
    enum ebb_err error = path ? ebb_files_as(user) : EBB_OK;
    if (error || path == NULL)
        return error;
    report_path = path;
    snprintf(json, sizeof(json), "%s.json", path);
    struct ebb_scope *scope = ebb_scope_new("leak report");
    error = try_report(scope, path);
    if (error == EBB_OK)
        error = try_report(scope, json);
    ebb_scope_close(scope);
    ebb_files_as_ourselves();
    if (error == EBB_OK)
        return EBB_OK;
    snprintf(why, sizeof(why), "%s", ebb_err_text());
    return ebb_err_set(error, "--leak-report: %s", why);
}

static void leaks_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    enum ebbi_format format;
    if (!ebbi_format_of(request, &format))
        return;
    if (ebb_http_is_post(request)) { /* look now, whatever the collector would do by itself */
        ebb_collect_fully(EBB_CAUSE_demand);
        ebb_leaks_tell();
        if (ebbi_leak_report_write() != EBB_OK) {
            ebb_writef(ebb_http_body(request), "500: %s\n", ebb_err_text());
            ebb_http_reply(request, 500, "text/plain; charset=utf-8");
            return;
        }
    }
    if (format == EBBI_FORMAT_JSON)
        ebb_leaks_write_json(ebb_http_body(request));
    else
        ebb_leaks_write_text(ebb_http_body(request));
    ebb_http_reply(request, 200,
                   ebbi_format_type(format == EBBI_FORMAT_JSON ? format : EBBI_FORMAT_TEXT));
}

/* Collects at once and says what that brought. */
static void collect_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct ebb_writer *body = ebb_http_body(request);
    if (!ebb_http_is_post(request)) {
        ebb_write(body, "405: POST here to collect\n");
        ebb_http_reply_header(request, "Allow", "POST");
        ebb_http_reply(request, 405, "text/plain; charset=utf-8");
        return;
    }
    struct ebb_heap_record before, after;
    ebb_heap_now(&before);
    uint64_t start_ns = ebb_clock_ns();
    ebb_collect(EBB_CAUSE_demand);
    uint64_t took_ns = ebb_clock_ns() - start_ns;
    ebb_heap_now(&after);
    ebb_writef(body,
               "{\"seconds\":%.9f,\"free_bytes_before\":%llu,\"free_bytes_after\":%llu,"
               "\"heap_bytes\":%llu}\n",
               (double)took_ns / EBB_NS_PER_SECOND, (unsigned long long)before.free,
               (unsigned long long)after.free, (unsigned long long)after.heap);
    ebb_http_reply(request, 200, "application/json");
}

void ebbi_admin_add_debug_pages(void) {
    ebb_admin_page("/debug/collect", "POST: collect now", NULL, collect_page, NULL);
    ebbi_admin_page_read_only("/debug/heap", "the heap, and what is in it by type", "format gc",
                              heap_page);
    ebbi_admin_page_read_only("/debug/heap-trace", "collections and seconds, the latest 1,024",
                              "format", trace_page);
    ebbi_admin_page_read_only("/debug/pprof/heap", "the heap by call site, for pprof", "gc",
                              profile_page);
    ebb_admin_page("/debug/pprof/symbol", "names for pprof; POST: addresses such as 0x1a2b+0x3c4d",
                   NULL, symbol_page, NULL);
    ebbi_admin_page_read_only("/debug/pprof/cmdline", "how this was called, for pprof", NULL,
                              cmdline_page);
    ebb_admin_page("/debug/leaks",
                   "objects that were lost without ebb_done, by call site; POST: look for them now",
                   "format", leaks_page, NULL);
    ebbi_admin_add_fork_dump_pages();
    ebbi_admin_add_resource_page();
}
