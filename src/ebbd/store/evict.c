/* evict -- which segments leave when room is needed.
 *
 * Empty ones first, then wholly expired ones, then the oldest. A segment leaves in four steps: it
 * is marked as leaving; its records are walked and each slot that points into it is cleared; its
 * root is cleared; its bytes are told to the collector. One thread at a time, under the store's
 * lock; readers and writers go on meanwhile.
 *
 * 1. Marking comes before walking, both sequentially consistent: a writer either sees the mark
 * under its bucket's lock and moves its record elsewhere, or the walk sees the record and finds the
 * slot.
 * 2. Live segments stay `batch` below the budget, so garbage can gather to a batch between two
 * collections: eviction costs one segment at a time, a collection comes once a batch.
 * 3. held + wanted <= budget when evict_for returns true. */
#include "store/internal.h"

enum {
    BATCH_SHARE = 50,        /* 2% of the limit */
    BATCH_MIN = 2 << 20,     /* but not oftener than every 2 MiB, */
    BATCH_SHARE_LARGEST = 8, /* nor more than an eighth */
    ROUNDS_MAX = 8, /* collections that one request may start when readers hold on to segments */
};

static uint64_t batch_bytes(const struct store *store) {
    uint64_t limit = store->config.limit_bytes, batch = limit / BATCH_SHARE;
    if (batch < BATCH_MIN)
        batch = BATCH_MIN;
    return batch < limit / BATCH_SHARE_LARGEST ? batch : limit / BATCH_SHARE_LARGEST;
}

static void count_gone(struct store *store, const struct record *record, uint32_t now) {
    uint64_t lead = atomic_load_explicit(&record->lead, memory_order_relaxed);
    uint32_t expires =
        (uint32_t)(atomic_load_explicit(&record->times, memory_order_relaxed) & UINT32_MAX);
    bool expired = expires != 0 && expires <= now, fetched = lead_marks(lead) & STORE_FETCHED;
    atomic_fetch_add_explicit(expired ? &store->reclaimed : &store->evictions, 1,
                              memory_order_relaxed);
    if (!fetched)
        atomic_fetch_add_explicit(expired ? &store->expired_unfetched : &store->evicted_unfetched,
                                  1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&store->items_other, 1, memory_order_relaxed);
}

static void unlink_record(struct store *store, uint32_t segment, uint32_t offset,
                          struct record *record, uint32_t size, uint32_t now) {
    uint32_t length = lead_key_length(atomic_load_explicit(&record->lead, memory_order_relaxed));
    uint64_t hash = store_hash(store, (struct ebb_span){record->key, length});
    struct bucket *bucket = index_lock(store, hash);
    _Atomic uint64_t *slot =
        index_find_place(store, bucket, hash, slot_make(0, segment, offset, 0) & SLOT_PLACE);
    if (slot) {
        index_remove(store, bucket, slot);
        atomic_fetch_sub_explicit(&store->entries[segment].live_bytes, size, memory_order_relaxed);
        count_gone(store, record, now);
    }
    index_unlock(bucket);
}

void evict_segment(struct store *store, uint32_t segment, uint32_t now) {
    struct segment_entry *entry = &store->entries[segment];
    if (segment == store->tail)
        segment_seal_tail(store);
    atomic_store_explicit(&entry->state, SEGMENT_LEAVING, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    char *data = segment_data(store, segment);
    uint32_t used = atomic_load_explicit(&entry->used, memory_order_acquire);
    for (uint32_t at = 0; at < used;) {
        struct record *record = (struct record *)(data + at);
        uint64_t lead = atomic_load_explicit(&record->lead, memory_order_acquire);
        uint32_t size = entry->huge ? entry->capacity : segment_record_size(entry, lead);
        ebb_assert(size > 0 && at + size <= used, "segment %u: record at %u of %u bytes, used %u",
                   segment, at, size, used);
        if (lead_key_length(lead) != 0)
            unlink_record(store, segment, at, record, size, now);
        at += size;
    }
    ebb_assert(entry->live_bytes == 0, "segment %u leaves with %u live bytes", segment,
               entry->live_bytes);
    segment_drop(store, segment);
}

uint64_t evict_expired(struct store *store, uint32_t now) {
    uint64_t before = store->live_segment_bytes;
    atomic_store_explicit(&store->empty_segments, 0, memory_order_relaxed);
    for (uint32_t segment = store->first; segment != SEGMENT_NONE;) {
        struct segment_entry *entry = &store->entries[segment];
        uint32_t next = entry->next,
                 last = atomic_load_explicit(&entry->expires_last, memory_order_relaxed);
        bool empty = atomic_load_explicit(&entry->live_bytes, memory_order_relaxed) == 0;
        /* An empty huge segment may be a room under construction: its turn comes by age. */
        if (atomic_load(&entry->state) == SEGMENT_SEALED &&
            (empty ? last != 0 || !entry->huge : last <= now))
            evict_segment(store, segment, now);
        segment = next;
    }
    return before - store->live_segment_bytes;
}

/* One step towards room: what is dead goes first; then, unless -M forbids it, the oldest segment.
 */
static bool evict_one(struct store *store, uint32_t now) {
    bool look = atomic_load_explicit(&store->empty_segments, memory_order_relaxed) > 0;
    if ((look || !store->config.evict) && evict_expired(store, now) > 0)
        return true;
    if (store->first == SEGMENT_NONE || !store->config.evict)
        return false;
    evict_segment(store, store->first, now);
    return true;
}

bool evict_for(struct store *store, uint64_t bytes, uint32_t now) {
    uint64_t budget = segment_budget(store), batch = batch_bytes(store);
    uint64_t live_most = budget > batch ? budget - batch : budget;
    uint64_t before = store->live_segment_bytes;
    if (bytes > budget)
        return false;
    while (store->live_segment_bytes + bytes > live_most)
        if (!evict_one(store, now))
            break; /* a huge value may need the batch too */
    ebb_dropped(before - store->live_segment_bytes);
    for (int round = 0; segment_bytes_held(store) + bytes > budget; round++) {
        if (round > 0 && (round > ROUNDS_MAX || !evict_one(store, now)))
            return false;
        ebb_collect(EBB_CAUSE_dropped);
    }
    return true;
}
