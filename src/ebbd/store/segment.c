/* segment -- large pointer-free objects that items are appended to.
 *
 * Each pool (probation, main) and each class of time to live has one open segment. Workers carve
 * chunks of 2 to 32 KiB out of it (under the store's lock) and append records inside their chunk
 * without any lock. A record too long for that is carved by itself; one of a quarter segment or
 * more (a huge value) gets a segment of its own. What is not filled is a filler record, so a
 * segment can always be walked.
 *
 * 1. [0, used) of a segment is a row of whole records and fillers at every moment: a chunk is one
 * filler when carved, and an append writes the new remainder's filler, then key and value bytes,
 * then the record's header (release).
 * 2. Only data[n] holds a segment. When it is cleared the memory lives on until the last reader or
 * room forgets it: the collector is the reclamation scheme.
 * 3. An entry's generation rises when it is given out again, so a chunk or room knows that its
 * segment left.
 * 4. held = live + dropped but not yet collected, what the index dropped included; held + index
 * stays within the limit (segment_budget), with the memory of what was collected that is still
 * resident (ebb_free_blocks_bound): holes that nothing fits in are given back, before new memory is
 * written to.
 * 5. How large an ordinary segment is follows from the limit when it is made, and does not change:
 * its size stands with it. All entries are in pages that are never moved.
 * 6. A live segment is in the FIFO of its pool, in the order of its making; huge ones that survive
 * are requeued. */
#include "store/internal.h"
#include <string.h>

enum {
    SEGMENT_BYTES_MIN = 16 << 10,
    SEGMENT_BYTES_MAX = 64 << 20,
    SEGMENTS_PER_LIMIT =
        512, /* at least; a pause lasts about half a microsecond longer for each, */
    SEGMENT_BYTES_MANY = 8 << 20, /* so from segments of so many bytes on only */
    SEGMENTS_WHEN_LARGE = 256,
    BLOCK_BYTES = 4096, /* the collector's: a large object takes whole ones */
    CHUNK_MIN = 2 << 10,
    CHUNK_MAX = 32 << 10,
    CHUNKS_PER_SEGMENT = 32,
    ALONE_SHARE = 16, /* of a chunk: what sizes that vary leave of it is half as much, lost */
    ENTRIES_PER_SEGMENT = 5, /* for huge values */
    ENTRIES_MIN = 64,
    BATCH_SHARE_AT_START = 50,
    SEGMENTS_PER_CLASS = 48, /* a class more for so many segments: an open segment is half empty */
    REFUSALS_MAX = 3,
    TTL_SHORTEST_LOG2 = 4, /* up to 32 s share the first class */
};

/* ---- what follows from the limit ---- */

static uint64_t segment_bytes_for(uint64_t limit) {
    uint64_t bytes = SEGMENT_BYTES_MIN;
    while (bytes < SEGMENT_BYTES_MAX &&
           bytes < limit / (bytes < SEGMENT_BYTES_MANY ? SEGMENTS_PER_LIMIT : SEGMENTS_WHEN_LARGE))
        bytes *= 2;
    return bytes;
}

static uint32_t chunk_bytes_for(uint64_t bytes) {
    uint64_t chunk = bytes / CHUNKS_PER_SEGMENT;
    return (uint32_t)(chunk < CHUNK_MIN ? CHUNK_MIN : chunk > CHUNK_MAX ? CHUNK_MAX : chunk);
}

struct shape shape_for(uint64_t limit) {
    uint64_t bytes = segment_bytes_for(limit), segments = limit / bytes;
    uint64_t most = segments * ENTRIES_PER_SEGMENT + ENTRIES_MIN;
    uint64_t numbers = ((uint64_t)RECORD_ALIGN << SLOT_PLACE_MAX) / bytes;
    uint64_t classes = segments / SEGMENTS_PER_CLASS + 1;
    return (struct shape){
        .segment_bytes = (uint32_t)bytes,
        .chunk_bytes = chunk_bytes_for(bytes),
        .huge_from = (uint32_t)(bytes / 4),
        .segments_most = (uint32_t)(most < numbers ? most : numbers),
        .ttl_classes = (uint32_t)(classes < TTL_CLASSES ? classes : TTL_CLASSES),
    };
}

/* Between the limits that have the smallest segments and those that have the largest all have
 * about as many. */
static uint32_t segments_max_for(uint64_t limit_most) {
    uint64_t small = (uint64_t)SEGMENT_BYTES_MIN * SEGMENTS_PER_LIMIT;
    uint32_t of_small = shape_for(limit_most < small ? limit_most : small).segments_most;
    uint32_t of_large = shape_for(limit_most).segments_most;
    return of_small > of_large ? of_small : of_large;
}

static bool entries_add(struct store *store, uint32_t page) {
    size_t bytes = sizeof(struct segment_entry) << ENTRY_PAGE_SHIFT;
    struct segment_entry *entries = ebb_try_sized(&ebb_type_segment_table, bytes);
    if (entries == NULL)
        return false;
    memset(entries, 0, bytes);
    store->index_bytes += bytes;
    atomic_store_explicit(&store->entries[page], entries, memory_order_release);
    return true;
}

void segments_start(struct store *store) {
    uint32_t count = segments_max_for(store->config.limit_most);
    uint32_t pages = (count >> ENTRY_PAGE_SHIFT) + 1;
    size_t roots = count * sizeof *store->data, directory = pages * sizeof *store->entries;
    store->segments_max = count;
    store->data = ebb_new_sized(&ebb_type_segment_roots, roots);
    store->entries = ebb_new_sized(&ebb_type_segment_directory, directory);
    store->index_bytes += roots + directory;
    store->batch_bytes = store_limit(store) / BATCH_SHARE_AT_START;
    store->free_entries = SEGMENT_NONE;
    store->entries_ready = 1; /* 0 is never used: a slot of 0 is empty */
    ebb_assert(entries_add(store, 0), "no memory for the first segments");
    for (int pool = 0; pool < POOLS; pool++) {
        store->fifo[pool] = (struct fifo){SEGMENT_NONE, SEGMENT_NONE, 0};
        for (int class = 0; class < TTL_CLASSES; class ++)
            store->tail[pool][class] = SEGMENT_NONE;
    }
}

static void set(_Atomic uint32_t *at, uint32_t number) {
    atomic_store_explicit(at, number, memory_order_relaxed);
}

/* Of two sizes the entries' numbers must do for the larger: what was given out stays. Open segments
 * stay open, too, but for those whose class is none any more. */
void segments_shape(struct store *store, const struct shape *shape) {
    pthread_mutex_lock(&store->lock);
    set(&store->segment_capacity, shape->segment_bytes - OBJECT_SLACK);
    set(&store->chunk_bytes, shape->chunk_bytes);
    set(&store->huge_from, shape->huge_from);
    set(&store->ttl_classes, shape->ttl_classes);
    if (store->segments_most < shape->segments_most)
        store->segments_most = shape->segments_most;
    if (store->segment_bytes_most < shape->segment_bytes)
        store->segment_bytes_most = shape->segment_bytes;
    for (int pool = 0; pool < POOLS; pool++)
        for (uint32_t class = shape->ttl_classes; class < TTL_CLASSES; class ++)
            if (store->tail[pool][class] != SEGMENT_NONE)
                segment_seal(store, store->tail[pool][class]);
    pthread_mutex_unlock(&store->lock);
}

/* ---- counting ---- */

uint32_t segment_ttl_class(const struct store *store, uint32_t expires, uint32_t now) {
    uint32_t classes = atomic_load_explicit(&store->ttl_classes, memory_order_relaxed);
    if (expires == 0 || classes == 1)
        return 0;
    uint32_t ttl = expires > now ? expires - now : 1;
    int log2 = 31 - __builtin_clz(ttl) - TTL_SHORTEST_LOG2;
    uint32_t fine = log2 < 0 ? 0 : log2 > TTL_CLASSES - 2 ? TTL_CLASSES - 2 : (uint32_t)log2;
    return 1 + fine * (classes - 1) / (TTL_CLASSES - 1);
}

uint64_t segment_bytes_live(const struct store *store) {
    return store->fifo[PROBATION].bytes + store->fifo[MAIN].bytes;
}

uint64_t segment_bytes_live_now(struct store *store) {
    pthread_mutex_lock(&store->lock);
    uint64_t live = segment_bytes_live(store);
    pthread_mutex_unlock(&store->lock);
    return live;
}

uint64_t segment_bytes_held(const struct store *store) {
    static const struct ebb_type *const types[] = {
        &ebb_type_segment,       &ebb_type_segment_roots,   &ebb_type_segment_directory,
        &ebb_type_segment_table, &ebb_type_index_directory, &ebb_type_index_page,
        &ebb_type_ghost_page,    &ebb_type_ghost_directory,
    };
    uint64_t index = atomic_load(&store->index_bytes), bytes = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        bytes += ebb_type_bytes_held(types[i]);
    return bytes - index;
}

uint64_t segment_budget(const struct store *store) {
    uint64_t limit = store_limit(store), index = atomic_load(&store->index_bytes);
    return limit > index ? limit - index : 0;
}

uint32_t segment_record_size(const struct segment_entry *entry, uint64_t header) {
    if (header_key_length(header) == 0)
        return header_value_length(header) * RECORD_ALIGN;
    return entry->huge ? entry->capacity
                       : record_size(header_wide(header), header_key_length(header),
                                     header_value_length(header));
}

void segment_live_add(struct segment_entry *entry, uint32_t bytes) {
    atomic_fetch_add_explicit(&entry->live_bytes, bytes, memory_order_relaxed);
}

void segment_live_remove(struct segment_entry *entry, uint32_t bytes) {
    atomic_fetch_sub_explicit(&entry->live_bytes, bytes, memory_order_relaxed);
}

void segment_expires_raise(struct segment_entry *entry, uint32_t expires) {
    uint32_t wanted = expires == 0 ? UINT32_MAX : expires;
    if (wanted <= entry->born)
        wanted = entry->born + 1; /* as record.c keeps it */
    uint32_t last = atomic_load_explicit(&entry->expires_last, memory_order_relaxed);
    while (last < wanted && !atomic_compare_exchange_weak(&entry->expires_last, &last, wanted))
        continue;
}

void segment_slot_gone(struct store *store, uint64_t slot) {
    struct target target = slot_target(store, slot);
    uint64_t header = atomic_load(&target.record->header);
    segment_live_remove(target.entry, segment_record_size(target.entry, header));
}

/* ---- under store->lock ---- */

static void fifo_append(struct store *store, uint32_t segment) {
    struct segment_entry *entry = segment_at(store, segment);
    struct fifo *fifo = &store->fifo[entry->pool];
    entry->next = SEGMENT_NONE;
    entry->previous = fifo->last;
    if (fifo->last != SEGMENT_NONE)
        segment_at(store, fifo->last)->next = segment;
    else
        fifo->first = segment;
    fifo->last = segment;
    fifo->bytes += entry->capacity;
}

static void fifo_remove(struct store *store, uint32_t segment) {
    struct segment_entry *entry = segment_at(store, segment);
    struct fifo *fifo = &store->fifo[entry->pool];
    if (entry->previous != SEGMENT_NONE)
        segment_at(store, entry->previous)->next = entry->next;
    else
        fifo->first = entry->next;
    if (entry->next != SEGMENT_NONE)
        segment_at(store, entry->next)->previous = entry->previous;
    else
        fifo->last = entry->previous;
    fifo->bytes -= entry->capacity;
}

/* The first of the free list, after one that was never used when it is empty. False: there is none.
 */
static bool entry_ready(struct store *store) {
    if (store->free_entries != SEGMENT_NONE)
        return true;
    uint32_t fresh = store->entries_ready, page = fresh >> ENTRY_PAGE_SHIFT;
    if (!segment_entry_free(store))
        return false;
    if (atomic_load_explicit(&store->entries[page], memory_order_relaxed) == NULL &&
        !entries_add(store, page))
        return false;
    segment_at(store, fresh)->next = SEGMENT_NONE;
    store->free_entries = fresh;
    atomic_store_explicit(&store->entries_ready, fresh + 1, memory_order_release);
    return true;
}

static uint32_t segment_new(struct store *store, uint32_t capacity, bool huge, enum pool pool,
                            uint32_t class, uint32_t now) {
    char *data = entry_ready(store) ? ebb_try_sized(&ebb_type_segment, capacity) : NULL;
    if (data == NULL)
        return SEGMENT_NONE;
    uint32_t segment = store->free_entries;
    struct segment_entry *entry = segment_at(store, segment);
    store->free_entries = entry->next;
    entry->huge = huge;
    entry->pool = (uint8_t)pool;
    entry->ttl_class = (uint8_t) class;
    entry->capacity = capacity;
    entry->value_length = 0;
    entry->flushed = false;
    attributes_start(store, entry, now);
    atomic_store_explicit(&entry->used, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->live_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&entry->expires_last, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&entry->generation, 1, memory_order_relaxed);
    atomic_store_explicit(&store->data[segment], data, memory_order_release);
    atomic_store_explicit(&entry->state, huge ? SEGMENT_SEALED : SEGMENT_OPEN,
                          memory_order_seq_cst);
    fifo_append(store, segment);
    if (huge)
        atomic_fetch_add_explicit(&store->huge, 1, memory_order_relaxed);
    uint64_t held = segment_bytes_held(store), budget = segment_budget(store);
    ebb_free_blocks_bound(budget > held ? budget - held : 0);
    return segment;
}

void segment_drop(struct store *store, uint32_t segment) {
    struct segment_entry *entry = segment_at(store, segment);
    ebb_assert(atomic_load(&entry->state) == SEGMENT_LEAVING, "segment %u, state %d", segment,
               entry->state);
    fifo_remove(store, segment);
    if (entry->huge)
        atomic_fetch_sub_explicit(&store->huge, 1, memory_order_relaxed);
    atomic_store_explicit(&store->data[segment], NULL, memory_order_release);
    atomic_store_explicit(&entry->state, SEGMENT_FREE, memory_order_seq_cst);
    entry->next = store->free_entries;
    store->free_entries = segment;
}

void segment_requeue(struct store *store, uint32_t segment) {
    struct segment_entry *entry = segment_at(store, segment);
    fifo_remove(store, segment);
    entry->pool = MAIN;
    fifo_append(store, segment);
    atomic_store_explicit(&entry->state, SEGMENT_SEALED, memory_order_seq_cst);
}

void segment_seal(struct store *store, uint32_t segment) {
    struct segment_entry *entry = segment_at(store, segment);
    if (store->tail[entry->pool][entry->ttl_class] == segment)
        store->tail[entry->pool][entry->ttl_class] = SEGMENT_NONE;
    uint8_t open = SEGMENT_OPEN;
    atomic_compare_exchange_strong(&entry->state, &open, SEGMENT_SEALED);
}

static void filler_write(char *data, uint32_t at, uint32_t end) {
    if (at < end)
        atomic_store_explicit(&((struct record *)(data + at))->header, filler_make(end - at),
                              memory_order_release);
}

static struct chunk carve_from(struct store *store, uint32_t tail, uint32_t wanted) {
    struct segment_entry *entry = segment_at(store, tail);
    uint32_t used = atomic_load_explicit(&entry->used, memory_order_relaxed);
    uint32_t reservation = entry->capacity - used,
             bytes = wanted < reservation ? wanted : reservation;
    char *data = segment_data(store, tail);
    filler_write(data, used, used + bytes);
    atomic_store_explicit(&entry->used, used + bytes, memory_order_release);
    return (struct chunk){tail, atomic_load(&entry->generation), used, used + bytes};
}

/* ---- without locks ---- */

/* One piece of the tail: what is wanted, at least `least`. survivor: allocate without evicting. */
struct carving {
    enum pool pool;
    uint32_t class, least, wanted, now;
    bool survivor;
};

/* After a segment of `bytes` could not be had: makes room. refused: by the system, the budget had
 * room for it. What is evicted then is collected when the system refuses once more, and need not be
 * where it helps; so it is tried a few times only. False: no memory. */
static bool make_room(struct store *store, uint32_t bytes, bool refused, int *refusals,
                      uint32_t now) {
    if (!refused)
        return evict_for(store, bytes, now);
    return ++*refusals <= REFUSALS_MAX && evict_instead(store, bytes, now);
}

/* In whole blocks, as it takes them. */
static uint32_t own_capacity(uint32_t size) {
    return ((size + OBJECT_SLACK + BLOCK_BYTES - 1) & ~(uint32_t)(BLOCK_BYTES - 1)) - OBJECT_SLACK;
}

/* A record that was longer than a quarter of a segment when it asked may be longer than a whole one
 * by now: the limit was lowered. */
static uint32_t capacity_for(const struct store *store, uint32_t least) {
    uint32_t capacity = segment_bytes(store);
    return least <= capacity ? capacity : own_capacity(least);
}

static bool has_left(const struct store *store, uint32_t segment, uint32_t least) {
    const struct segment_entry *entry = segment_at(store, segment);
    return entry->capacity - atomic_load_explicit(&entry->used, memory_order_relaxed) >= least;
}

/* NULL: no memory. */
static char *carve(struct store *store, const struct carving *want, struct chunk *chunk) {
    int refusals = 0;
    for (;;) {
        bool refused = false;
        pthread_mutex_lock(&store->lock);
        uint32_t *tail = &store->tail[want->pool][want->class];
        uint32_t capacity = capacity_for(store, want->least);
        if (*tail != SEGMENT_NONE && !has_left(store, *tail, want->least))
            segment_seal(store, *tail);
        bool fresh = *tail == SEGMENT_NONE;
        if (fresh && (want->survivor || evict_has_room(store, capacity))) {
            *tail = segment_new(store, capacity, false, want->pool, want->class, want->now);
            refused = *tail == SEGMENT_NONE;
        }
        char *data = *tail != SEGMENT_NONE ? segment_data(store, *tail) : NULL;
        if (data)
            *chunk = carve_from(store, *tail, want->wanted);
        pthread_mutex_unlock(&store->lock);
        if (data && fresh && !want->survivor)
            ebb_charge(capacity);
        if (data && !want->survivor)
            evict_ahead(store, chunk->end - chunk->at, fresh, want->now);
        if (data)
            return data;
        if (want->survivor || !make_room(store, capacity, refused, &refusals, want->now))
            return NULL;
    }
}

/* As carve, in a segment of its own. */
static char *carve_huge(struct store *store, const struct carving *want, uint64_t value_length,
                        struct chunk *chunk) {
    uint32_t size = want->least;
    int refusals = 0;
    for (;;) {
        bool refused = false;
        pthread_mutex_lock(&store->lock);
        uint32_t segment = SEGMENT_NONE;
        char *data = NULL;
        if (want->survivor || evict_has_room(store, size)) {
            segment = segment_new(store, size, true, want->pool, 0, want->now);
            refused = segment == SEGMENT_NONE;
        }
        if (segment != SEGMENT_NONE) {
            segment_at(store, segment)->value_length = (uint32_t)value_length;
            data = segment_data(store, segment);
            *chunk = carve_from(store, segment, size);
        }
        pthread_mutex_unlock(&store->lock);
        if (data && !want->survivor)
            ebb_charge(size);
        if (data)
            return data;
        if (want->survivor || !make_room(store, size, refused, &refusals, want->now))
            return NULL;
    }
}

static void take(char *data, struct segment_entry *entry, struct chunk *chunk, uint32_t size,
                 struct store_reservation *reservation) {
    reservation->segment = data;
    reservation->entry = entry;
    reservation->record = data + chunk->at;
    reservation->segment_id = chunk->segment;
    reservation->segment_generation = chunk->generation;
    reservation->size = size;
    reservation->offset = chunk->at;
    chunk->at += size;
    filler_write(data, chunk->at, chunk->end);
}

static bool reserve_in(struct store_worker *worker, const struct carving *want,
                       struct store_reservation *reservation) {
    struct store *store = worker->store;
    struct chunk *chunk = &worker->chunk[want->pool][want->class], own;
    uint32_t size = want->least;
    char *data = segment_data(store, chunk->segment); /* before the look at the generation: so it is
                                                         that one's, or is not used */
    struct segment_entry *entry = segment_at(store, chunk->segment);
    if (!segment_alive(entry, chunk->generation))
        *chunk = (struct chunk){0};
    if (chunk->end - chunk->at >= size) {
        take(data, entry, chunk, size, reservation);
        return true;
    }
    uint32_t wanted = atomic_load_explicit(&store->chunk_bytes, memory_order_relaxed);
    bool alone = size > wanted / ALONE_SHARE; /* the remainder is for small ones */
    struct carving more = *want;
    more.wanted = alone ? size : wanted / size * size; /* records of a size leave none */
    if (alone)
        chunk = &own;
    data = carve(store, &more, chunk);
    if (data)
        take(data, segment_at(store, chunk->segment), chunk, size, reservation);
    return data != NULL;
}

static bool reserve_huge(struct store *store, const struct carving *want, uint64_t value_length,
                         struct store_reservation *reservation) {
    struct chunk own;
    struct carving whole = *want;
    whole.least = own_capacity(want->least);
    char *data = carve_huge(store, &whole, value_length, &own);
    if (data)
        take(data, segment_at(store, own.segment), &own, whole.least, reservation);
    return data != NULL;
}

enum store_verdict segment_reserve(struct store_worker *worker, enum pool pool, uint32_t expires,
                                   uint32_t size, bool huge, uint64_t value_length, uint32_t now,
                                   struct store_reservation *reservation) {
    struct store *store = worker->store;
    struct carving want = {.pool = pool, .least = size, .now = now};
    bool there;
    if (huge) {
        there = reserve_huge(store, &want, value_length, reservation);
    } else {
        want.class = segment_ttl_class(store, expires, now);
        there = reserve_in(worker, &want, reservation);
    }
    return there ? STORE_STORED : STORE_NO_MEMORY;
}

bool segment_reserve_survivor(struct store *store, enum pool pool, uint32_t expires, uint32_t size,
                              uint64_t value_length, uint32_t now,
                              struct store_reservation *reservation) {
    struct carving want = {.pool = pool, .least = size, .now = now, .survivor = true};
    if (segment_is_huge(store, size)) /* where segments were larger it was not */
        return reserve_huge(store, &want, value_length, reservation);
    want.class = segment_ttl_class(store, expires, now);
    return reserve_in(store->evictor, &want, reservation);
}

void segment_unreserve(struct store_worker *worker, struct store_reservation *reservation) {
    struct segment_entry *entry = reservation->entry;
    if (!segment_alive(entry, reservation->segment_generation)) {
        atomic_store_explicit(&worker->store->room_let_go, true, memory_order_relaxed);
        return;
    }
    /* Loaded by name: gcc reads an atomic that is a subscript as if it were none. */
    uint8_t pool = atomic_load_explicit(&entry->pool, memory_order_relaxed);
    uint8_t class = atomic_load_explicit(&entry->ttl_class, memory_order_relaxed);
    struct chunk *chunk = &worker->chunk[pool][class];
    uint32_t nothing = 0; /* unless it left by now, and what has its place was published */
    if (entry->huge)      /* evict_expired may have it */
        atomic_compare_exchange_strong(&entry->expires_last, &nothing, 1);
    if (chunk->segment == reservation->segment_id &&
        chunk->generation == reservation->segment_generation &&
        chunk->at == reservation->offset + reservation->size) {
        chunk->at = reservation->offset;
        filler_write(reservation->segment, chunk->at, chunk->end);
        /* A walk that starts after our next look at the segment's state must not see the record any
         * more. */
        atomic_thread_fence(memory_order_seq_cst);
    }
}

uint32_t segment_find_larger(struct store *store, uint64_t most) {
    uint32_t larger = SEGMENT_NONE;
    if (most < segment_bytes(store))
        most = segment_bytes(store);
    pthread_mutex_lock(&store->lock);
    for (int pool = 0; pool < POOLS; pool++)
        for (uint32_t at = store->fifo[pool].first; at != SEGMENT_NONE && larger == SEGMENT_NONE;
             at = segment_at(store, at)->next)
            if (!segment_at(store, at)->huge && segment_at(store, at)->capacity > most)
                larger = at;
    pthread_mutex_unlock(&store->lock);
    return larger;
}
