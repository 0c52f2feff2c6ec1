/* flush -- all items at once.
 *
 * A flush only flags the segments: from then on all in them is over, and no writer ends in them. A
 * sweep of the index clears their slots by and by, and then they are dropped without a walk. Where
 * memory is needed before, they are walked as any dead segment.
 *
 * 1. While a sweep is on the index does not shrink: a slot could move to where the sweep has been.
 */
#include "store/internal.h"

static void flush_pool(struct store *store, enum pool pool) {
    for (uint32_t at = store->fifo[pool].first; at != SEGMENT_NONE;
         at = segment_at(store, at)->next) {
        if (segment_is_open(segment_at(store, at)))
            segment_seal(store, at);
        atomic_store(&segment_at(store, at)->flushed, true);
    }
}

void flush_begin(struct store *store, uint32_t due) {
    pthread_mutex_lock(&store->evict_lock);
    if (due == 0 || atomic_load(&store->flush_at) == due) { /* else somebody else has done it */
        atomic_store(&store->flushed, true);
        pthread_mutex_lock(&store->lock);
        flush_pool(store, PROBATION);
        flush_pool(store, MAIN);
        pthread_mutex_unlock(&store->lock);
        index_sweep_start(store);
        atomic_compare_exchange_strong(&store->flush_at, &due, 0);
    }
    pthread_mutex_unlock(&store->evict_lock);
}

/* Under store->lock. Returns its bytes. */
static uint64_t drop_flushed(struct store *store, enum pool pool) {
    uint64_t bytes = 0;
    for (uint32_t at = store->fifo[pool].first, next; at != SEGMENT_NONE; at = next) {
        struct segment_entry *entry = segment_at(store, at);
        next = entry->next;
        if (!entry->flushed || entry->state != SEGMENT_SEALED) /* or it is on its way */
            continue;
        bytes += entry->capacity;
        atomic_store(&entry->state, SEGMENT_LEAVING);
        segment_drop(store, at);
    }
    return bytes;
}

bool flush_go_on(struct store *store) {
    if (!atomic_load(&store->flushed))
        return false;
    if (!index_sweep(store))
        return true;
    uint64_t bytes = 0;
    pthread_mutex_lock(&store->evict_lock); /* no other flush from here on */
    bool all = index_sweep(store);
    if (all) {
        pthread_mutex_lock(&store->lock);
        bytes = drop_flushed(store, PROBATION) + drop_flushed(store, MAIN);
        pthread_mutex_unlock(&store->lock);
        atomic_store(&store->flushed, false);
    }
    pthread_mutex_unlock(&store->evict_lock);
    if (bytes > 0)
        ebb_dropped(bytes);
    return true;
}
