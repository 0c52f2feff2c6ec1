/* metric -- counting without a lock prefix, in static memory.
 *
 * Each thread has a block of slots that only it writes: an addition is a load, an add and a store.
 * A reader sums a slot over all blocks. A block is never emptied: a thread that ends hands it on,
 * sums and all, to the next thread that begins to count. When EBB_METRIC_THREADS threads live at
 * once, those beyond share one more block with atomic adds.
 *
 * 1. A block is written by one thread at a time: taken by compare-and-swap, handed on when the
 * thread's keys are destroyed. The hand-over orders the old owner's stores before the new owner's
 * loads.
 * 2. Slot 0 belongs to no row: what is counted on an unadded row goes there and is never read.
 * 3. A histogram has a slot per bucket, then one for +Inf, then one for the sum.
 * 4. A slot never goes back. A reset only remembers the sums of its moment. */
#include <ebb/metric.h>

#include "metrics.h"

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define ROWS_MAX        1024
#define SUM_SLOT        (EBBI_HISTOGRAM_BOUNDS + 1) /* after the buckets and +Inf */
#define HISTOGRAM_SLOTS (SUM_SLOT + 1)

#define US           1000ull
#define MS           EBB_NS_PER_MS
#define S            EBB_NS_PER_SECOND
#define DECADE(unit) (unit), 5 * (unit) / 2, 5 * (unit)

const uint64_t ebbi_histogram_bound_ns[EBBI_HISTOGRAM_BOUNDS] = {
    DECADE(US),      DECADE(10 * US),  DECADE(100 * US), DECADE(MS),
    DECADE(10 * MS), DECADE(100 * MS), DECADE(S),        10 * S,
};

static struct {
    struct ebb_metric_block of_thread[EBB_METRIC_THREADS];
    struct ebb_metric_block shared;
    _Atomic uint64_t at_reset[EBB_METRIC_SLOTS];
} memory;

static atomic_bool taken[EBB_METRIC_THREADS];
static struct ebb_metric *rows[ROWS_MAX];
static size_t rows_count;
static uint32_t slots_used = 1;
static pthread_key_t block_key;
static pthread_once_t block_key_once = PTHREAD_ONCE_INIT;

_Thread_local struct ebb_metric_block *ebb_metric_block;
static _Thread_local bool without_block;

void ebbi_metric_memory(void **at, size_t *size) {
    *at = &memory;
    *size = sizeof(memory);
}

static uint32_t slots_of(const struct ebb_metric *metric) {
    return metric->kind == EBB_HISTOGRAM ? HISTOGRAM_SLOTS : 1;
}

void ebb_metrics_add(struct ebb_metric *const *added, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct ebb_metric *metric = added[i];
        if (metric->slot != 0)
            continue;
        ebb_assert(rows_count < ROWS_MAX && slots_used + slots_of(metric) <= EBB_METRIC_SLOTS,
                   "no room for metric %s: %zu rows, %u slots used", metric->name, rows_count,
                   slots_used);
        metric->slot = slots_used;
        slots_used += slots_of(metric);
        rows[rows_count++] = metric;
    }
}

static void hand_on(void *block) {
    size_t index = (size_t)((struct ebb_metric_block *)block - memory.of_thread);
    ebb_metric_block = NULL;
    atomic_store_explicit(&taken[index], false, memory_order_release);
}

static void make_key(void) {
    int failed = pthread_key_create(&block_key, hand_on);
    ebb_assert(failed == 0, "pthread_key_create: error %d", failed);
}

struct ebb_metric_block *ebb_metric_block_take(void) {
    if (without_block)
        return NULL;
    pthread_once(&block_key_once, make_key);
    for (size_t i = 0; i < EBB_METRIC_THREADS; i++) {
        bool expected = false;
        if (!atomic_compare_exchange_strong_explicit(&taken[i], &expected, true,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        ebb_metric_block = &memory.of_thread[i];
        pthread_setspecific(block_key, ebb_metric_block);
        return ebb_metric_block;
    }
    without_block =
        true; /* it stays with the shared block: looking again each time would cost more */
    return NULL;
}

static void count_shared(uint32_t slot, uint64_t add) {
    atomic_fetch_add_explicit(&memory.shared.slot[slot], add, memory_order_relaxed);
}

void ebb_count_shared(struct ebb_metric *metric, uint64_t add) {
    count_shared(metric->slot, add);
}

static void count_slot(uint32_t slot, uint64_t add) {
    struct ebb_metric_block *block = ebb_metric_block ? ebb_metric_block : ebb_metric_block_take();
    if (block == NULL) {
        count_shared(slot, add);
        return;
    }
    uint64_t before = atomic_load_explicit(&block->slot[slot], memory_order_relaxed);
    atomic_store_explicit(&block->slot[slot], before + add, memory_order_relaxed);
}

void ebb_observe_ns(struct ebb_metric *metric, uint64_t ns) {
    if (metric->slot == 0)
        return;
    uint32_t bucket = 0;
    while (bucket < EBBI_HISTOGRAM_BOUNDS && ns > ebbi_histogram_bound_ns[bucket])
        bucket++;
    count_slot(metric->slot + bucket, 1);
    count_slot(metric->slot + SUM_SLOT, ns);
}

static uint64_t slot_sum(uint32_t slot) {
    uint64_t sum = atomic_load_explicit(&memory.shared.slot[slot], memory_order_relaxed);
    for (size_t i = 0; i < EBB_METRIC_THREADS; i++)
        sum += atomic_load_explicit(&memory.of_thread[i].slot[slot], memory_order_relaxed);
    return sum;
}

void ebbi_histogram_read(const struct ebb_metric *metric,
                         uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1]) {
    for (uint32_t i = 0; i <= EBBI_HISTOGRAM_BOUNDS; i++)
        counts[i] = metric->slot == 0 ? 0 : slot_sum(metric->slot + i);
}

uint64_t ebb_metric_value(const struct ebb_metric *metric) {
    switch (metric->kind) {
    case EBB_GAUGE:
        return (uint64_t)atomic_load_explicit(&metric->gauge, memory_order_relaxed);
    case EBB_PROBE:
    case EBB_PROBE_COUNTER:
        return metric->read ? metric->read() : 0;
    default:
        break;
    }
    uint64_t value = 0;
    uint32_t slots = metric->kind == EBB_HISTOGRAM ? SUM_SLOT : 1;
    for (uint32_t i = 0; metric->slot != 0 && i < slots; i++)
        value += slot_sum(metric->slot + i);
    return value;
}

uint64_t ebb_metric_sum_ns(const struct ebb_metric *metric) {
    return metric->slot == 0 || metric->kind != EBB_HISTOGRAM ? 0
                                                              : slot_sum(metric->slot + SUM_SLOT);
}

uint64_t ebb_metric_quantile_ns(const struct ebb_metric *metric, double q) {
    uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1], total = 0;
    ebbi_histogram_read(metric, counts);
    for (size_t i = 0; i <= EBBI_HISTOGRAM_BOUNDS; i++)
        total += counts[i];
    if (total == 0)
        return 0;
    double rank = q * (double)total, below = 0;
    for (size_t i = 0; i < EBBI_HISTOGRAM_BOUNDS; i++) {
        double here = (double)counts[i];
        if (here > 0 && below + here >= rank) {
            double low = i == 0 ? 0 : (double)ebbi_histogram_bound_ns[i - 1];
            double high = (double)ebbi_histogram_bound_ns[i];
            double share = rank > below ? (rank - below) / here : 0;
            return (uint64_t)(low + (high - low) * share);
        }
        below += here;
    }
    return ebbi_histogram_bound_ns[EBBI_HISTOGRAM_BOUNDS - 1]; /* longer than the last bound */
}

void ebb_metrics_reset(void) {
    for (uint32_t i = 1; i < slots_used; i++)
        atomic_store_explicit(&memory.at_reset[i], slot_sum(i), memory_order_relaxed);
}

uint64_t ebb_metric_since_reset(const struct ebb_metric *metric) {
    uint64_t before = 0;
    if (metric->kind == EBB_COUNTER)
        before = atomic_load_explicit(&memory.at_reset[metric->slot], memory_order_relaxed);
    if (metric->kind == EBB_HISTOGRAM)
        for (uint32_t i = 0; metric->slot != 0 && i < SUM_SLOT; i++)
            before +=
                atomic_load_explicit(&memory.at_reset[metric->slot + i], memory_order_relaxed);
    return ebb_metric_value(metric) - before;
}

/* --- Prometheus text format 0.0.4 --- */

/* A value in its exported unit; nanoseconds exactly, without floating point. */
static void write_value(struct ebb_writer *writer, const struct ebb_metric *metric) {
    uint64_t value = ebb_metric_value(metric);
    if (metric->unit == EBB_UNIT_SECONDS)
        ebb_writef(writer, "%llu.%09llu\n", (unsigned long long)(value / S),
                   (unsigned long long)(value % S));
    else if (metric->kind == EBB_GAUGE)
        ebb_writef(writer, "%lld\n", (long long)value);
    else
        ebb_writef(writer, "%llu\n", (unsigned long long)value);
}

static void write_histogram(struct ebb_writer *writer, const struct ebb_metric *metric) {
    uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1], total = 0, sum = ebb_metric_sum_ns(metric);
    const char *comma = metric->labels[0] ? "," : "";
    ebbi_histogram_read(metric, counts);
    for (size_t i = 0; i < EBBI_HISTOGRAM_BOUNDS; i++) {
        total += counts[i];
        ebb_writef(writer, "%s_bucket{%s%sle=\"%g\"} %llu\n", metric->name, metric->labels, comma,
                   (double)ebbi_histogram_bound_ns[i] / (double)S, (unsigned long long)total);
    }
    total += counts[EBBI_HISTOGRAM_BOUNDS];
    const char *open = metric->labels[0] ? "{" : "", *close = metric->labels[0] ? "}" : "";
    ebb_writef(writer, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", metric->name, metric->labels, comma,
               (unsigned long long)total);
    ebb_writef(writer, "%s_sum%s%s%s %llu.%09llu\n", metric->name, open, metric->labels, close,
               (unsigned long long)(sum / S), (unsigned long long)(sum % S));
    ebb_writef(writer, "%s_count%s%s%s %llu\n", metric->name, open, metric->labels, close,
               (unsigned long long)total);
}

static void write_row(struct ebb_writer *writer, const struct ebb_metric *metric) {
    if (metric->kind == EBB_HISTOGRAM) {
        write_histogram(writer, metric);
        return;
    }
    if (metric->labels[0])
        ebb_writef(writer, "%s{%s} ", metric->name, metric->labels);
    else
        ebb_writef(writer, "%s ", metric->name);
    write_value(writer, metric);
}

static const char *type_word(enum ebb_metric_kind kind) {
    switch (kind) {
    case EBB_COUNTER:
    case EBB_PROBE_COUNTER:
        return "counter";
    case EBB_HISTOGRAM:
        return "histogram";
    default:
        return "gauge";
    }
}

static bool first_of_family(size_t index) {
    for (size_t i = 0; i < index; i++)
        if (strcmp(rows[i]->name, rows[index]->name) == 0)
            return false;
    return true;
}

void ebb_metrics_write_prometheus(struct ebb_writer *writer) {
    for (size_t i = 0; i < rows_count; i++) {
        if (!first_of_family(i))
            continue;
        ebb_writef(writer, "# HELP %s %s\n# TYPE %s %s\n", rows[i]->name, rows[i]->help,
                   rows[i]->name, type_word(rows[i]->kind));
        for (size_t j = i; j < rows_count; j++)
            if (strcmp(rows[j]->name, rows[i]->name) == 0)
                write_row(writer, rows[j]);
    }
}
