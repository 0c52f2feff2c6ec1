/* check -- asserts the invariants that store.c, index.c and segment.c state; for tests, while no
 * worker runs. */
#include "store/internal.h"

static uint64_t check_slot(struct store *store, uint32_t number, uint64_t slot) {
    uint32_t segment = slot_segment(slot);
    ebb_assert(segment > 0 && segment < store->segments_max, "bucket %u: segment %u", number,
               segment);
    struct segment_entry *entry = &store->entries[segment];
    ebb_assert(entry->state == SEGMENT_OPEN || entry->state == SEGMENT_SEALED,
               "slot into segment %u, state %d", segment, entry->state);
    ebb_assert(!(slot & SLOT_MAIN) == (entry->pool == PROBATION),
               "segment %u: pool %d, slot says otherwise", segment, entry->pool);
    ebb_assert(slot_offset(slot) < entry->used, "segment %u: offset %u, used %u", segment,
               slot_offset(slot), entry->used);
    const struct record *record =
        (const struct record *)(segment_data(store, segment) + slot_offset(slot));
    struct ebb_span key = {record->key, lead_key_length(record->lead)};
    uint64_t hash = store_hash(store, key);
    ebb_assert(key.length > 0 && hash >> SLOT_TAG_SHIFT == slot >> SLOT_TAG_SHIFT,
               "bucket %u: tag differs", number);
    struct bucket *home = index_lock(store, hash);
    _Atomic uint64_t *found = index_find(store, home, key, hash);
    index_unlock(home);
    ebb_assert(home == index_bucket_at(store, number), "an item of another bucket in bucket %u",
               number);
    ebb_assert(found && (*found & SLOT_PLACE) == (slot & SLOT_PLACE),
               "bucket %u: a key with two slots", number);
    return segment_record_size(entry, record->lead);
}

static uint64_t check_pool(struct store *store, int pool) {
    uint64_t live = 0, bytes = 0;
    uint32_t previous = SEGMENT_NONE;
    for (uint32_t at = store->fifo[pool].first; at != SEGMENT_NONE; at = store->entries[at].next) {
        struct segment_entry *entry = &store->entries[at];
        ebb_assert(entry->previous == previous && entry->pool == pool, "segment %u: broken list",
                   at);
        ebb_assert(entry->used <= entry->capacity && entry->live_bytes <= entry->used,
                   "segment %u: %u live of %u used", at, entry->live_bytes, entry->used);
        const char *data = segment_data(store, at);
        for (uint32_t offset = 0; !entry->huge && offset < entry->used;) {
            uint32_t size =
                segment_record_size(entry, ((const struct record *)(data + offset))->lead);
            ebb_assert(size > 0 && offset + size <= entry->used,
                       "segment %u cannot be walked at %u", at, offset);
            offset += size;
        }
        live += entry->live_bytes;
        bytes += entry->capacity;
        previous = at;
    }
    ebb_assert(bytes == store->fifo[pool].bytes, "pool %d: %lu bytes of segments, counted %lu",
               pool, bytes, store->fifo[pool].bytes);
    return live;
}

static void check_segments(struct store *store, uint64_t live_seen) {
    uint64_t live = check_pool(store, PROBATION) + check_pool(store, MAIN);
    uint64_t bytes = segment_bytes_live(store);
    ebb_assert(live == live_seen, "segments say %lu live bytes, slots %lu", live, live_seen);
    ebb_assert(bytes <= segment_budget(store), "%lu bytes of segments over a budget of %lu", bytes,
               segment_budget(store));
}

void store_check(struct store *store) {
    uint64_t items = 0, live = 0, overflow = 0;
    for (uint32_t number = 0; number < store->index.buckets; number++) {
        struct bucket *at = index_bucket_at(store, number);
        ebb_assert(!(at->version & 1), "bucket %u is locked", number);
        while (at) {
            for (int i = 0; i < BUCKET_SLOTS; i++)
                if (at->slot[i] != 0) {
                    live += check_slot(store, number, at->slot[i]);
                    items++;
                }
            uint32_t next = at->overflow;
            at = next ? index_overflow_at(store, next - 1) : NULL;
            overflow += next != 0;
        }
    }
    ebb_assert(items == store_items(store), "%lu slots, %lu items counted", items,
               store_items(store));
    ebb_assert(overflow == store->index.overflow_count, "%lu overflow buckets, %u counted",
               overflow, store->index.overflow_count);
    check_segments(store, live);
}
