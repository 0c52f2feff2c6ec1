/* scan -- walks all segments and shows what lives.
 *
 * A record of a segment is an item when a slot points to exactly its place: the bucket's lock is
 * held while that is asked, and for nothing else. Segments may be filled, emptied and dropped
 * meanwhile, so an item that moves during the walk may be shown twice or not at all; one that stays
 * is shown once.
 *
 * 1. The walk holds the segment's memory, not the segment: what is read may be old, never foreign.
 * 2. The end of an open segment may be written again while it is walked (a reservation that was
 * given back). So a step is taken only if the record behind it is still what it was, and every
 * record is checked to lie in the used part; if one does not, the walk goes on in the next segment.
 */
#include "store/internal.h"

/* Copies what the slot says of the record at this place. False: nothing lives there. */
static bool find(struct store *store, const char *data, uint32_t segment, uint32_t offset,
                 struct ebb_span key, uint32_t now, struct store_item *item) {
    uint64_t hash = store_hash(store, key);
    struct bucket *bucket = index_lock(store, hash);
    struct slot_ref slot_at =
        index_find_address(store, bucket, hash, address_make(store, segment, offset));
    bool found = slot_at.head && segment_data(store, segment) == data;
    if (found) {
        uint64_t slot = slot_load(slot_at);
        struct target target = slot_target(store, slot);
        store_view(&target, slot, now, item);
    }
    index_unlock(bucket);
    return found && !is_expired(item->expires, now);
}

/* The record's size, 0 when it cannot be one. */
static uint32_t step(const struct segment_entry *entry, const char *data, uint32_t at,
                     uint32_t used, uint64_t *header) {
    const struct record *record = (const struct record *)(data + at);
    *header = atomic_load_explicit(&record->header, memory_order_acquire);
    uint32_t size = segment_record_size(entry, *header), key_length = header_key_length(*header);
    bool fits = size > 0 && size % RECORD_ALIGN == 0 && size <= used - at &&
                key_length <= STORE_KEY_MAX &&
                (key_length == 0 || header_size(header_wide(*header)) + key_length <= size);
    return fits ? size : 0;
}

/* Shows up to *records records of the segment from scan->offset on. True: the segment is through.
 */
static bool walk(struct store *store, struct store_scan *scan, uint32_t now, unsigned *records,
                 store_see *see, void *context) {
    const struct segment_entry *entry = segment_at(store, scan->segment);
    const char *data = segment_data(store, scan->segment);
    if (data == NULL || !segment_alive(entry, scan->generation))
        return true;
    uint32_t used = atomic_load_explicit(&entry->used, memory_order_acquire);
    while (scan->offset<used && * records> 0) {
        uint64_t header;
        uint32_t at = scan->offset, size = step(entry, data, at, used, &header);
        struct store_item item;
        const struct record *record = (const struct record *)(data + at);
        struct ebb_span key = {record_key(record, header), header_key_length(header)};
        if (size == 0)
            return true;
        --*records;
        bool lives = key.length > 0 && find(store, data, scan->segment, at, key, now, &item);
        if (!lives && atomic_load_explicit(&record->header, memory_order_acquire) != header)
            continue;
        scan->offset = at + size;
        bool more = !lives || see(key, &item, context);
        ebb_keep(data);
        if (!more)
            return false;
    }
    return scan->offset >= used;
}

bool store_scan(struct store *store, struct store_scan *scan, uint32_t now, unsigned records,
                store_see *see, void *context) {
    if (scan->segment == 0) /* is none */
        scan->segment = 1;
    while (scan->segment < atomic_load(&store->entries_ready)) {
        const struct segment_entry *entry = segment_at(store, scan->segment);
        if (!scan->inside) {
            scan->generation = atomic_load_explicit(&entry->generation, memory_order_relaxed);
            scan->offset = 0;
            scan->inside = true;
        }
        if (!walk(store, scan, now, &records, see, context))
            return true;
        scan->inside = false;
        scan->segment++;
    }
    return false;
}
