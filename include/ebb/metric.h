/* metric -- counters, gauges and histograms that cost a few instructions and live in static memory.
 *
 * Each metric is a row of a .def table:
 *     EBB_METRIC(name, kind, "exported_name", "label=\"value\",...", unit, "help")
 * Counters and histograms are added up per thread without a lock prefix and summed when read;
 * gauges are one word. A thread that ends leaves its sums behind.
 *
 * 1. A row's slots are given once, by ebb_metrics_add, before the first use; using an unadded
 * metric counts nothing.
 * 2. Reading blocks no writer; a sum may be older than the latest addition by one reading of
 * memory.
 * 3. Rows with the same exported name stand together in one family in /metrics, whatever their
 * table. */
#ifndef EBB_METRIC_H
#define EBB_METRIC_H

#include <ebb/writer.h>
#include <ebb/atomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

enum ebb_metric_kind {
    EBB_COUNTER,       /* only rises */
    EBB_GAUGE,         /* a word that somebody sets */
    EBB_PROBE,         /* a gauge whose value is asked for when read */
    EBB_PROBE_COUNTER, /* the same, exported as a counter */
    EBB_HISTOGRAM,     /* values in nanoseconds, exported in seconds; buckets of 1, 2.5, 5 in each
                          decade */
};

enum ebb_metric_unit { EBB_UNIT_NONE, EBB_UNIT_BYTES, EBB_UNIT_SECONDS };

struct ebb_metric {
    const char *name;   /* as exported, counters with their _total */
    const char *labels; /* `a="b",c="d"` or "" */
    const char *help;
    enum ebb_metric_kind kind;
    enum ebb_metric_unit unit; /* of the exported value; SECONDS are kept as nanoseconds */
    uint64_t (*read)(void);    /* PROBE kinds only; NULL: see ebb_metrics_refresh_set */
    uint32_t slot;             /* 0: not added yet */
    EBB_ATOMIC(int64_t) gauge;
    struct ebb_metric *next; /* of the same name */
    bool first;              /* of its name */
};

/* Declares or defines the rows of a table; src/ebb/telemetry/metrics.h and table.c use the
 * library's. */
#define EBB_METRIC_DECLARE(id, ...) extern struct ebb_metric ebb_metric_##id;
#define EBB_METRIC_DEFINE(id, kind_, name_, labels_, unit_, help_)                                 \
    EBB_ROW(struct ebb_metric ebb_metric_##id = {                                                  \
                .name = name_, .labels = labels_, .help = help_, .kind = kind_, .unit = unit_};)
#define EBB_METRIC_ADDRESS(id, ...) &ebb_metric_##id,

/* Gives the rows their slots. Fails (assert) when the static room, EBB_METRIC_SLOTS, is used up.
 * When: start, before threads. Twice for the same row does nothing. */
void ebb_metrics_add(struct ebb_metric *const *rows, size_t count);

#define EBB_METRIC_SLOTS   2048
#define EBB_METRIC_THREADS 64 /* threads beyond share the last block, with atomic adds */

struct ebb_metric_block {
    EBB_ATOMIC(uint64_t) slot[EBB_METRIC_SLOTS] __attribute__((aligned(64)));
};
extern __thread struct ebb_metric_block
    *ebb_metric_block;                                /* NULL until this thread's first addition */
struct ebb_metric_block *ebb_metric_block_take(void); /* NULL: no block left, use the shared one */
void ebb_count_shared(struct ebb_metric *metric, uint64_t add);

static inline void ebb_count(struct ebb_metric *metric, uint64_t add) {
    struct ebb_metric_block *block = ebb_metric_block ? ebb_metric_block : ebb_metric_block_take();
    if (block == NULL) {
        ebb_count_shared(metric, add);
        return;
    }
    EBB_ATOMIC(uint64_t) *slot = &block->slot[metric->slot]; /* only this thread writes its block */
    atomic_store_explicit(slot, atomic_load_explicit(slot, memory_order_relaxed) + add,
                          memory_order_relaxed);
}

static inline void ebb_gauge_set(struct ebb_metric *metric, int64_t value) {
    atomic_store_explicit(&metric->gauge, value, memory_order_relaxed);
}

static inline void ebb_gauge_add(struct ebb_metric *metric, int64_t add) {
    atomic_fetch_add_explicit(&metric->gauge, add, memory_order_relaxed);
}

/* Histogram buckets: upper bounds of 1, 2.5, 5 in each decade from 1 us to 10 s, and +Inf. */
void ebb_observe_ns(struct ebb_metric *metric, uint64_t ns);
/* The same length so many times. */
void ebb_observe_many_ns(struct ebb_metric *metric, uint64_t ns, uint64_t times);

/* Sum of a counter, value of a gauge or probe, count of a histogram. */
uint64_t ebb_metric_value(const struct ebb_metric *metric);
/* Sum of all observed nanoseconds. */
uint64_t ebb_metric_sum_ns(const struct ebb_metric *metric);
/* The q-quantile (0..1) in nanoseconds, interpolated inside its bucket; 0 when empty. */
uint64_t ebb_metric_quantile_ns(const struct ebb_metric *metric, double q);

/* Counters and histograms back to zero, for `stats reset`: remembered as an offset only for
 * ebb_metric_since_reset; what Prometheus reads never goes back. */
void ebb_metrics_reset(void);
uint64_t ebb_metric_since_reset(const struct ebb_metric *metric);

/* Calls see for each row, in the order in which they were added. */
void ebb_metrics_each(void (*see)(struct ebb_metric *metric, void *context), void *context);
/* The row of this name and these labels, or NULL. Slow: compares texts. */
struct ebb_metric *ebb_metric_find(const char *name, const char *labels);

/* A histogram as a JSON object: count, sum_seconds, p50, p90, p99, p999 (seconds), buckets: how
 * many were observed in each, the one beyond the last bound at the end. */
void ebb_metric_write_json(struct ebb_writer *writer, const struct ebb_metric *metric);
/* The upper bounds of those buckets in seconds, as a JSON array. */
void ebb_metric_write_bounds_json(struct ebb_writer *writer);

/* A family of counters whose rows are only known when they are asked for. each calls see for each
 * row: labels as in a table's row, already escaped. name ends in _total. Bound their number: each
 * is a time series for somebody. */
struct ebb_metric_family {
    const char *name, *help;
    void (*each)(void (*see)(const char *labels, uint64_t value, void *context), void *context);
};
/* Written after all rows of tables. family is kept; at most 16. When: start. Twice does nothing. */
void ebb_metric_family_add(const struct ebb_metric_family *family);

/* refresh is called once before all rows are written, and for each ebb_metric_value of a probe
 * without `read`: it sets (by ebb_gauge_set) those probes that come out of one reading, so that
 * they agree. There is one. When: start. */
void ebb_metrics_refresh_set(void (*refresh)(void));

/* All families in OpenMetrics text format 1.0. Allocates nothing. */
void ebb_metrics_write_openmetrics(struct ebb_writer *writer);
/* All families in Prometheus text format 0.0.4. Allocates nothing. */
void ebb_metrics_write_prometheus(struct ebb_writer *writer);

__END_DECLS

#endif
