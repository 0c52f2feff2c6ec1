/* metrics -- the rows, and the probes that ask the store.
 *
 * A scrape reads a dozen probes one after another; asking the store for all its numbers each time
 * would be a dozen walks, but store_stats_read adds up a few words per worker, so there is no cache
 * here. */
#include "metrics.h"

#include <ebb/clock.h>

#define EBB_METRIC EBB_METRIC_DEFINE
#include "tbl/metrics.def"

struct ebb_metric *const metrics_rows[] = {
#define EBB_METRIC EBB_METRIC_ADDRESS
#include "tbl/metrics.def"
};
const size_t metrics_rows_count = sizeof(metrics_rows) / sizeof(metrics_rows[0]);

static struct store *the_store; /* static, as a probe has no argument */
static uint64_t started_ns;

#define STORE_PROBES(PROBE)                                                                        \
    PROBE(items, items)                                                                            \
    PROBE(items_total, items_total)                                                                \
    PROBE(item_bytes, bytes)                                                                       \
    PROBE(limit_bytes, limit_bytes)                                                                \
    PROBE(evictions, evictions)                                                                    \
    PROBE(reclaimed, reclaimed)                                                                    \
    PROBE(segments, segments)                                                                      \
    PROBE(segment_bytes, segment_bytes)                                                            \
    PROBE(segments_dropped_bytes, dropped_bytes)                                                   \
    PROBE(index_bytes, index_bytes)                                                                \
    PROBE(huge_values, huge)

#define PROBE_FUNCTION(id, member)                                                                 \
    static uint64_t read_##id(void) {                                                              \
        struct store_stats stats = {0};                                                            \
        if (the_store)                                                                             \
            store_stats_read(the_store, &stats);                                                   \
        return stats.member;                                                                       \
    }
STORE_PROBES(PROBE_FUNCTION)

static uint64_t read_uptime(void) {
    return ebb_clock_ns() - started_ns;
}

void metrics_store_set(struct store *store) {
    the_store = store;
#define PROBE_SET(id, member) ebb_metric_##id.read = read_##id;
    STORE_PROBES(PROBE_SET)
    ebb_metric_uptime.read = read_uptime;
    if (started_ns == 0)
        started_ns = ebb_clock_ns();
}
