/* store -- find, update, commit.
 *
 * The problem: a cache that reads without locks needs to know when the last reader has left before
 * memory is used again. Here the collector knows. Items lie in large pointer-free segments
 * (segment.c); an index of cache-line buckets points into them (index.c); when room is needed whole
 * segments leave (evict.c).
 *
 * 1. A published record's key, lengths and place never change; expiry, flags, cas, and values up to
 * STORE_COPY_MAX may, under the bucket's lock, which changes the bucket's version.
 * 2. A key has at most one slot; it is in the bucket of its hash. A slot points to a whole record
 * of a segment that is not free.
 * 3. Every change of an item gives it a cas that no version of any item had before (explicit ones
 * excepted).
 * 4. An expired item is a miss from its second on; its reservation is used again when its segment
 * leaves or its key is set.
 * 5. live_bytes of a segment is the sum of the records that slots point to.
 *
 * 6. The only races meant to be: bytes of a value that is changed in place while a reader copies it
 * (store_still refuses the copy). All else that threads share is atomic or under a lock, so
 * ThreadSanitizer (tests/race) is asked to forgive that one copy only.
 *
 * last_access is kept in 24 bits and taken as the latest moment not after now: right for 194 days.
 * Threads take the time once a turn, so one that lags may see an access that is still to come: of
 * the next minute it is taken as one of now.
 */
#include "store/internal.h"
#include <string.h>

#define EBB_TYPE EBB_TYPE_DEFINE
#include "tbl/store_types.def"

enum {
    OVERWRITE_MAX = 1024, /* bytes; at most STORE_COPY_MAX */
    RESIZE_EVERY = 16,    /* inserts between two looks at the index's load */
    RESIZE_STEPS = 8,
    CAS_MARGIN = 1 << 20, /* changes that others may make meanwhile */
    TICK_STEPS = 1024,
    LET_GO_SECONDS = 5, /* between two looks for what was let go of */
    LIMIT_LEAST = 1 << 20,
    LAG_MOST = 60, /* seconds */
    MEMCACHED_ITEM_HEADER =
        48 + 8 + 1 + 2, /* what memcached counts besides key and value: header, cas, NUL, CRLF */
};

static struct store_worker *worker_new(struct store *store) {
    struct store_worker *worker = ebb_new(store_worker);
    worker->store = store;
    return worker;
}

struct store *store_new(const struct store_config *config) {
    static struct ebb_type *const types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "tbl/store_types.def"
    };
    ebb_types_add(types, sizeof types / sizeof *types);
    struct store *store = ebb_new(store);
    store->config = *config;
    if (store->config.limit_bytes < LIMIT_LEAST)
        store->config.limit_bytes = LIMIT_LEAST;
    if (store->config.limit_most < store->config.limit_bytes)
        store->config.limit_most = store->config.limit_bytes;
    store->limit_asked = store->config.limit_bytes;
    store->seed = ebb_hash_seed();
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->evict_lock, NULL);
    pthread_mutex_init(&store->limit_lock, NULL);
    struct shape shape = shape_for(store_limit(store));
    segments_start(store);
    reshape_start(store, &shape);
    segments_shape(store, &shape);
    ghost_start(store);
    store->workers =
        ebb_new_sized(&ebb_type_index_directory, (size_t)config->workers * sizeof *store->workers);
    store->index_bytes += (size_t)config->workers * sizeof *store->workers;
    for (int i = 0; i < config->workers; i++)
        store->workers[i] = worker_new(store);
    store->evictor = worker_new(store);
    return store;
}

struct store_worker *store_worker_at(struct store *store, int index) {
    return store->workers[index];
}

static void worker_close(struct store_worker *worker) {
    memset(worker->chunk, 0, sizeof worker->chunk);
    ebb_done(worker);
}

void store_close(struct store *store) {
    if (store == NULL)
        return;
    for (int i = 0; i < store->config.workers; i++)
        worker_close(store->workers[i]);
    worker_close(store->evictor);
    /* Roots are cleared, so that whoever still sees the store by accident does not hold what it
     * held. */
    memset((void *)store->data, 0, store->segments_max * sizeof *store->data);
    const struct index *index = store->index;
    memset((void *)index->pages, 0, index->directory_size * sizeof *index->pages);
    memset((void *)index->overflow, 0, index->directory_size * sizeof *index->overflow);
    const struct ghost *ghost = store->ghost;
    memset((void *)ghost->pages, 0, ghost->directory_size * sizeof *ghost->pages);
    uint64_t bytes = segment_bytes_live(store) + store->index_bytes;
    ebb_done(store);
    ebb_dropped(bytes);
}

uint64_t store_items(const struct store *store) {
    int64_t items = atomic_load_explicit(&store->items_other, memory_order_relaxed);
    for (int i = 0; i < store->config.workers; i++)
        items += atomic_load_explicit(&store->workers[i]->items, memory_order_relaxed);
    return items > 0 ? (uint64_t)items : 0;
}

/* A counter that only this thread writes. */
static void items_add(struct store_worker *worker, int64_t add) {
    atomic_store_explicit(&worker->items,
                          atomic_load_explicit(&worker->items, memory_order_relaxed) + add,
                          memory_order_relaxed);
}

static void own_add(_Atomic uint64_t *counter, uint64_t add) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add,
                          memory_order_relaxed);
}

static void flush_when_due(struct store *store, uint32_t now) {
    uint32_t at = atomic_load_explicit(&store->flush_at, memory_order_relaxed);
    if (__builtin_expect(at != 0 && at <= now, 0))
        flush_begin(store, at);
}

void store_view(const struct target *target, uint64_t slot, uint32_t now, struct store_item *item) {
    const struct record *record = target->record;
    const struct segment_entry *entry = target->entry;
    uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed);
    struct attributes attributes = attributes_read(entry, record, header);
    item->value = record_key(record, header) + header_key_length(header);
    item->value_length = slot & SLOT_HUGE ? entry->value_length : header_value_length(header);
    item->client_flags = attributes.client_flags;
    item->expires = attributes.expires;
    uint32_t since = (now - (uint32_t)(header >> LEAD_ACCESS_SHIFT)) & LEAD_24_BITS;
    item->last_access = since > LEAD_24_BITS - LAG_MOST ? now : now - since;
    item->item_flags = header_item_flags(header);
    item->cas = attributes.cas;
    item->pin = target->data;
}

/* ---- find ---- */

static bool drop_expired(struct store_worker *worker, struct ebb_span key, uint64_t hash,
                         uint32_t now);

bool store_find(struct store_worker *worker, struct ebb_span key, uint32_t now,
                struct store_read *read) {
    struct store *store = worker->store;
    flush_when_due(store, now);
    own_add(&worker->lookups, 1);
    uint64_t hash = store_hash(store, key);
    for (;;) {
        struct found found;
        if (!index_lookup(store, key, hash, &found))
            return false;
        store_view(&found.target, found.slot, now, &read->item);
        read->bucket = found.bucket;
        read->version = found.version;
        read->slot = found.slot;
        read->head = found.slot_at.head;
        read->record = found.target.record;
        read->now = now;
        read->worker = worker;
        /* A huge value's length stands in the segment's entry: right only if the slot still is. */
        if ((read->slot & SLOT_HUGE) && !store_still(read))
            continue;
        if (!is_expired(read->item.expires, now))
            return true;
        if (drop_expired(worker, key, hash, now))
            return false; /* else somebody has just given it a new expiry */
    }
}

bool store_still(const struct store_read *read) {
    const struct bucket *bucket = read->bucket;
    ebb_keep(read->item.pin); /* until here, who copied worked inside */
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&bucket->version, memory_order_relaxed) == read->version;
}

static void record_accessed(struct record *record, uint8_t mark, uint32_t now) {
    uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed);
    uint64_t wanted = header | (uint64_t)mark << LEAD_MARKS_SHIFT;
    wanted = (wanted & (((uint64_t)1 << LEAD_ACCESS_SHIFT) - 1)) | (uint64_t)(now & LEAD_24_BITS)
                                                                       << LEAD_ACCESS_SHIFT;
    if (wanted != header) /* a lost race is as good: the other one wrote the same second */
        atomic_compare_exchange_weak_explicit(&record->header, &header, wanted,
                                              memory_order_relaxed, memory_order_relaxed);
}

static void slot_used(struct store_worker *worker, _Atomic uint16_t *head, uint64_t slot) {
    if (slot & SLOT_MAIN)
        own_add(&worker->main_hits, 1);
    if ((slot & SLOT_FREQ_ALL) == SLOT_FREQ_ALL)
        return;
    uint16_t old = (uint16_t)(slot >> SLOT_TAIL_BITS);
    atomic_compare_exchange_weak_explicit(head, &old,
                                          old + (uint16_t)(SLOT_FREQ_ONE >> SLOT_TAIL_BITS),
                                          memory_order_relaxed, memory_order_relaxed);
}

void store_touched(const struct store_read *read) {
    record_accessed(read->record, STORE_FETCHED, read->now);
    ebb_keep(read->item.pin);
    slot_used(read->worker, (_Atomic uint16_t *)(uintptr_t)read->head, read->slot);
}

static uint64_t cas_next(struct store *store, uint64_t old) {
    uint64_t fresh = atomic_fetch_add_explicit(&store->cas, 1, memory_order_relaxed) + 1;
    return fresh > old || old == UINT64_MAX ? fresh : old + 1;
}

static void unlink_slot(struct store_worker *worker, struct bucket *bucket,
                        struct slot_ref slot_at) {
    struct store *store = worker->store;
    uint64_t slot = slot_load(slot_at);
    index_remove(store, bucket, slot_at);
    segment_slot_gone(store, slot);
    items_add(worker, -1);
}

/* Under the lock: the key's slot if its item lives, and where it leads to. An expired one is
 * unlinked. */
static struct slot_ref find_living(struct store_worker *worker, struct bucket *bucket,
                                   struct ebb_span key, uint64_t hash, uint32_t now,
                                   struct target *target, struct store_item *item) {
    struct store *store = worker->store;
    struct slot_ref slot_at = index_find(store, bucket, key, hash);
    if (slot_at.head == NULL)
        return slot_at;
    uint64_t slot = slot_load(slot_at);
    *target = slot_target(store, slot);
    store_view(target, slot, now, item);
    if (!is_expired(item->expires, now))
        return slot_at;
    if (!atomic_load(&target->entry->flushed))
        own_add(&worker->expired_lookups, 1);
    unlink_slot(worker, bucket, slot_at);
    return (struct slot_ref){NULL, NULL};
}

/* Who comes for an expired item takes it away, so it is counted once. False: it lives. */
static bool drop_expired(struct store_worker *worker, struct ebb_span key, uint64_t hash,
                         uint32_t now) {
    struct store_item item;
    struct target target;
    struct bucket *bucket = index_lock(worker->store, hash);
    bool lives = find_living(worker, bucket, key, hash, now, &target, &item).head != NULL;
    index_unlock(bucket);
    return !lives;
}

/* The record is wide, or narrow and will hold what the update may make of it. */
static void update_apply(struct store_worker *worker, struct slot_ref slot_at,
                         const struct target *target, const struct store_update *update,
                         uint32_t now) {
    struct store *store = worker->store;
    struct segment_entry *entry = target->entry;
    struct record *record = target->record;
    struct attributes attributes = {update->item.client_flags, update->expires,
                                    update->cas ? update->cas : cas_next(store, update->item.cas)};
    attributes_write(entry, record, header_wide(atomic_load(&record->header)), &attributes);
    if (update->expires != update->item.expires)
        segment_expires_raise(entry, update->expires);
    if (update->item_flags != update->item.item_flags) {
        uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed), wanted;
        do {
            wanted = (header & ~((uint64_t)LEAD_MARKS << LEAD_MARKS_SHIFT)) |
                     (uint64_t)update->item_flags << LEAD_MARKS_SHIFT;
        } while (!atomic_compare_exchange_weak(&record->header, &header, wanted));
    }
    if (update->cas_told)
        *update->cas_told = attributes.cas;
    if (update->accessed || update->changed) {
        record_accessed(record, update->accessed ? STORE_FETCHED : 0, now);
        slot_used(worker, slot_at.head, slot_load(slot_at));
    }
}

/* ---- reservations ---- */

/* A new version keeps the pool of the old one; a key that left a short while ago goes to main at
 * once. Until the cache is full probation does not grow beyond its share either. */
static enum pool pool_for(struct store *store, struct ebb_span key, uint64_t hash) {
    struct found found;
    if (index_lookup(store, key, hash, &found))
        return found.slot & SLOT_MAIN ? MAIN : PROBATION;
    if (!atomic_load_explicit(&store->has_evicted, memory_order_relaxed))
        return evict_probation_full(store) ? MAIN : PROBATION;
    return ghost_take(store, hash) ? MAIN : PROBATION;
}

/* room->wide says which header. */
static enum store_verdict reservation_make(struct store_worker *worker, struct ebb_span key,
                                           uint64_t hash, size_t value_length, uint32_t expires,
                                           uint32_t now, struct store_reservation *reservation) {
    bool huge =
        segment_is_huge(worker->store, record_size(false, (uint32_t)key.length, value_length));
    reservation->wide = reservation->wide || huge;
    uint32_t size = record_size(reservation->wide, (uint32_t)key.length, value_length);
    enum store_verdict verdict =
        segment_reserve(worker, pool_for(worker->store, key, hash), expires, size, huge,
                        value_length, now, reservation);
    if (verdict != STORE_STORED) {
        reservation->record = NULL;
        return verdict;
    }
    struct record *record = reservation->record;
    uint64_t header = header_make((uint32_t)key.length, 0, reservation->wide,
                                  huge ? RECORD_HUGE : (uint32_t)value_length, now);
    memcpy(record_key(record, header), key.at, key.length);
    reservation->value = record_key(record, header) + key.length;
    reservation->value_length = value_length;
    reservation->key_length = (uint8_t)key.length;
    reservation->hash = hash;
    atomic_store_explicit(&record->header, header, memory_order_release);
    return STORE_STORED;
}

/* ---- update ---- */

/* Whether an update can keep its cas and expiry in the header that there is. */
static bool update_fits(const struct store *store, const struct target *target, uint64_t cas,
                        struct store_may may) {
    if (header_wide(atomic_load_explicit(&target->record->header, memory_order_relaxed)))
        return true;
    uint64_t latest = atomic_load_explicit(&store->cas, memory_order_relaxed);
    struct attributes later = {0, may.expires, (cas > latest ? cas : latest) + CAS_MARGIN};
    struct attributes asked = {0, may.expires, may.cas};
    return attributes_fit(target->entry, &later) &&
           (may.cas == 0 || attributes_fit(target->entry, &asked));
}

/* Gives the key's item a wide header. False: there is no memory for that. */
static bool widen(struct store_worker *worker, struct ebb_span key, uint64_t hash, uint32_t now) {
    struct store *store = worker->store;
    struct store_read read;
    struct store_reservation reservation = {.wide = true};
    if (!store_find(worker, key, now, &read))
        return true;
    if (reservation_make(worker, key, hash, read.item.value_length, read.item.expires, now,
                         &reservation) != STORE_STORED)
        return false;
    struct bucket *bucket = index_lock(store, hash);
    struct slot_ref slot_at = index_find(store, bucket, key, hash);
    bool moved = false;
    if (slot_at.head && segment_alive(reservation.entry, reservation.segment_generation)) {
        uint64_t slot = slot_load(slot_at);
        struct target target = slot_target(store, slot);
        uint64_t header = atomic_load_explicit(&target.record->header, memory_order_relaxed);
        moved = segment_value_length(target.entry, header) == reservation.value_length &&
                record_move(store, slot_at, &reservation, slot & SLOT_FREQ_ALL);
    }
    index_unlock(bucket);
    if (!moved) /* somebody was faster; the caller looks again */
        segment_unreserve(worker, &reservation);
    return true;
}

static void update_there(struct store_worker *worker, struct bucket *bucket,
                         struct slot_ref slot_at, const struct target *target,
                         struct store_update *update, uint32_t now,
                         void (*update_fn)(struct store_update *, void *), void *context) {
    update->value =
        update->item.value_length <= STORE_COPY_MAX ? (char *)(uintptr_t)update->item.value : NULL;
    update->expires = update->item.expires;
    update->item_flags = update->item.item_flags;
    update->cas = update->item.cas;
    update_fn(update, context);
    if (update->remove)
        unlink_slot(worker, bucket, slot_at);
    else
        update_apply(worker, slot_at, target, update, now);
}

bool store_update_may(struct store_worker *worker, struct ebb_span key, uint32_t now,
                      struct store_may may, void (*update_fn)(struct store_update *, void *),
                      void *context) {
    struct store *store = worker->store;
    flush_when_due(store, now);
    uint64_t hash = store_hash(store, key);
    for (;;) {
        struct store_update update = {0};
        struct target target;
        struct bucket *bucket = index_lock(store, hash);
        struct slot_ref slot_at =
            find_living(worker, bucket, key, hash, now, &target, &update.item);
        bool fits = slot_at.head == NULL || update_fits(store, &target, update.item.cas, may);
        if (slot_at.head && fits)
            update_there(worker, bucket, slot_at, &target, &update, now, update_fn, context);
        index_unlock(bucket);
        if (fits)
            return slot_at.head != NULL;
        if (!widen(worker, key, hash, now))
            return false;
    }
}

/* ---- commit ---- */

static struct attributes attributes_of(const struct store_new *new) {
    return (struct attributes){new->client_flags, new->expires, new->cas};
}

static struct ebb_span reservation_key(const struct store_reservation *reservation) {
    return (struct ebb_span){reservation->value - reservation->key_length, reservation->key_length};
}

/* The room's segment left while it was being filled (the old bytes are still ours to read), or its
 * header is too narrow. False: no memory. */
static bool reservation_move(struct store_worker *worker, struct store_reservation *reservation,
                             bool wide, uint32_t expires, uint32_t now) {
    struct store_reservation fresh = {.wide = wide};
    struct ebb_span key = reservation_key(reservation);
    if (reservation_make(worker, key, reservation->hash, reservation->value_length, expires, now,
                         &fresh) != STORE_STORED)
        return false;
    memcpy(fresh.value, reservation->value, reservation->value_length);
    ebb_keep(reservation->segment);
    segment_unreserve(worker, reservation);
    *reservation = fresh;
    return true;
}

enum store_verdict store_reserve(struct store_worker *worker, struct ebb_span key,
                                 size_t value_length, const struct store_new *likely, uint32_t now,
                                 struct store_reservation *reservation) {
    struct store *store = worker->store;
    struct attributes attributes = attributes_of(likely);
    ebb_assert(key.length > 0 && key.length <= STORE_KEY_MAX, "key of %zu bytes", key.length);
    reservation->record = NULL;
    if (value_length + key.length + MEMCACHED_ITEM_HEADER > store->config.value_size_max)
        return STORE_TOO_LARGE;
    index_provision(store);
    reservation->wide = !attributes_likely_narrow(store, &attributes, now);
    return reservation_make(worker, key, store_hash(store, key), value_length, likely->expires, now,
                            reservation);
}

void store_abandon(struct store_worker *worker, struct store_reservation *reservation) {
    if (reservation->record == NULL)
        return;
    segment_unreserve(worker, reservation);
    *reservation = (struct store_reservation){0};
}

static void publish(struct store_worker *worker, struct store_reservation *reservation,
                    struct bucket *bucket, struct slot_ref slot_at, const struct store_new *new,
                    uint32_t now) {
    struct store *store = worker->store;
    struct record *record = reservation->record;
    struct segment_entry *entry = reservation->entry;
    uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed);
    struct attributes attributes = attributes_of(new);
    atomic_store_explicit(&record->header,
                          header_make(reservation->key_length, new->item_flags, reservation->wide,
                                      header_value_length(header), now),
                          memory_order_relaxed);
    attributes_write(entry, record, reservation->wide, &attributes);
    segment_expires_raise(entry, new->expires);
    segment_live_add(entry, reservation->size);
    uint64_t old = slot_at.head ? slot_load(slot_at) : 0;
    uint64_t slot = tag_of(store, reservation->hash) | segment_slot_bits(entry) |
                    (old & SLOT_FREQ_ALL) |
                    address_make(store, reservation->segment_id, reservation->offset);
    if (slot_at.head) {
        slot_store(slot_at, slot);
        segment_slot_gone(store, old);
    } else {
        index_put(store, bucket, slot);
        items_add(worker, 1);
    }
}

/* Invariant 6; a function of its own, so that tests/race can name it. */
static __attribute__((noinline)) void value_overwrite(const struct store_item *old,
                                                      const struct store_reservation *reservation) {
    memcpy((char *)(uintptr_t)old->value, reservation->value, reservation->value_length);
}

/* A small value of the same length and class of time to live is written over the old one: nothing
 * dies, nothing is copied later, and the reservation goes back. */
static bool overwrite(struct store *store, const struct target *target,
                      const struct store_reservation *reservation, const struct store_item *old,
                      const struct store_new *new, uint32_t now) {
    struct segment_entry *entry = target->entry;
    struct attributes attributes = attributes_of(new);
    struct record *record = target->record;
    bool wide = header_wide(atomic_load_explicit(&record->header, memory_order_relaxed));
    if ((!wide && !attributes_fit(entry, &attributes)) ||
        reservation->value_length != old->value_length ||
        reservation->value_length > OVERWRITE_MAX || entry->huge ||
        atomic_load(&entry->state) == SEGMENT_LEAVING ||
        entry->ttl_class != segment_ttl_class(store, new->expires, now))
        return false;
    value_overwrite(old, reservation);
    segment_expires_raise(entry, new->expires);
    attributes_write(entry, record, wide, &attributes);
    atomic_store(&record->header, header_make(reservation->key_length, new->item_flags, wide,
                                              (uint32_t)reservation->value_length, now));
    return true;
}

static void grow_now_and_then(struct store_worker *worker) {
    if (++worker->inserts < RESIZE_EVERY)
        return;
    worker->inserts = 0;
    index_resize(worker->store, store_items(worker->store), RESIZE_STEPS);
}

/* TRY_WIDER, TRY_ELSEWHERE: the reservation must move, to a wider header or only out of a segment
 * that left, and then from the start. */
enum tried { TRIED, TRIED_IN_PLACE, TRY_WIDER, TRY_ELSEWHERE };

/* Under the bucket's lock. */
static enum tried commit_there(struct store_worker *worker, struct store_reservation *reservation,
                               struct bucket *bucket, uint32_t now, struct store_new *new,
                               store_decide *decide, void *context, enum store_verdict *verdict) {
    struct store *store = worker->store;
    struct store_item old;
    struct target target;
    if (!segment_alive(reservation->entry, reservation->segment_generation))
        return TRY_ELSEWHERE;
    struct slot_ref slot_at = find_living(worker, bucket, reservation_key(reservation),
                                          reservation->hash, now, &target, &old);
    *verdict = decide ? decide(slot_at.head ? &old : NULL, new, context) : STORE_STORED;
    if (*verdict != STORE_STORED)
        return TRIED;
    if (new->cas == 0)
        new->cas = cas_next(store, slot_at.head ? old.cas : 0);
    if (slot_at.head && overwrite(store, &target, reservation, &old, new, now))
        return TRIED_IN_PLACE;
    struct attributes attributes = attributes_of(new);
    if (!reservation->wide && !attributes_fit(reservation->entry, &attributes))
        return TRY_WIDER;
    publish(worker, reservation, bucket, slot_at, new, now);
    return TRIED;
}

enum store_verdict store_commit(struct store_worker *worker, struct store_reservation *reservation,
                                uint32_t now, struct store_new *new, store_decide *decide,
                                void *context) {
    struct store *store = worker->store;
    ebb_assert(reservation->record != NULL, "commit of a room that was never reserved");
    flush_when_due(store, now);
    const struct store_new asked = *new;
    enum store_verdict verdict = STORE_NO_MEMORY;
    enum tried tried;
    for (;;) {
        struct bucket *bucket = index_lock(store, reservation->hash);
        tried = commit_there(worker, reservation, bucket, now, new, decide, context, &verdict);
        index_unlock(bucket);
        if (tried == TRIED || tried == TRIED_IN_PLACE)
            break;
        if (!reservation_move(worker, reservation, reservation->wide || tried == TRY_WIDER,
                              new->expires, now)) {
            store_abandon(worker, reservation);
            return STORE_NO_MEMORY;
        }
        *new = asked;
    }
    uint32_t size = reservation->size;
    if (verdict != STORE_STORED || tried == TRIED_IN_PLACE)
        store_abandon(worker, reservation);
    if (verdict != STORE_STORED)
        return verdict;
    own_add(&worker->items_total, 1);
    own_add(&worker->written_bytes, size);
    *reservation = (struct store_reservation){0};
    grow_now_and_then(worker);
    return verdict;
}

/* ---- the whole ---- */

void store_flush(struct store *store, uint32_t at, uint32_t now) {
    if (at > now) {
        atomic_store(&store->flush_at, at);
        return;
    }
    atomic_store(&store->flush_at, 0);
    flush_begin(store, 0);
}

uint64_t store_written_bytes(const struct store *store) {
    uint64_t bytes = 0;
    for (int i = 0; i < store->config.workers; i++)
        bytes += atomic_load_explicit(&store->workers[i]->written_bytes, memory_order_relaxed);
    return bytes;
}

/* Who evicts collects, but readers and reservations may hold what he dropped. When they let go of
 * it and nobody needs room any more, it would lie there for ever: so in quiet it is looked after.
 */
static void collect_let_go(struct store *store, uint32_t now) {
    if (now - store->quiet_since < LET_GO_SECONDS)
        return;
    uint64_t written = store_written_bytes(store), held = segment_bytes_held(store);
    bool quiet = written - store->quiet_written < store->batch_bytes;
    store->quiet_since = now;
    store->quiet_written = written;
    if (quiet && held > segment_bytes_live_now(store) + ebb_dropped_now() + segment_bytes(store))
        ebb_collect(EBB_CAUSE_idle);
}

bool store_tick(struct store *store, uint32_t now) {
    flush_when_due(store, now);
    collect_let_go(store, now);
    return flush_go_on(store) || evict_expired(store, now) ||
           index_resize(store, store_items(store), TICK_STEPS);
}

size_t store_limit_now(const struct store *store) {
    return store_limit(store);
}

bool store_give(struct store *store, size_t bytes, uint32_t now) {
    bool left = evict_instead(store, bytes, now);
    ebb_collect(EBB_CAUSE_memory);
    return left;
}

void store_stats_read(struct store *store, struct store_stats *stats) {
    const struct index *index = index_now(store);
    *stats = (struct store_stats){
        .items = store_items(store),
        .limit_bytes = atomic_load(&store->limit_asked),
        .evictions = atomic_load(&store->evictions),
        .evicted_unfetched = atomic_load(&store->evicted_unfetched),
        .expired_unfetched = atomic_load(&store->expired_unfetched),
        .reclaimed = atomic_load(&store->reclaimed),
        .index_bytes = atomic_load(&store->index_bytes),
        .buckets = atomic_load(&index->buckets),
        .overflow_buckets = atomic_load(&index->overflow_count),
        .huge = atomic_load(&store->huge),
        .copied_bytes = atomic_load(&store->copied_bytes),
        .cleaned_segments = atomic_load(&store->cleaned_segments),
        .ghost_hits = atomic_load(&store->ghost_hits),
        .written_bytes = store_written_bytes(store),
    };
    for (int i = 0; i < store->config.workers; i++) {
        stats->items_total +=
            atomic_load_explicit(&store->workers[i]->items_total, memory_order_relaxed);
        stats->expired_lookups +=
            atomic_load_explicit(&store->workers[i]->expired_lookups, memory_order_relaxed);
    }
    pthread_mutex_lock(&store->lock);
    for (int pool = 0; pool < POOLS; pool++)
        for (uint32_t at = store->fifo[pool].first; at != SEGMENT_NONE;
             at = segment_at(store, at)->next) {
            stats->segments++;
            const struct segment_entry *entry = segment_at(store, at);
            stats->bytes += atomic_load_explicit(&entry->live_bytes, memory_order_relaxed);
            uint32_t born = atomic_load_explicit(&entry->born, memory_order_relaxed);
            if (stats->oldest == 0 || born < stats->oldest)
                stats->oldest = born;
        }
    stats->segment_bytes = segment_bytes_live(store);
    stats->probation_bytes = store->fifo[PROBATION].bytes;
    pthread_mutex_unlock(&store->lock);
    uint64_t held = segment_bytes_held(store);
    stats->dropped_bytes = held > stats->segment_bytes ? held - stats->segment_bytes : 0;
}
