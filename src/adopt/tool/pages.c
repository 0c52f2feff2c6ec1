/* pages -- what was heard, as text for people and as JSON for programs: the pages of the admin
 * address, the files of --leak-report, and the answers to `ebb-adopt report` are the same text.
 *
 * 1. Sites that lost most bytes come first. */
#include "adopt.h"

#include <ebb/admin.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SITES_SHOWN_MAX = 1000, PATH_TEXT = 512 };

struct sorted {
    struct adopted_site *site[SITES_SHOWN_MAX];
    size_t count;
};

static bool is_wanted(const struct adopted_process *process, const char *only) {
    char number[16];
    snprintf(number, sizeof number, "%d", process->id);
    return only == NULL || strcmp(only, number) == 0 || strcmp(only, process->round.name) == 0;
}

static void collect(struct adopted_site *site, void *context) {
    struct sorted *sorted = context;
    if ((site->row.lost + site->row.reclaimed > 0 || site_disproofs(site) > 0) &&
        sorted->count < SITES_SHOWN_MAX)
        sorted->site[sorted->count++] = site;
}

static int compare(const void *left, const void *right) {
    const struct adopted_site *one = *(struct adopted_site *const *)left;
    const struct adopted_site *other = *(struct adopted_site *const *)right;
    if (one->row.lost_bytes != other->row.lost_bytes)
        return one->row.lost_bytes < other->row.lost_bytes ? 1 : -1;
    return one->row.site < other->row.site ? -1 : one->row.site > other->row.site;
}

static const struct sorted *sort(const struct adopted_process *process) {
    static struct sorted sorted;
    sorted.count = 0;
    process_sites_each(process, collect, &sorted);
    qsort(sorted.site, sorted.count, sizeof sorted.site[0], compare);
    return &sorted;
}

/* --- text --- */

static void write_site(struct ebb_writer *out, const struct adopted_site *site) {
    const struct adopt_site *row = &site->row;
    ebb_writef(out, "  lost %" PRIu64 " blocks, %" PRIu64 " bytes", row->lost, row->lost_bytes);
    if (row->held > 0)
        ebb_writef(out, " (%" PRIu64 " of them held by other lost blocks)", row->held);
    ebb_writef(out,
               "; %+" PRId64 " since the report before; %" PRIu64 " live, %" PRIu64 " allocated",
               (int64_t)(row->lost - site->lost_before), row->live, row->allocated);
    if (site_disproofs(site) > 0)
        ebb_writef(out,
                   "; DOUBTFUL: %" PRIu64 " freed later, %" PRIu64 " reached again, %" PRIu64
                   " written",
                   row->freed, row->reached, row->written);
    if (row->reclaimed > 0)
        ebb_writef(out, "; reclaimed %" PRIu64 " blocks, %" PRIu64 " bytes", row->reclaimed,
                   row->reclaimed_bytes);
    ebb_writef(out, "\n    %s\n", site->text ? site->text : "(call path unknown)");
}

static void write_process(struct ebb_writer *out, const struct adopted_process *process) {
    const struct adopt_round *round = &process->round;
    const struct sorted *sorted = sort(process);
    ebb_writef(out,
               "%s, process %d%s: %" PRIu64 " blocks, %" PRIu64 " bytes lost; %" PRIu64
               " blocks, %" PRIu64
               " bytes live; %u rounds, %u given up; standstill %.2f ms, at most "
               "%.2f ms; %" PRIu64 " disproofs\n",
               round->name, process->id, process->ended ? " (ended)" : "", round->lost,
               round->lost_bytes, round->live, round->live_bytes, round->number + 1,
               round->given_up, (double)round->standstill_ns / 1e6,
               (double)round->standstill_max_ns / 1e6, round->disproofs);
    if (round->reclaimed > 0)
        ebb_writef(out, "  reclaimed %" PRIu64 " blocks, %" PRIu64 " bytes\n", round->reclaimed,
                   round->reclaimed_bytes);
    if (round->cut > 0)
        ebb_writef(out, "  and %" PRIu64 " blocks more that nothing points to\n", round->cut);
    for (size_t i = 0; i < sorted->count; i++)
        write_site(out, sorted->site[i]);
}

void pages_write_text(struct ebb_writer *out, const char *only) {
    size_t written = 0;
    EBB_LIST_EACH (&processes, link) {
        const struct adopted_process *process = EBB_LIST_ENTRY(link, struct adopted_process, link);
        if (!is_wanted(process, only))
            continue;
        write_process(out, process);
        written++;
    }
    if (written == 0)
        ebb_write(out, only ? "no such process has reported\n" : "no process has reported yet\n");
}

/* --- JSON --- */

static void write_site_json(struct ebb_writer *out, const struct adopted_site *site) {
    const struct adopt_site *row = &site->row;
    const char *text = site->text ? site->text : "";
    ebb_write(out, "{\"path\":[\"");
    for (const char *at = text; *at;) {
        const char *end = strstr(at, " < ");
        ebb_write_json_string(out, at, end ? (size_t)(end - at) : strlen(at));
        if (end == NULL)
            break;
        ebb_write(out, "\",\"");
        at = end + strlen(" < ");
    }
    ebb_writef(out,
               "\"],\"lost\":%" PRIu64 ",\"lost_bytes\":%" PRIu64 ",\"held\":%" PRIu64
               ",\"lost_before\":%" PRIu64 ",\"live\":%" PRIu64 ",\"live_bytes\":%" PRIu64
               ",\"allocated\":%" PRIu64,
               row->lost, row->lost_bytes, row->held, site->lost_before, row->live, row->live_bytes,
               row->allocated);
    ebb_writef(out,
               ",\"freed\":%" PRIu64 ",\"reached\":%" PRIu64 ",\"written\":%" PRIu64
               ",\"reclaimed\":%" PRIu64 ",\"reclaimed_bytes\":%" PRIu64 "}",
               row->freed, row->reached, row->written, row->reclaimed, row->reclaimed_bytes);
}

static void write_process_json(struct ebb_writer *out, const struct adopted_process *process) {
    const struct adopt_round *round = &process->round;
    const struct sorted *sorted = sort(process);
    ebb_write(out, "{\"name\":\"");
    ebb_write_json_string(out, round->name, strlen(round->name));
    ebb_writef(out,
               "\",\"process\":%d,\"ended\":%s,\"rounds\":%u,\"given_up\":%u,\"lost\":%" PRIu64
               ",\"lost_bytes\":%" PRIu64 ",\"suspects_cut\":%" PRIu64,
               process->id, process->ended ? "true" : "false", round->number + 1, round->given_up,
               round->lost, round->lost_bytes, round->cut);
    ebb_writef(out,
               ",\"live\":%" PRIu64 ",\"live_bytes\":%" PRIu64 ",\"heap_bytes\":%" PRIu64
               ",\"disproofs\":%" PRIu64 ",\"reclaimed\":%" PRIu64 ",\"standstill_seconds\":%.9f"
               ",\"standstill_seconds_max\":%.9f,\"sites\":[",
               round->live, round->live_bytes, round->heap_bytes, round->disproofs,
               round->reclaimed, (double)round->standstill_ns / 1e9,
               (double)round->standstill_max_ns / 1e9);
    for (size_t i = 0; i < sorted->count; i++) {
        ebb_write(out, i > 0 ? "," : "");
        write_site_json(out, sorted->site[i]);
    }
    ebb_write(out, "]}");
}

void pages_write_json(struct ebb_writer *out, const char *only) {
    const char *comma = "";
    ebb_write(out, "{\"processes\":[");
    EBB_LIST_EACH (&processes, link) {
        const struct adopted_process *process = EBB_LIST_ENTRY(link, struct adopted_process, link);
        if (!is_wanted(process, only))
            continue;
        ebb_write(out, comma);
        write_process_json(out, process);
        comma = ",";
    }
    ebb_write(out, "]}\n");
}

/* --- where they go --- */

static void adopted_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    const char *format = ebb_http_query(request, "format");
    const char *only = ebb_http_query(request, "process");
    bool json = format && strcmp(format, "json") == 0;
    if (format && !json && strcmp(format, "text") != 0) {
        ebb_writef(ebb_http_body(request), "400: format=%s: one of text, json\n", format);
        ebb_http_reply(request, 400, "text/plain; charset=utf-8");
        return;
    }
    if (json)
        pages_write_json(ebb_http_body(request), only);
    else
        pages_write_text(ebb_http_body(request), only);
    ebb_http_reply(request, 200, json ? "application/json" : "text/plain; charset=utf-8");
}

void pages_open(void) {
    ebb_admin_page("/debug/adopted", "what the watched processes lost, by call path",
                   "format process", adopted_page, NULL);
}

static enum ebb_err write_file(const char *path, void (*write)(struct ebb_writer *, const char *)) {
    struct ebb_scope *scope = ebb_scope_new("report");
    struct ebb_fd_writer out;
    ebb_fd file;
    enum ebb_err error = ebb_fd_open(&file, scope, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (error == EBB_OK) {
        ebb_fd_writer_init(&out, ebb_fd_get(file));
        write(&out.writer, NULL);
        if (out.failed)
            error = ebb_err_set(EBB_ERR_SYSTEM, "cannot write to %s: is the disk full?", path);
    }
    ebb_scope_close(scope);
    return error;
}

enum ebb_err pages_write_files(const char *path) {
    char json[PATH_TEXT];
    snprintf(json, sizeof json, "%s.json", path);
    enum ebb_err error = write_file(path, pages_write_text);
    return error ? error : write_file(json, pages_write_json);
}
