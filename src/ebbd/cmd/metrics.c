/* metrics -- the rows, and the probes that ask the store: once for each scrape, as it walks its
 * segments under a lock. */
#include "metrics.h"

#include "cmd.h"
#include "settings.h"

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <stdio.h>
#include <sys/resource.h>

#define LABEL_MAX 16

#define EBB_METRIC EBB_METRIC_DEFINE
#include "tbl/metrics.def"

struct ebb_metric *const metrics_rows[] = {
#define EBB_METRIC EBB_METRIC_ADDRESS
#include "tbl/metrics.def"
};
const size_t metrics_rows_count = sizeof(metrics_rows) / sizeof(metrics_rows[0]);

enum worker_row {
#define EBB_WORKER_METRIC(id, ...) ROW_##id,
#include "tbl/metrics.def"
    WORKER_ROWS
};

static struct ebb_metric worker_rows[SETTINGS_THREADS_MAX][WORKER_ROWS];
static char worker_labels[SETTINGS_THREADS_MAX][LABEL_MAX];

void metrics_worker_add(struct metrics_worker *worker, int index) {
    static const struct ebb_metric forms[WORKER_ROWS] = {
#define EBB_WORKER_METRIC(id, kind_, name_, unit_, help_)                                          \
    [ROW_##id] = {.name = name_, .help = help_, .kind = kind_, .unit = unit_},
#include "tbl/metrics.def"
    };
    ebb_assert(index >= 0 && index < SETTINGS_THREADS_MAX, "worker %d", index);
    snprintf(worker_labels[index], LABEL_MAX, "worker=\"%d\"", index);
    struct ebb_metric *added[WORKER_ROWS];
    for (int i = 0; i < WORKER_ROWS; i++) {
        added[i] = &worker_rows[index][i];
        *added[i] = forms[i];
        added[i]->labels = worker_labels[index];
    }
    ebb_metrics_add(added, WORKER_ROWS);
#define EBB_WORKER_METRIC(id, ...) worker->id = added[ROW_##id];
#include "tbl/metrics.def"
}

/* Static, as a probe has no argument. */
static struct store *the_store;
static const struct exptime_clock *the_clock;
static uint64_t started_ns;

#define STORE_PROBES(PROBE)                                                                        \
    PROBE(items, items)                                                                            \
    PROBE(items_total, items_total)                                                                \
    PROBE(item_bytes, bytes)                                                                       \
    PROBE(limit_bytes, limit_bytes)                                                                \
    PROBE(evictions, evictions)                                                                    \
    PROBE(reclaimed, reclaimed)                                                                    \
    PROBE(malloced_bytes, segment_bytes)                                                           \
    PROBE(slab_items, items)                                                                       \
    PROBE(slab_pages, segments)                                                                    \
    PROBE(slab_requested_bytes, bytes)                                                             \
    PROBE(slab_evicted, evictions)                                                                 \
    PROBE(slab_evicted_unfetched, evicted_unfetched)                                               \
    PROBE(slab_expired_unfetched, expired_unfetched)                                               \
    PROBE(slab_reclaimed, reclaimed)                                                               \
    PROBE(segments, segments)                                                                      \
    PROBE(segment_bytes, segment_bytes)                                                            \
    PROBE(segments_dropped_bytes, dropped_bytes)                                                   \
    PROBE(index_bytes, index_bytes)                                                                \
    PROBE(huge_values, huge)                                                                       \
    PROBE(evicted_unfetched, evicted_unfetched)                                                    \
    PROBE(expired_unfetched, expired_unfetched)                                                    \
    PROBE(store_written_bytes, written_bytes)                                                      \
    PROBE(store_copied_bytes, copied_bytes)                                                        \
    PROBE(cleaned_segments, cleaned_segments)                                                      \
    PROBE(ghost_hits, ghost_hits)                                                                  \
    PROBE(probation_bytes, probation_bytes)                                                        \
    PROBE(index_buckets, buckets)                                                                  \
    PROBE(index_overflow_buckets, overflow_buckets)

static void refresh(void) {
    struct store_stats stats = {0};
    if (the_store)
        store_stats_read(the_store, &stats);
#define PROBE_SET(id, member) ebb_gauge_set(&ebb_metric_##id, (int64_t)stats.member);
    STORE_PROBES(PROBE_SET)
    uint32_t now = the_store ? exptime_now(the_clock, ebb_clock_ns()) : 0;
    ebb_gauge_set(&ebb_metric_slab_age, stats.oldest ? (int64_t)now - stats.oldest : 0);
}

/* What is counted once and told under two names. */
#define COPIES(COPY)                                                                               \
    COPY(get_hits)                                                                                 \
    COPY(set_stored)                                                                               \
    COPY(delete_hits)                                                                              \
    COPY(incr_hits)                                                                                \
    COPY(decr_hits)                                                                                \
    COPY(cas_hits)                                                                                 \
    COPY(cas_badval)                                                                               \
    COPY(touch_hits)                                                                               \
    COPY(no_memory)

#define COPY_READ(id)                                                                              \
    static uint64_t read_slab_##id(void) {                                                         \
        return ebb_metric_value(&ebb_metric_##id);                                                 \
    }
COPIES(COPY_READ)

static uint64_t read_uptime(void) {
    return ebb_clock_ns() - started_ns;
}

static uint64_t ns_of(struct timeval time) {
    return (uint64_t)time.tv_sec * EBB_NS_PER_SECOND +
           (uint64_t)time.tv_usec * (EBB_NS_PER_SECOND / 1000000);
}

static uint64_t read_user_cpu(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? ns_of(usage.ru_utime) : 0;
}

static uint64_t read_system_cpu(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? ns_of(usage.ru_stime) : 0;
}

void metrics_store_set(struct store *store, const struct exptime_clock *clock) {
    the_store = store;
    the_clock = clock;
    ebb_metrics_refresh_set(refresh);
    ebb_metric_uptime.read = read_uptime;
    ebb_metric_unix_time.read = ebb_clock_unix_ns;
#define COPY_SET(id) ebb_metric_slab_##id.read = read_slab_##id;
    COPIES(COPY_SET)
    ebb_metric_user_cpu.read = read_user_cpu;
    ebb_metric_system_cpu.read = read_system_cpu;
    if (started_ns == 0)
        started_ns = ebb_clock_ns();
}
