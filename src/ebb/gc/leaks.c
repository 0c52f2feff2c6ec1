/* leaks -- what was lost, told: a log line once per call site, a report for people, one for
 * programs.
 *
 * Names are looked up here, never where leaks are counted: that is in the collector. */
#include "gc/object.h"
#include "telemetry/events.h"
#include <inttypes.h>
#include <string.h>

enum { WHERE_MAX = 2048, REPORT_SITES = 1000 };

struct telling {
    int sites;
};

static const char *type_name(const struct ebb_site *site) {
    return site->type ? site->type->name : "several types";
}

static void tell_used(struct ebb_site *site) {
    uint32_t untold = atomic_exchange_explicit(&site->untold_used, 0, memory_order_relaxed);
    if (untold > 0)
        ebb_log_event(written_after_done, untold, type_name(site), ebb_site_label(site));
}

static void tell_site(struct ebb_site *site, struct telling *telling) {
    uint32_t untold = atomic_exchange_explicit(&site->untold, 0, memory_order_relaxed);
    if (untold == 0 || atomic_exchange_explicit(&site->told, 1, memory_order_relaxed))
        return; /* once per site: only its first leaks are told */
    char where[WHERE_MAX];
    ebb_site_describe(site, EBB_SITE_FRAMES, where, sizeof where);
    if (ebbi_site_excused(site))
        ebb_log_event(leak_suppressed, untold, type_name(site), site->leaked_bytes, where);
    else
        ebb_log_event(leak_found, untold, type_name(site), site->leaked_bytes,
                      site->age_seconds_max, where);
    telling->sites++;
}

static void tell(const struct ebb_site *site, void *context) {
    struct ebb_site *writable = (struct ebb_site *)(uintptr_t)site;
    tell_used(writable);
    if (site->leaked > 0)
        tell_site(writable, context);
}

int ebb_leaks_tell(void) {
    static _Atomic uint64_t told;
    uint64_t now = ebb_leaks_count() + ebb_used_after_done_count();
    if (atomic_exchange_explicit(&told, now, memory_order_relaxed) == now)
        return 0;
    struct telling telling = {0};
    ebbi_symbols_begin();
    tell(ebbi_site_at(0), &telling);
    ebb_sites_each(tell, &telling);
    ebbi_symbols_end();
    return telling.sites;
}

static void add_inexcusable(const struct ebb_site *site, void *context) {
    if (!ebbi_site_excused((struct ebb_site *)(uintptr_t)site))
        *(uint64_t *)context += site->leaked;
}

uint64_t ebb_leaks_inexcusable(void) {
    uint64_t sum = 0;
    if (ebb_leaks_count() == 0)
        return 0;
    ebbi_symbols_begin();
    ebb_leaks_each(add_inexcusable, &sum);
    ebbi_symbols_end();
    return sum;
}

/* --- the report --- */

struct report {
    const struct ebb_site *site[REPORT_SITES];
    size_t count, left_out;
};

/* Keeps the worst, most bytes first. */
static void gather(const struct ebb_site *site, void *context) {
    struct report *report = context;
    size_t at = report->count;
    while (at > 0 && report->site[at - 1]->leaked_bytes < site->leaked_bytes)
        at--;
    if (report->count == REPORT_SITES)
        report->left_out++;
    else
        report->count++;
    if (at >= REPORT_SITES)
        return;
    memmove(&report->site[at + 1], &report->site[at],
            (report->count - 1 - at) * sizeof report->site[0]);
    report->site[at] = site;
}

static uint64_t mean_age(const struct ebb_site *site) {
    return site->leaked ? site->age_seconds_sum / site->leaked : 0;
}

static bool excused(const struct ebb_site *site) {
    return ebbi_site_excused((struct ebb_site *)(uintptr_t)site);
}

void ebb_leaks_write_text(struct ebb_writer *writer) {
    struct report report = {.count = 0};
    char where[WHERE_MAX];
    ebbi_symbols_begin();
    uint64_t leaked = ebb_leaks_each(gather, &report);
    ebb_writef(writer,
               "%" PRIu64 " objects leaked since start at %zu call sites, %" PRIu64
               " of them not suppressed\n",
               leaked, report.count + report.left_out, ebb_leaks_inexcusable());
    if (report.count > 0)
        ebb_writef(writer, "\n%-20s %10s %14s %11s %10s  %s\n", "type", "objects", "bytes",
                   "mean age s", "max age s", "made in");
    for (size_t i = 0; i < report.count; i++) {
        const struct ebb_site *site = report.site[i];
        ebb_site_describe(site, EBB_SITE_FRAMES, where, sizeof where);
        ebb_writef(writer, "%-20s %10" PRIu64 " %14" PRIu64 " %11" PRIu64 " %10u  %s%s\n",
                   type_name(site), site->leaked, site->leaked_bytes, mean_age(site),
                   site->age_seconds_max, excused(site) ? "(suppressed) " : "", where);
    }
    ebbi_symbols_end();
}

static void write_string(struct ebb_writer *writer, const char *text) {
    ebb_write(writer, "\"");
    ebb_write_json_string(writer, text, strlen(text));
    ebb_write(writer, "\"");
}

/* "a < b < c" as an array. */
static void write_stack(struct ebb_writer *writer, char *where) {
    ebb_write(writer, "[");
    for (char *frame = where, *next; frame; frame = next) {
        next = strstr(frame, " < ");
        if (next) {
            *next = '\0';
            next += 3;
        }
        write_string(writer, frame);
        if (next)
            ebb_write(writer, ",");
    }
    ebb_write(writer, "]");
}

void ebb_leaks_write_json(struct ebb_writer *writer) {
    struct report report = {.count = 0};
    char where[WHERE_MAX];
    ebbi_symbols_begin();
    uint64_t leaked = ebb_leaks_each(gather, &report);
    ebb_writef(writer,
               "{\"leaked_objects\":%" PRIu64 ",\"not_suppressed\":%" PRIu64
               ",\"used_after_done\":%" PRIu64 ",\"sites_left_out\":%zu,\n\"sites\":[",
               leaked, ebb_leaks_inexcusable(), ebb_used_after_done_count(), report.left_out);
    for (size_t i = 0; i < report.count; i++) {
        const struct ebb_site *site = report.site[i];
        ebb_write(writer, i ? ",\n{\"type\":" : "\n{\"type\":");
        write_string(writer, type_name(site));
        ebb_writef(writer,
                   ",\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"age_seconds_mean\":%" PRIu64
                   ",\"age_seconds_max\":%u,\"suppressed\":%s,\"stack\":",
                   site->leaked, site->leaked_bytes, mean_age(site), site->age_seconds_max,
                   excused(site) ? "true" : "false");
        ebb_site_describe(site, EBB_SITE_FRAMES, where, sizeof where);
        write_stack(writer, where);
        ebb_write(writer, "}");
    }
    ebb_write(writer, "]}\n");
    ebbi_symbols_end();
}
