/* segment -- large pointer-free objects that items are appended to.
 *
 * Workers carve chunks of 4 to 32 KiB out of one open segment (under the store's lock) and append
 * records inside their chunk without any lock. A record too long for that is carved by itself; one
 * of a quarter segment or more (a huge value) gets a segment of its own. What is not filled is a
 * filler record, so a segment can always be walked.
 *
 * 1. [0, used) of a segment is a row of whole records and fillers at every moment: a chunk is one
 * filler when carved, and an append writes the new remainder's filler, then key and value bytes,
 * then the record's lead (release).
 * 2. Only data[n] holds a segment. When it is cleared the memory lives on until the last reader,
 * room or chunk forgets it: the collector is the reclamation scheme.
 * 3. An entry's generation rises when it is given out again, so a chunk or room knows that its
 * segment left.
 * 4. held = live + dropped but not yet collected; held + index stays within the limit
 * (segment_budget). */
#include "store/internal.h"
#include <string.h>

enum {
    SEGMENT_BYTES_MIN = 64 << 10,
    SEGMENT_BYTES_MAX = 8 << 20,
    SEGMENTS_PER_LIMIT = 512,
    SEGMENT_SLACK =
        32, /* object header and the collector's spare byte: the object fills its blocks exactly */
    CHUNK_MIN = 4 << 10,
    CHUNK_MAX = 32 << 10,
    ENTRIES_PER_SEGMENT = 8, /* for huge values, and for a limit raised at run time */
};

void segments_start(struct store *store) {
    size_t bytes = SEGMENT_BYTES_MIN;
    while (bytes < SEGMENT_BYTES_MAX && bytes < store->config.limit_bytes / SEGMENTS_PER_LIMIT)
        bytes *= 2;
    store->segment_capacity = (uint32_t)bytes - SEGMENT_SLACK;
    store->huge_from = (uint32_t)bytes / 4;
    store->chunk_bytes = (uint32_t)bytes / 32;
    if (store->chunk_bytes < CHUNK_MIN)
        store->chunk_bytes = CHUNK_MIN;
    if (store->chunk_bytes > CHUNK_MAX)
        store->chunk_bytes = CHUNK_MAX;
    size_t count = store->config.limit_bytes / bytes * ENTRIES_PER_SEGMENT + 64;
    if (count > SLOT_SEGMENTS_MAX)
        count = SLOT_SEGMENTS_MAX;
    store->segments_max = (uint32_t)count;
    store->data = ebb_new_sized(&ebb_type_segment_roots, count * sizeof *store->data);
    store->entries = ebb_new_sized(&ebb_type_segment_table, count * sizeof *store->entries);
    memset(store->entries, 0, count * sizeof *store->entries);
    store->index_bytes += count * (sizeof *store->data + sizeof *store->entries);
    store->first = store->last = store->tail = store->free_entries = SEGMENT_NONE;
    for (uint32_t i = (uint32_t)count - 1; i > 0; i--) { /* 0 is never used: a slot of 0 is empty */
        store->entries[i].next = store->free_entries;
        store->free_entries = i;
    }
}

uint64_t segment_bytes_held(const struct store *store) {
    (void)store;
    return atomic_load_explicit(&ebb_type_segment.allocated_bytes, memory_order_relaxed) -
           atomic_load_explicit(&ebb_type_segment.gone_bytes, memory_order_relaxed);
}

uint64_t segment_budget(const struct store *store) {
    uint64_t limit = store->config.limit_bytes, index = atomic_load(&store->index_bytes);
    return limit > index ? limit - index : 0;
}

uint32_t segment_record_size(const struct segment_entry *entry, uint64_t lead) {
    if (lead_key_length(lead) == 0)
        return lead_value_length(lead) * RECORD_ALIGN;
    return entry->huge ? entry->capacity
                       : record_size(lead_key_length(lead), lead_value_length(lead));
}

void segment_live_add(struct store *store, uint32_t segment, uint32_t bytes) {
    atomic_fetch_add_explicit(&store->entries[segment].live_bytes, bytes, memory_order_relaxed);
}

void segment_live_remove(struct store *store, uint32_t segment, uint32_t bytes) {
    struct segment_entry *entry = &store->entries[segment];
    if (atomic_fetch_sub_explicit(&entry->live_bytes, bytes, memory_order_relaxed) == bytes)
        atomic_fetch_add_explicit(&store->empty_segments, 1, memory_order_relaxed);
}

/* ---- under store->lock ---- */

static void fifo_append(struct store *store, uint32_t segment) {
    struct segment_entry *entry = &store->entries[segment];
    entry->next = SEGMENT_NONE;
    entry->previous = store->last;
    if (store->last != SEGMENT_NONE)
        store->entries[store->last].next = segment;
    else
        store->first = segment;
    store->last = segment;
}

static void fifo_remove(struct store *store, uint32_t segment) {
    struct segment_entry *entry = &store->entries[segment];
    if (entry->previous != SEGMENT_NONE)
        store->entries[entry->previous].next = entry->next;
    else
        store->first = entry->next;
    if (entry->next != SEGMENT_NONE)
        store->entries[entry->next].previous = entry->previous;
    else
        store->last = entry->previous;
}

static uint32_t segment_new(struct store *store, uint32_t capacity, bool huge, uint32_t now) {
    if (!evict_for(store, capacity, now))
        return SEGMENT_NONE;
    while (store->free_entries == SEGMENT_NONE) {
        if (store->first == SEGMENT_NONE)
            return SEGMENT_NONE;
        evict_segment(store, store->first, now);
    }
    char *data = ebb_try_sized(&ebb_type_segment, capacity);
    if (data == NULL)
        return SEGMENT_NONE;
    uint32_t segment = store->free_entries;
    struct segment_entry *entry = &store->entries[segment];
    store->free_entries = entry->next;
    entry->huge = huge;
    entry->capacity = capacity;
    entry->value_length = 0;
    atomic_store_explicit(&entry->used, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->live_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->expires_last, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&entry->generation, 1, memory_order_relaxed);
    atomic_store_explicit(&store->data[segment], data, memory_order_release);
    atomic_store_explicit(&entry->state, huge ? SEGMENT_SEALED : SEGMENT_OPEN,
                          memory_order_seq_cst);
    fifo_append(store, segment);
    store->live_segment_bytes += capacity;
    if (huge)
        atomic_fetch_add_explicit(&store->huge, 1, memory_order_relaxed);
    return segment;
}

void segment_drop(struct store *store, uint32_t segment) {
    struct segment_entry *entry = &store->entries[segment];
    ebb_assert(atomic_load(&entry->state) == SEGMENT_LEAVING, "segment %u, state %d", segment,
               entry->state);
    fifo_remove(store, segment);
    if (store->tail == segment)
        store->tail = SEGMENT_NONE;
    if (entry->huge)
        atomic_fetch_sub_explicit(&store->huge, 1, memory_order_relaxed);
    store->live_segment_bytes -= entry->capacity;
    atomic_store_explicit(&store->data[segment], NULL, memory_order_release);
    atomic_store_explicit(&entry->state, SEGMENT_FREE, memory_order_seq_cst);
    entry->next = store->free_entries;
    store->free_entries = segment;
}

static void filler_write(char *data, uint32_t at, uint32_t end) {
    if (at < end)
        atomic_store_explicit(&((struct record *)(data + at))->lead, filler_make(end - at),
                              memory_order_release);
}

void segment_seal_tail(struct store *store) {
    if (store->tail == SEGMENT_NONE)
        return;
    struct segment_entry *entry = &store->entries[store->tail];
    atomic_store_explicit(&entry->state, SEGMENT_SEALED, memory_order_seq_cst);
    if (atomic_load_explicit(&entry->live_bytes, memory_order_relaxed) == 0)
        atomic_fetch_add_explicit(&store->empty_segments, 1, memory_order_relaxed);
    store->tail = SEGMENT_NONE;
}

/* Carves bytes out of the open segment, at least `least` of them. False: no memory. */
static bool carve(struct store *store, uint32_t least, uint32_t wanted, uint32_t now,
                  struct chunk *chunk) {
    pthread_mutex_lock(&store->lock);
    uint32_t tail = store->tail;
    if (tail != SEGMENT_NONE && store->segment_capacity - store->entries[tail].used < least) {
        segment_seal_tail(store);
        tail = SEGMENT_NONE;
    }
    if (tail == SEGMENT_NONE)
        store->tail = tail = segment_new(store, store->segment_capacity, false, now);
    if (tail != SEGMENT_NONE) {
        struct segment_entry *entry = &store->entries[tail];
        uint32_t used = atomic_load_explicit(&entry->used, memory_order_relaxed);
        uint32_t room = store->segment_capacity - used;
        uint32_t bytes = wanted < room ? wanted : room;
        char *data = segment_data(store, tail);
        filler_write(data, used, used + bytes);
        atomic_store_explicit(&entry->used, used + bytes, memory_order_release);
        *chunk = (struct chunk){data, tail, atomic_load(&entry->generation), used, used + bytes};
    }
    pthread_mutex_unlock(&store->lock);
    return tail != SEGMENT_NONE;
}

static enum store_verdict reserve_huge(struct store *store, uint32_t size, uint64_t value_length,
                                       uint32_t now, struct chunk *chunk) {
    if (size > segment_budget(store))
        return STORE_NO_MEMORY;
    pthread_mutex_lock(&store->lock);
    uint32_t segment = segment_new(store, size, true, now);
    if (segment != SEGMENT_NONE) {
        struct segment_entry *entry = &store->entries[segment];
        char *data = segment_data(store, segment);
        entry->value_length = (uint32_t)value_length;
        filler_write(data, 0,
                     size); /* its length may not fit; a walk of a huge segment does not ask */
        atomic_store_explicit(&entry->used, size, memory_order_release);
        *chunk = (struct chunk){data, segment, atomic_load(&entry->generation), 0, size};
    }
    pthread_mutex_unlock(&store->lock);
    return segment != SEGMENT_NONE ? STORE_STORED : STORE_NO_MEMORY;
}

static void take(struct chunk *chunk, uint32_t size, struct store_room *room) {
    room->segment = chunk->data;
    room->record = chunk->data + chunk->at;
    room->segment_id = chunk->segment;
    room->segment_generation = chunk->generation;
    room->size = size;
    room->offset = chunk->at;
    chunk->at += size;
    filler_write(chunk->data, chunk->at, chunk->end);
}

enum store_verdict segment_reserve(struct store_worker *worker, uint32_t size,
                                   uint64_t value_length, uint32_t now, struct store_room *room) {
    struct store *store = worker->store;
    struct chunk *chunk = &worker->chunk, own;
    if (size >= store->huge_from) {
        enum store_verdict verdict = reserve_huge(store, size, value_length, now, &own);
        if (verdict == STORE_STORED)
            take(&own, size, room);
        return verdict;
    }
    if (chunk->data && !segment_alive(store, chunk->segment, chunk->generation))
        *chunk = (struct chunk){0};
    if (chunk->data && chunk->end - chunk->at >= size) {
        take(chunk, size, room);
        return STORE_STORED;
    }
    bool alone = size > store->chunk_bytes / 4; /* keeps the chunk's remainder for small ones */
    if (!carve(store, size, alone ? size : store->chunk_bytes, now, alone ? &own : chunk))
        return STORE_NO_MEMORY;
    take(alone ? &own : chunk, size, room);
    return STORE_STORED;
}

void segment_unreserve(struct store_worker *worker, struct store_room *room) {
    struct store *store = worker->store;
    struct chunk *chunk = &worker->chunk;
    struct segment_entry *entry = &store->entries[room->segment_id];
    if (entry->huge && segment_alive(store, room->segment_id, room->segment_generation))
        atomic_store_explicit(&entry->expires_last, 1,
                              memory_order_relaxed); /* evict_expired may have it */
    if (chunk->data == room->segment && chunk->generation == room->segment_generation &&
        chunk->at == room->offset + room->size) {
        chunk->at = room->offset;
        filler_write(chunk->data, chunk->at, chunk->end);
        /* A walk that starts after our next look at the segment's state must not see the record any
         * more. */
        atomic_thread_fence(memory_order_seq_cst);
    }
}
