/* check -- asserts the invariants that store.c, index.c, segment.c, evict.c and ghost.c state; for
 * tests, while no worker runs. */
#include "store/internal.h"

struct sums {
    uint64_t items, live_bytes, overflow, huge;
};

/* ---- index: from slots to records ---- */

static void check_slot(struct store *store, uint32_t number, uint64_t slot) {
    uint32_t segment = slot_segment(store, slot), offset = slot_offset(store, slot);
    ebb_assert(segment > 0 && segment < store->segments_max, "bucket %u: segment %u", number,
               segment);
    struct segment_entry *entry = segment_at(store, segment);
    ebb_assert(entry->state == SEGMENT_OPEN || entry->state == SEGMENT_SEALED ||
                   entry == store->walk.entry,
               "slot into segment %u, state %d", segment, entry->state);
    ebb_assert(
        !(slot & SLOT_MAIN) == (entry->pool == PROBATION) && !(slot & SLOT_HUGE) == !entry->huge,
        "segment %u: pool %d, huge %d, slot says otherwise", segment, entry->pool, entry->huge);
    ebb_assert(offset < entry->used, "segment %u: offset %u, used %u", segment, offset,
               entry->used);
    const struct record *record = (const struct record *)(segment_data(store, segment) + offset);
    struct ebb_span key = {record_key(record, record->header), header_key_length(record->header)};
    uint64_t hash = store_hash(store, key);
    ebb_assert(key.length > 0 && tag_of(store, hash) == (slot & tag_mask(store)),
               "bucket %u: tag differs", number);
    struct attributes attributes = attributes_read(entry, record, record->header);
    uint32_t expires = attributes.expires;
    ebb_assert((expires ? expires : UINT32_MAX) <= entry->expires_last,
               "segment %u: an item expires at %u, the segment at %u", segment, expires,
               entry->expires_last);
    ebb_assert(attributes.cas != 0, "segment %u at %u: no cas", segment, offset);
    struct bucket *home = index_lock(store, hash);
    struct slot_ref found = index_find(store, home, key, hash);
    index_unlock(home);
    ebb_assert(home == index_bucket_at(index_now(store), number),
               "an item of another bucket in bucket %u", number);
    ebb_assert(found.head && slot_address(store, slot_load(found)) == slot_address(store, slot),
               "bucket %u: a key with two slots", number);
}

static void check_bucket(struct store *store, uint32_t number, struct sums *sums) {
    const struct index *index = index_now(store);
    struct bucket *bucket = index_bucket_at(index, number);
    ebb_assert(!(bucket->version & 1), "bucket %u is locked", number);
    struct run run = run_of_bucket(bucket);
    int hops = 0;
    bool more;
    do {
        struct run here = run;
        int taken = 0, last = 0;
        more = run_next(index, &run);
        for (int i = 0; i < here.slots - more; i++)
            if (!slot_ref_empty(run_at(&here, i))) {
                check_slot(store, number, slot_load(run_at(&here, i)));
                taken++;
                last = i + 1;
            }
        ebb_assert(!more || taken == here.slots - 1, "bucket %u: a hole before a link", number);
        ebb_assert(hops == 0 || (taken > 1 && taken == last),
                   "bucket %u: an overflow bucket of %d items, the last at %d", number, taken,
                   last - 1);
        sums->items += (uint64_t)taken;
        sums->overflow += more;
        hops += more;
        ebb_assert(hops <= INDEX_CHAIN_MAX, "bucket %u: a chain too long", number);
    } while (more);
}

static void check_overflow_free(const struct store *store) {
    const struct index *index = index_now(store);
    uint32_t free = 0, total = index->overflow_pages * 2 * index_page_buckets(index);
    for (uint32_t at = index->overflow_free; at != OVERFLOW_NONE; free++) {
        ebb_assert(at < total && free < total, "free overflow bucket %u of %u", at, total);
        const struct overflow *overflow = index_overflow_at(index, at);
        for (int i = 0; i < OVERFLOW_SLOTS; i++)
            ebb_assert(overflow->head[i] == 0, "free overflow bucket %u holds a slot", at);
        at = overflow->tail[0];
    }
    ebb_assert(free == index->overflow_free_count && free + index->overflow_count == total,
               "%u overflow buckets: %u free (%u counted), %u used", total, free,
               index->overflow_free_count, index->overflow_count);
}

static void check_pages(const struct store *store) {
    const struct index *index = index_now(store);
    uint32_t pages = 0, needed = index_page_of(index, index->buckets - 1) + 1;
    for (uint32_t i = 0; i < index->directory_size; i++) {
        pages += index->pages[i] != NULL;
        ebb_assert(i >= needed || index->pages[i], "%u buckets, but page %u is missing",
                   index->buckets, i);
    }
    ebb_assert(pages == index->pages_count, "%u index pages, %u counted", pages,
               index->pages_count);
    uint64_t entry_pages = ((store->entries_ready - 1) >> ENTRY_PAGE_SHIFT) + 1;
    uint64_t bytes = index_bytes(index) + ghost_bytes(store->ghost) +
                     (uint64_t)store->segments_max * sizeof *store->data +
                     ((store->segments_max >> ENTRY_PAGE_SHIFT) + 1) * sizeof *store->entries +
                     entry_pages * (sizeof(struct segment_entry) << ENTRY_PAGE_SHIFT) +
                     (uint64_t)store->config.workers * sizeof *store->workers;
    ebb_assert(bytes == store->index_bytes, "index takes %lu bytes, counted %lu", bytes,
               store->index_bytes);
}

/* ---- segments: from records to slots ---- */

/* Bytes of the record at `offset` that a slot points to: all of it or 0. */
static uint32_t live_at(struct store *store, uint32_t segment, uint32_t offset, uint32_t size) {
    const struct record *record = (const struct record *)(segment_data(store, segment) + offset);
    uint32_t length = header_key_length(record->header);
    if (length == 0)
        return 0;
    struct ebb_span key = {record_key(record, record->header), length};
    uint64_t hash = store_hash(store, key);
    struct bucket *home = index_lock(store, hash);
    struct slot_ref slot_at =
        index_find_address(store, home, hash, address_make(store, segment, offset));
    index_unlock(home);
    return slot_at.head ? size : 0;
}

static void check_segment(struct store *store, uint32_t segment, struct sums *sums) {
    const struct segment_entry *entry = segment_at(store, segment);
    ebb_assert(entry->used <= entry->capacity && entry->live_bytes <= entry->used,
               "segment %u: %u live of %u used", segment, entry->live_bytes, entry->used);
    bool tail = store->tail[entry->pool][entry->ttl_class] == segment;
    ebb_assert(entry->state == (entry == store->walk.entry ? SEGMENT_LEAVING
                                : tail                     ? SEGMENT_OPEN
                                                           : SEGMENT_SEALED),
               "segment %u: state %d, tail %d", segment, entry->state, tail);
    ebb_assert(entry->state != SEGMENT_OPEN || entry->ttl_class < store->ttl_classes,
               "segment %u: class %u of %u", segment, entry->ttl_class, store->ttl_classes);
    ebb_assert(entry->huge || entry->capacity + OBJECT_SLACK <= store->segment_bytes_most,
               "segment %u: capacity %u", segment, entry->capacity);
    uint64_t live = 0;
    const char *data = segment_data(store, segment);
    if (entry->huge)
        live = live_at(store, segment, 0, entry->capacity);
    for (uint32_t offset = 0, size; !entry->huge && offset < entry->used; offset += size) {
        size = segment_record_size(entry, ((const struct record *)(data + offset))->header);
        ebb_assert(size > 0 && offset + size <= entry->used, "segment %u cannot be walked at %u",
                   segment, offset);
        live += live_at(store, segment, offset, size);
    }
    ebb_assert(live == entry->live_bytes || (entry->flushed && live < entry->live_bytes),
               "segment %u: a walk finds %lu live bytes, counted %u", segment, live,
               entry->live_bytes);
    sums->live_bytes += live;
    sums->huge += entry->huge;
}

static uint32_t check_pool(struct store *store, int pool, struct sums *sums) {
    uint64_t bytes = 0;
    uint32_t previous = SEGMENT_NONE, count = 0;
    for (uint32_t at = store->fifo[pool].first; at != SEGMENT_NONE;
         at = segment_at(store, at)->next) {
        const struct segment_entry *entry = segment_at(store, at);
        ebb_assert(entry->previous == previous && entry->pool == pool, "segment %u: broken list",
                   at);
        check_segment(store, at, sums);
        bytes += entry->capacity;
        previous = at;
        count++;
    }
    ebb_assert(store->fifo[pool].last == previous, "pool %d: last is %u, not %u", pool,
               store->fifo[pool].last, previous);
    ebb_assert(bytes == store->fifo[pool].bytes, "pool %d: %lu bytes of segments, counted %lu",
               pool, bytes, store->fifo[pool].bytes);
    for (int class = 0; class < TTL_CLASSES; class ++) {
        uint32_t tail = store->tail[pool][class];
        ebb_assert(tail == SEGMENT_NONE || (segment_at(store, tail)->state == SEGMENT_OPEN &&
                                            segment_at(store, tail)->pool == pool &&
                                            segment_at(store, tail)->ttl_class == class),
                   "tail %u of pool %d, class %d is not", tail, pool, class);
    }
    return count;
}

static uint32_t check_free_entries(const struct store *store) {
    uint32_t count = 0;
    for (uint32_t at = store->free_entries; at != SEGMENT_NONE; at = segment_at(store, at)->next) {
        ebb_assert(at > 0 && at < store->entries_ready && count < store->entries_ready,
                   "free entry %u of %u", at, store->entries_ready);
        ebb_assert(segment_at(store, at)->state == SEGMENT_FREE && store->data[at] == NULL,
                   "free entry %u: state %d, data %p", at, segment_at(store, at)->state,
                   (void *)store->data[at]);
        count++;
    }
    return count;
}

static void check_segments(struct store *store, struct sums *sums) {
    uint32_t live = check_pool(store, PROBATION, sums) + check_pool(store, MAIN, sums);
    uint32_t free = check_free_entries(store);
    ebb_assert(live + free + 1 == store->entries_ready, "%u live segments, %u free, of %u", live,
               free, store->entries_ready - 1);
    ebb_assert(sums->huge == store->huge, "%lu huge values, counted %lu", sums->huge, store->huge);
    uint64_t bytes = segment_bytes_live(store);
    ebb_assert(bytes <= segment_budget(store), "%lu bytes of segments over a budget of %lu", bytes,
               segment_budget(store));
    ebb_assert(bytes <= segment_bytes_held(store), "%lu bytes of segments, held only %lu", bytes,
               segment_bytes_held(store));
}

static void check_ghost(const struct ghost *ghost) {
    for (uint32_t page = 0; page < ghost->directory_size; page++) {
        const ghost_cell *cells = ghost->pages[page];
        ebb_assert((cells != NULL) == (page < ghost->pages_count), "ghost page %u of %u", page,
                   ghost->pages_count);
        for (uint32_t i = 0; cells && i < ghost->page_cells; i++)
            ebb_assert(cells[i] == 0 || cells[i] >> GHOST_AGE_BITS != 0,
                       "ghost page %u, cell %u: an age without a fingerprint", page, i);
    }
}

void store_check(struct store *store) {
    struct sums sums = {0};
    for (uint32_t number = 0; number < index_now(store)->buckets; number++)
        check_bucket(store, number, &sums);
    ebb_assert(sums.items == store_items(store), "%lu slots, %lu items counted", sums.items,
               store_items(store));
    ebb_assert(sums.overflow == index_now(store)->overflow_count,
               "%lu overflow buckets in chains, %u counted", sums.overflow,
               index_now(store)->overflow_count);
    check_overflow_free(store);
    check_pages(store);
    check_segments(store, &sums);
    check_ghost(store->ghost);
}
