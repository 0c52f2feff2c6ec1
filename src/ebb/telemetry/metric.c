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
#include <sys/mman.h>

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
    struct ebb_metric_block shared;
    _Atomic uint64_t at_reset[EBB_METRIC_SLOTS];
} memory;

/* EBB_METRIC_THREADS of them, mapped when a thread first wants one; NULL: all count in the shared
 * one. */
static struct ebb_metric_block *of_thread;
static atomic_bool taken[EBB_METRIC_THREADS];
static _Atomic size_t blocks_used; /* blocks from here on were never taken: nothing to sum */
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

/* Behind the last row of the same name, so that a scrape need not search. */
static void join_family(struct ebb_metric *metric) {
    metric->first = true;
    for (size_t i = 0; i < rows_count; i++)
        if (strcmp(rows[i]->name, metric->name) == 0) {
            struct ebb_metric *last = rows[i];
            while (last->next)
                last = last->next;
            last->next = metric;
            metric->first = false;
            return;
        }
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
        join_family(metric);
        rows[rows_count++] = metric;
    }
}

static void hand_on(void *block) {
    size_t index = (size_t)((struct ebb_metric_block *)block - of_thread);
    ebb_metric_block = NULL;
    atomic_store_explicit(&taken[index], false, memory_order_release);
}

static void make_key(void) {
    int failed = pthread_key_create(&block_key, hand_on);
    ebb_assert(failed == 0, "pthread_key_create: error %d", failed);
    void *blocks = mmap(NULL, EBB_METRIC_THREADS * sizeof *of_thread, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    of_thread = blocks == MAP_FAILED ? NULL : blocks;
}

struct ebb_metric_block *ebb_metric_block_take(void) {
    if (without_block)
        return NULL;
    pthread_once(&block_key_once, make_key);
    for (size_t i = 0; i < EBB_METRIC_THREADS && of_thread; i++) {
        bool expected = false;
        if (!atomic_compare_exchange_strong_explicit(&taken[i], &expected, true,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        ebb_metric_block = &of_thread[i];
        size_t used = atomic_load(&blocks_used);
        while (used < i + 1 && !atomic_compare_exchange_weak(&blocks_used, &used, i + 1))
            ;
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

void ebb_observe_many_ns(struct ebb_metric *metric, uint64_t ns, uint64_t times) {
    if (metric->slot == 0)
        return;
    uint32_t bucket = 0;
    while (bucket < EBBI_HISTOGRAM_BOUNDS && ns > ebbi_histogram_bound_ns[bucket])
        bucket++;
    count_slot(metric->slot + bucket, times);
    count_slot(metric->slot + SUM_SLOT, ns * times);
}

void ebb_observe_ns(struct ebb_metric *metric, uint64_t ns) {
    ebb_observe_many_ns(metric, ns, 1);
}

static uint64_t slot_sum(uint32_t slot) {
    uint64_t sum = atomic_load_explicit(&memory.shared.slot[slot], memory_order_relaxed);
    size_t blocks = atomic_load_explicit(&blocks_used, memory_order_acquire);
    for (size_t i = 0; i < blocks; i++)
        sum += atomic_load_explicit(&of_thread[i].slot[slot], memory_order_relaxed);
    return sum;
}

void ebbi_histogram_read(const struct ebb_metric *metric,
                         uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1]) {
    for (uint32_t i = 0; i <= EBBI_HISTOGRAM_BOUNDS; i++)
        counts[i] = metric->slot == 0 ? 0 : slot_sum(metric->slot + i);
}

static void (*the_refresh)(void);

void ebb_metrics_refresh_set(void (*refresh)(void)) {
    the_refresh = refresh;
}

void ebbi_metrics_refresh(void) {
    if (the_refresh)
        the_refresh();
}

uint64_t ebb_metric_value(const struct ebb_metric *metric) {
    bool probe = metric->kind == EBB_PROBE || metric->kind == EBB_PROBE_COUNTER;
    if (probe && metric->read == NULL)
        ebbi_metrics_refresh();
    return ebbi_metric_value(metric);
}

uint64_t ebbi_metric_value(const struct ebb_metric *metric) {
    switch (metric->kind) {
    case EBB_PROBE:
    case EBB_PROBE_COUNTER:
        if (metric->read)
            return metric->read();
        /* fallthrough */
    case EBB_GAUGE:
        return (uint64_t)atomic_load_explicit(&metric->gauge, memory_order_relaxed);
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

void ebb_metrics_each(void (*see)(struct ebb_metric *, void *), void *context) {
    for (size_t i = 0; i < rows_count; i++)
        see(rows[i], context);
}

struct ebb_metric *ebb_metric_find(const char *name, const char *labels) {
    for (size_t i = 0; i < rows_count; i++)
        if (strcmp(rows[i]->name, name) == 0 && strcmp(rows[i]->labels, labels) == 0)
            return rows[i];
    return NULL;
}

struct ebb_metric *ebbi_metric_at(size_t index) {
    return index < rows_count ? rows[index] : NULL;
}
