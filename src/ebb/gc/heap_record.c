/* heap_record -- the heap trace: one record a collection in a ring, one more whenever somebody asks
 * for "now".
 *
 * The collecting thread fills `open` at each event and copies it into the ring at the end; one
 * consumer takes records out. Both ends count with one rising number each, so a full ring loses its
 * oldest records and says how many.
 *
 * 1. Writers are under the allocation lock, hence one at a time; the ring's lock word guards
 * against a reader that copies while a slot is overwritten (the reader then takes a later one). */
#include "gc/heap_record.h"
#include "gc/object.h"
#include "telemetry/metrics.h"
#include <ebb/clock.h>
#include <ebb/probe.h>
#include <ebb/trace.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>

enum { RING = 1024 };

static struct ebb_heap_record ring[RING];
static _Atomic uint64_t written; /* records ever put into the ring */
static uint64_t taken;
static struct ebb_heap_record open_record;
static uint64_t moment_ns[RECORD_MOMENTS];
static uint64_t finalized_before;
static uint64_t cpu_at_start, cpu_at_stop, pause_cpu_ns; /* of the collecting thread */
static uint64_t cpu_at_end;                              /* of the process, after the latest one */
static uint64_t recent_spent_ns, recent_cpu_ns; /* of some eight collections, the latest most */
static _Atomic uint32_t share_per_mille;

void ebbi_records_start(void) {
    GC_exclude_static_roots(ring, ring + RING);
}

static void fill(struct ebb_heap_record *record, const struct GC_prof_stats_s *stats) {
    record->unix_ns = ebb_clock_unix_ns();
    record->number = stats->gc_no;
    record->unmapped = stats->unmapped_bytes - ebbi_unmapped_not();
    record->heap = stats->heapsize_full - record->unmapped;
    record->free = stats->free_bytes_full - record->unmapped;
    record->live = record->heap - record->free;
    record->rss = ebbi_process_resident();
    record->unmanaged = record->rss > record->heap ? record->rss - record->heap : 0;
    record->leaks = ebb_leaks_count();
    record->finalized = ebb_metric_value(&ebb_metric_finalizers_run);
}

static uint64_t thread_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * EBB_NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void ebbi_record_begin(enum ebb_cause cause, size_t dropped) {
    struct GC_prof_stats_s stats;
    GC_get_prof_stats_unsafe(&stats, sizeof stats);
    memset(&open_record, 0, sizeof open_record);
    memset(moment_ns, 0, sizeof moment_ns);
    cpu_at_start = thread_cpu_ns();
    open_record.cause = cause;
    open_record.dropped_since = dropped;
    open_record.allocated_since = stats.bytes_allocd_since_gc;
}

void ebbi_record_mark(enum record_moment moment) {
    moment_ns[moment] = ebb_clock_ns();
    if (moment == RECORD_STOP)
        cpu_at_stop = thread_cpu_ns();
    else if (moment == RECORD_RESUME)
        pause_cpu_ns = thread_cpu_ns() - cpu_at_stop;
}

static uint64_t between(enum record_moment from, enum record_moment to) {
    return moment_ns[from] && moment_ns[to] > moment_ns[from] ? moment_ns[to] - moment_ns[from] : 0;
}

enum { SMOOTHING = 8 };

/* Of processor time, not of time: on a busy machine a collection takes long and costs the same. */
static void share_count(uint64_t spent_ns) {
    uint64_t now = ebb_clock_cpu_ns();
    recent_spent_ns += spent_ns - recent_spent_ns / SMOOTHING;
    recent_cpu_ns += now - cpu_at_end - recent_cpu_ns / SMOOTHING;
    atomic_store_explicit(&share_per_mille,
                          recent_cpu_ns ? (uint32_t)(recent_spent_ns * 1000 / recent_cpu_ns) : 0,
                          memory_order_relaxed);
    cpu_at_end = now;
}

uint32_t ebb_collect_per_mille(void) {
    return atomic_load_explicit(&share_per_mille, memory_order_relaxed);
}

/* A part of the collection, cut to it: events of a viewer's track must nest. */
static void trace_part(const char *name, enum record_moment from, enum record_moment to,
                       uint64_t begin_ns, uint64_t end_ns) {
    uint64_t part_begin = moment_ns[from] > begin_ns ? moment_ns[from] : begin_ns;
    uint64_t part_end = moment_ns[to] < end_ns ? moment_ns[to] : end_ns;
    if (moment_ns[from] && part_begin < part_end)
        ebb_trace_slice(EBB_TRACK_COLLECTIONS, name, part_begin, part_end, NULL, NULL, 0);
}

static void trace_collection(void) {
    uint64_t begin_ns = moment_ns[RECORD_STOP], end_ns = ebb_clock_ns();
    if (begin_ns == 0)
        return;
    ebb_trace_slice(EBB_TRACK_COLLECTIONS, "collection", begin_ns, end_ns,
                    ebb_cause_name(open_record.cause), "live_bytes", open_record.live);
    trace_part("world stopped", RECORD_STOP, RECORD_RESUME, begin_ns, end_ns);
    trace_part("mark", RECORD_MARK_START, RECORD_MARK_END, begin_ns, moment_ns[RECORD_RESUME]);
    trace_part("sweep", RECORD_SWEEP_START, RECORD_SWEEP_END, moment_ns[RECORD_RESUME], end_ns);
    ebb_trace_counter("heap", open_record.heap);
    ebb_trace_counter("live heap", open_record.live);
    ebb_trace_counter("resident", open_record.rss);
}

void ebbi_record_end(void) {
    struct GC_prof_stats_s stats;
    GC_get_prof_stats_unsafe(&stats, sizeof stats);
    open_record.pause_ns = between(RECORD_STOP, RECORD_RESUME);
    open_record.pause_cpu_ns = pause_cpu_ns;
    open_record.stop_ns = between(RECORD_STOP, RECORD_MARK_START);
    open_record.mark_ns = between(RECORD_MARK_START, RECORD_MARK_END);
    open_record.sweep_ns = between(RECORD_SWEEP_START, RECORD_SWEEP_END);
    fill(&open_record, &stats);
    if (moment_ns[RECORD_RESUME] > 0)
        open_record.unix_ns -= ebb_clock_ns() - moment_ns[RECORD_RESUME];
    open_record.finalized -= finalized_before;
    finalized_before += open_record.finalized;
    uint64_t at = atomic_load_explicit(&written, memory_order_relaxed);
    ring[at % RING] = open_record;
    atomic_store_explicit(&written, at + 1, memory_order_release);
    ebb_observe_ns(&ebb_metric_gc_pause, open_record.pause_ns);
    ebb_count(ebbi_metric_collections[open_record.cause], 1);
    uint64_t spent_ns = thread_cpu_ns() - cpu_at_start;
    share_count(spent_ns);
    ebb_count(&ebb_metric_gc_cpu, spent_ns);
    EBB_PROBE3(collection, open_record.cause, open_record.pause_ns, open_record.live);
    if (ebb_trace_on())
        trace_collection();
}

uint64_t ebb_collections(void) {
    return atomic_load_explicit(&written, memory_order_relaxed);
}

void ebb_heap_now(struct ebb_heap_record *record) {
    struct GC_prof_stats_s stats;
    uint64_t unix_ns = ebb_clock_unix_ns();
    GC_get_prof_stats(&stats, sizeof stats);
    memset(record, 0, sizeof *record);
    fill(record, &stats);
    record->unix_ns = unix_ns;
    record->cause = EBB_CAUSE_interval;
    record->allocated_since = stats.bytes_allocd_since_gc;
    record->dropped_since = ebb_dropped_now();
}

bool ebb_heap_record_take(struct ebb_heap_record *record, uint64_t *lost) {
    for (;;) {
        uint64_t end = atomic_load_explicit(&written, memory_order_acquire);
        if (taken == end)
            return false;
        if (end - taken >
            RING / 2) { /* keep away from the slots that may be overwritten while we copy */
            if (lost)
                *lost += end - taken - RING / 2;
            taken = end - RING / 2;
        }
        *record = ring[taken % RING];
        taken++;
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&written, memory_order_relaxed) - taken < RING - 1)
            return true;
        if (lost)
            (*lost)++;
    }
}

void ebb_heap_record_write_header(struct ebb_writer *writer) {
    ebb_write(writer, "time,cause"
#define EBB_HEAP_COLUMN(name, member) "," #name
#include <ebb/tbl/heap_columns.def>
                      "\n");
}

void ebb_heap_record_write(struct ebb_writer *writer, const struct ebb_heap_record *r) {
    ebb_writef(writer, "%" PRIu64 ".%06" PRIu64 ",%s", r->unix_ns / EBB_NS_PER_SECOND,
               r->unix_ns % EBB_NS_PER_SECOND / 1000, ebb_cause_name(r->cause));
#define EBB_HEAP_COLUMN(name, member) ebb_writef(writer, ",%" PRIu64, r->member);
#include <ebb/tbl/heap_columns.def>
    ebb_write(writer, "\n");
}

void ebb_heap_record_write_json(struct ebb_writer *writer, const struct ebb_heap_record *r) {
    ebb_writef(writer, "{\"time\":%" PRIu64 ".%06" PRIu64 ",\"cause\":\"%s\"",
               r->unix_ns / EBB_NS_PER_SECOND, r->unix_ns % EBB_NS_PER_SECOND / 1000,
               ebb_cause_name(r->cause));
#define EBB_HEAP_COLUMN(name, member) ebb_writef(writer, ",\"" #name "\":%" PRIu64, r->member);
#include <ebb/tbl/heap_columns.def>
    ebb_write(writer, "}");
}
