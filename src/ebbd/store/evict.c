/* evict -- which items leave when room is needed: S3-FIFO over whole segments.
 *
 * Dead data goes first: empty segments, wholly expired ones, then (by copying what lives) those
 * with many dead bytes: from 20%, or up to 40% where much is copied. Then, if probation holds more
 * than a tenth, its oldest segment: items that were read at least twice move to main, the others
 * leave and are remembered as ghosts. Else main's oldest: items that were read since last time
 * stay, their frequency one lower; the others leave. Survivors share one open main segment per
 * class. A hit counts the same whatever its size, and memory is what it costs: of items smaller
 * than the average fewer reads are asked, down to none, of larger ones more (reads_asked).
 *
 * A segment leaves in four steps: it is marked as leaving; its records are walked and each slot
 * that points into it is cleared or moved; its root is cleared; the
 * next collection has its memory. Readers and writers go on meanwhile. Whoever carves a chunk walks
 * some times as many bytes ahead, one thread at a time (evict_lock), so that the next segment finds
 * room and nobody waits for a whole walk.
 *
 * 1. Marking comes before walking, both sequentially consistent: a writer either sees the mark
 * under its bucket's lock and moves its record elsewhere, or the walk sees the record and finds the
 * slot.
 * 2. Live segments stay `batch` below the budget, so garbage can gather to a batch between two
 * collections: eviction costs one segment at a time, a collection comes once a batch. Survivors may
 * use the batch.
 * 3. A segment is allocated only while held + it <= budget. */
#include "store/internal.h"
#include <ebb/clock.h>
#include <ebb/probe.h>
#include <ebb/trace.h>
#include <string.h>

enum {
    BATCH_LEAST_SHARE = 100, /* 1% of the limit, */
    BATCH_MOST_SHARE = 25,   /* 4%: as collections cost little or much; */
    BATCH_UTMOST_SHARE = 6,
    BATCH_SEGMENTS_MIN = 2, /* survivors may need them */
    LARGE_SHARE = 16,       /* of the limit: too few such segments to choose among */
    COLLECT_PER_MILLE = 30, /* of the processor's time, that is what collections may take */
    AHEAD_SEGMENTS = 2,
    AHEAD_PACE = 4,  /* bytes walked for one that was carved */
    AHEAD_LEAST = 4, /* evict ahead only where so many times that live */
    PROBATION_SHARE = 10,
    PROMOTE_FREQ = 2,      /* reads in probation that lead to main, for a record near the mean; */
    STAY_FREQ = 1,         /* reads in main since last time that keep an item there, */
    STAY_FREQ_UNREAD = 3,  /* the same while nobody reads */
    READS_LEAST = 4,       /* somebody reads when there is a look-up for so many items stored, */
    MAIN_READS_LEAST = 64, /* main is read when it is hit once for so many */
    MAIN_UNREAD_EVERY = 8,
    STRICTER_EVERY = 8,   /* one more for so many segments that were walked and freed nothing */
    CLEAN_DEAD_MOST = 40, /* percent of a segment's used bytes */
    CLEAN_DEAD_LEAST = 20,
    CLEAN_STEP = 2,
    COPIES_PERCENT = 130, /* of what is written may be copied, */
    COPIES_JUDGED = 20,   /* as seen when a twentieth of the limit was written */
    NEVER_CLEAN = 100,
    VAIN_NS = 100 * 1000 * 1000,
    WALK_GROUP = 16,
    WALK_PIECE = 1 << 20, /* bytes of records while somebody may wait for evict_lock */
};

static uint64_t live_most(const struct store *store) {
    uint64_t budget = segment_budget(store),
             batch = atomic_load_explicit(&store->batch_bytes, memory_order_relaxed);
    return budget > batch ? budget - batch : 0;
}

bool evict_has_room(const struct store *store, uint64_t bytes) {
    uint64_t budget = segment_budget(store);
    if (segment_bytes_held(store) + bytes > budget || !segment_entry_free(store))
        return false;
    return segment_bytes_live(store) + bytes <= live_most(store) ||
           (bytes > atomic_load_explicit(&store->batch_bytes, memory_order_relaxed) &&
            segment_bytes_live(store) + bytes <= budget); /* a huge value may need all */
}

bool evict_probation_full(const struct store *store) {
    return store->fifo[PROBATION].bytes > live_most(store) / PROBATION_SHARE;
}

static void count_gone(struct store *store, const struct record *record, bool expired) {
    bool fetched = header_item_flags(atomic_load_explicit(&record->header, memory_order_relaxed)) &
                   STORE_FETCHED;
    atomic_fetch_add_explicit(expired ? &store->reclaimed : &store->evictions, 1,
                              memory_order_relaxed);
    if (!fetched)
        atomic_fetch_add_explicit(expired ? &store->expired_unfetched : &store->evicted_unfetched,
                                  1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&store->items_other, 1, memory_order_relaxed);
}

static struct attributes record_attributes(const struct walk *walk, const struct record *record) {
    return attributes_read(walk->entry, record,
                           atomic_load_explicit(&record->header, memory_order_relaxed));
}

/* A record's size is compared with the mean of all that live: up to a third of it, three quarters,
 * and from its double. Where all are of a size none is small or large. */
static uint64_t reads_asked(const struct walk *walk, uint64_t size) {
    uint64_t large = size >= 2 * walk->mean_size;
    if (walk->entry->pool == MAIN)
        return walk->stay_freq + large;
    if (3 * size <= walk->mean_size)
        return 0;
    return 4 * size <= 3 * walk->mean_size ? PROMOTE_FREQ - 1 : PROMOTE_FREQ + large;
}

static bool record_expired(const struct walk *walk, const struct record *record) {
    return is_expired(record_attributes(walk, record).expires, walk->now);
}

/* What becomes of the item behind a slot; under the bucket's lock. */
static bool survives(const struct walk *walk, const struct record *record, uint32_t size,
                     uint64_t slot) {
    uint64_t freq = (slot & SLOT_FREQ_ALL) >> SLOT_FREQ_SHIFT;
    if (record_expired(walk, record))
        return false;
    return walk->leaving == BY_CLEANING || freq >= reads_asked(walk, size);
}

/* The slot's frequency behind this segment. */
static uint64_t freq_after(const struct walk *walk, uint64_t slot) {
    uint64_t freq = slot & SLOT_FREQ_ALL;
    if (walk->leaving == BY_CLEANING)
        return freq;
    return walk->entry->pool == MAIN ? freq - SLOT_FREQ_ONE : 0;
}

/* Its memory is still there: the segment leaves when all of its records have. */
static void tell_evicted(const struct walk *walk, struct record *record, uint64_t slot) {
    struct store_item item;
    struct target target = {segment_data(walk->store, walk->segment), record, walk->entry};
    store_view(&target, slot, walk->now, &item);
    walk->store->config.evicted(record_key_span(record), &item, walk->now);
}

/* One record of a leaving segment: its item goes, or moves to `room` (NULL: none yet). Returns
 * false when it wants to survive and needs a reservation first, or a wider one. */
static bool leave(const struct walk *walk, uint64_t hash, struct record *record, uint32_t size,
                  struct store_reservation *reservation) {
    struct store *store = walk->store;
    uint32_t offset = (uint32_t)((char *)record - segment_data(store, walk->segment));
    struct bucket *bucket = index_lock(store, hash);
    struct slot_ref slot_at =
        index_find_address(store, bucket, hash, address_make(store, walk->segment, offset));
    bool answered = true, remember = false, evicted = false;
    uint64_t slot = 0;
    if (slot_at.head) {
        slot = slot_load(slot_at);
        if (reservation && reservation->record) {
            answered = record_move(store, slot_at, reservation, freq_after(walk, slot));
            if (answered)
                atomic_fetch_add_explicit(&store->copied_bytes, reservation->size,
                                          memory_order_relaxed);
        } else if (reservation == NULL && survives(walk, record, size, slot)) {
            answered = false;
        } else {
            bool expired = record_expired(walk, record);
            index_remove(store, bucket, slot_at);
            segment_live_remove(walk->entry, size);
            count_gone(store, record, expired);
            evicted = !expired;
            remember = !expired && walk->leaving == BY_POLICY && walk->entry->pool == PROBATION;
        }
    }
    index_unlock(bucket);
    if (remember)
        ghost_add(store, hash);
    if (evicted && store->config.evicted)
        tell_evicted(walk, record, slot);
    if (reservation && reservation->record &&
        (slot_at.head == NULL || !answered)) /* deleted, or too narrow */
        segment_unreserve(store->evictor, reservation);
    return answered;
}

/* False: it stays, as nothing may be evicted and there is no room for it elsewhere. */
static bool leave_or_move(const struct walk *walk, struct record *record, uint64_t hash) {
    uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed);
    uint32_t size = segment_record_size(walk->entry, header);
    uint32_t value_length = segment_value_length(walk->entry, header);
    if (leave(walk, hash, record, size, NULL))
        return true;
    struct attributes attributes = record_attributes(walk, record);
    enum pool pool = walk->leaving == BY_CLEANING ? walk->entry->pool : MAIN;
    for (bool wide = !attributes_likely_narrow(walk->store, &attributes, walk->now);; wide = true) {
        struct store_reservation reservation = {.wide = wide};
        uint32_t reservation_size = record_size(wide, header_key_length(header), value_length);
        segment_reserve_survivor(walk->store, pool, attributes.expires, reservation_size,
                                 value_length, walk->now, &reservation);
        if (reservation.record == NULL && !walk->store->config.evict)
            return false;
        if (leave(walk, hash, record, size, &reservation)) /* without a reservation it must go */
            return true;
    }
}

/* In groups: the buckets of a group are fetched into the cache together, before the first is
 * needed. */
static void walk_records(struct walk *walk, uint32_t until) {
    struct store *store = walk->store;
    char *data = segment_data(store, walk->segment);
    uint32_t used = atomic_load_explicit(&walk->entry->used, memory_order_acquire), at = walk->at;
    while (at < used && at < until) {
        struct record *group[WALK_GROUP];
        uint64_t hash[WALK_GROUP];
        int n = 0;
        while (at < used && n < WALK_GROUP) {
            struct record *record = (struct record *)(data + at);
            uint64_t header = atomic_load_explicit(&record->header, memory_order_acquire);
            uint32_t size = segment_record_size(walk->entry, header);
            ebb_assert(size > 0 && at + size <= used,
                       "segment %u: record at %u of %u bytes, used %u", walk->segment, at, size,
                       used);
            at += size;
            if (header_key_length(header) == 0)
                continue;
            hash[n] = record_hash(store, record);
            index_prefetch(store, hash[n]);
            group[n++] = record;
        }
        for (int i = 0; i < n && !walk->stuck; i++)
            walk->stuck = !leave_or_move(walk, group[i], hash[i]);
        if (walk->stuck)
            break;
    }
    walk->at = at;
    ebb_keep(data);
}

/* A huge segment's one item stays where it is: only its slot and its place in the FIFO change. */
static bool huge_stays(const struct walk *walk) {
    struct store *store = walk->store;
    struct record *record = (struct record *)segment_data(store, walk->segment);
    if (header_key_length(atomic_load_explicit(&record->header, memory_order_acquire)) == 0)
        return false;
    uint64_t hash = record_hash(store, record);
    struct bucket *bucket = index_lock(store, hash);
    struct slot_ref slot_at =
        index_find_address(store, bucket, hash, address_make(store, walk->segment, 0));
    uint64_t slot = slot_at.head ? slot_load(slot_at) : 0;
    bool stays = slot_at.head && survives(walk, record, walk->entry->capacity, slot);
    if (stays)
        slot_store(slot_at, (slot & ~SLOT_FREQ_ALL) | freq_after(walk, slot) | SLOT_MAIN);
    index_unlock(bucket);
    if (stays) {
        pthread_mutex_lock(&store->lock);
        segment_requeue(store, walk->segment);
        pthread_mutex_unlock(&store->lock);
    }
    return stays;
}

static void huge_leaves(const struct walk *walk) {
    struct record *record = (struct record *)segment_data(walk->store, walk->segment);
    struct store_reservation none = {0};
    if (header_key_length(atomic_load_explicit(&record->header, memory_order_acquire)) != 0)
        leave(walk, record_hash(walk->store, record), record, walk->entry->capacity, &none);
}

/* These under evict_lock. */

static void walk_begin(struct store *store, uint32_t segment, enum leaving leaving, uint32_t now) {
    store->walk = (struct walk){
        .store = store,
        .entry = segment_at(store, segment),
        .segment = segment,
        .now = now,
        .leaving = leaving,
        .begin_ns = ebb_trace_on() ? ebb_clock_ns() : 0,
    };
    pthread_mutex_lock(&store->lock);
    segment_seal(store, segment);
    atomic_store_explicit(&store->walk.entry->state, SEGMENT_LEAVING, memory_order_seq_cst);
    pthread_mutex_unlock(&store->lock);
    atomic_thread_fence(memory_order_seq_cst);
}

/* Returns the bytes that left. */
static uint64_t walk_end(struct store *store) {
    const struct walk walk = store->walk;
    uint64_t bytes = walk.entry->capacity;
    /* A sweep leaves what it cleared in the count. */
    ebb_assert(walk.entry->live_bytes == 0 || walk.entry->flushed,
               "segment %u leaves with %u live bytes", walk.segment, walk.entry->live_bytes);
    store->walk.entry = NULL;
    pthread_mutex_lock(&store->lock);
    segment_drop(store, walk.segment);
    pthread_mutex_unlock(&store->lock);
    EBB_PROBE3(eviction, walk.segment, walk.leaving, bytes);
    if (walk.begin_ns > 0)
        ebb_trace_slice(EBB_TRACK_EVICTIONS,
                        walk.leaving == BY_POLICY ? "by policy" : "by cleaning", walk.begin_ns,
                        ebb_clock_ns(), NULL, "bytes", bytes);
    return bytes;
}

/* The segment stays what it was, for the sake of what lives in it still. */
static void walk_give_up(struct store *store) {
    pthread_mutex_lock(&store->lock);
    atomic_store_explicit(&store->walk.entry->state, SEGMENT_SEALED, memory_order_seq_cst);
    pthread_mutex_unlock(&store->lock);
    store->walk.entry = NULL;
}

/* Under a lower limit it got a segment of its own, under this one it is one of many. */
static bool is_huge_no_more(const struct walk *walk, uint64_t header) {
    uint32_t length = segment_value_length(walk->entry, header);
    return !segment_is_huge(walk->store, record_size(false, header_key_length(header), length));
}

static uint64_t walk_huge(struct store *store) {
    struct walk *walk = &store->walk;
    struct record *record = (struct record *)segment_data(store, walk->segment);
    uint64_t header = atomic_load_explicit(&record->header, memory_order_acquire);
    if (header_key_length(header) != 0 && is_huge_no_more(walk, header)) {
        walk->stuck = !leave_or_move(walk, record, record_hash(store, record));
    } else if (huge_stays(walk)) {
        walk->entry = NULL;
        return 0;
    } else {
        huge_leaves(walk);
    }
    if (walk->stuck)
        walk_give_up(store);
    return walk->entry ? walk_end(store) : 0;
}

/* A frame of its own: what it leaves there is cleared by its caller. */
static __attribute__((noinline)) uint64_t walk_piece(struct store *store, uint32_t bytes) {
    struct walk *walk = &store->walk;
    if (walk->entry->huge)
        return walk_huge(store);
    uint32_t used = walk->entry->used;
    walk_records(walk, bytes < used - walk->at ? walk->at + bytes : used);
    if (walk->stuck)
        walk_give_up(store);
    return walk->entry && walk->at == used ? walk_end(store) : 0;
}

/* Goes on with the walk that was begun: for so many bytes of records. Returns the bytes that left:
 * the segment, or 0. */
static uint64_t walk_on(struct store *store, uint32_t bytes, uint32_t now) {
    store->walk.now = now;
    uint64_t left = walk_piece(store, bytes);
    ebb_stack_clear(); /* else each thread that walked holds its last segment */
    return left;
}

/* ---- choosing; under evict_lock ---- */

/* Nothing in it, or nothing that lives; of a segment that is not open. */
static bool is_over(const struct segment_entry *entry, uint32_t now) {
    uint32_t last = atomic_load_explicit(&entry->expires_last, memory_order_relaxed);
    if (atomic_load(&entry->flushed))
        return true;
    /* An empty huge segment that nothing was ever published in may be a reservation under
     * construction. */
    if (atomic_load_explicit(&entry->live_bytes, memory_order_relaxed) == 0)
        return last != 0 || !entry->huge;
    return last <= now;
}

/* An open segment is dead when all that it ever held has expired: its memory is wanted even when
 * nothing more is stored in its class. */
static bool is_dead(const struct segment_entry *entry, uint32_t now) {
    uint32_t last = atomic_load_explicit(&entry->expires_last, memory_order_relaxed);
    uint8_t state = atomic_load(&entry->state);
    if (state == SEGMENT_OPEN)
        return last != 0 && last <= now;
    return state == SEGMENT_SEALED && is_over(entry, now);
}

/* What a look for dead data sees besides. */
struct seen {
    bool whole;          /* all in it is dead */
    uint64_t live_bytes; /* of all segments, unless it is */
};

/* The first dead segment, or the one with the largest share of dead bytes when that passes the
 * threshold. */
static uint32_t find_dead(struct store *store, uint32_t percent, uint32_t now, struct seen *seen) {
    uint32_t worst = SEGMENT_NONE;
    uint64_t worst_dead = 0;
    *seen = (struct seen){0};
    pthread_mutex_lock(&store->lock);
    for (int pool = 0; pool < POOLS; pool++)
        for (uint32_t at = store->fifo[pool].first; at != SEGMENT_NONE;
             at = segment_at(store, at)->next) {
            struct segment_entry *entry = segment_at(store, at);
            if (is_dead(entry, now)) {
                pthread_mutex_unlock(&store->lock);
                seen->whole = true;
                return at;
            }
            uint32_t used = atomic_load_explicit(&entry->used, memory_order_relaxed);
            uint32_t live = atomic_load_explicit(&entry->live_bytes, memory_order_relaxed);
            seen->live_bytes += live;
            if (atomic_load(&entry->state) != SEGMENT_SEALED || entry->huge || live >= used)
                continue;
            uint64_t dead = used - live;
            if (dead * 100 > (uint64_t)used * percent && dead > worst_dead) {
                worst = at;
                worst_dead = dead;
            }
        }
    pthread_mutex_unlock(&store->lock);
    return worst;
}

/* Writes that nobody reads only push each other out of probation, and main would keep for ever what
 * it once got. So, once a tenth of a turn-over: does anybody read at all? If not, main leaves
 * first. And once a turn-over: is main read? If hardly, every eighth segment to leave is one of
 * main's. Not more: under a loop much larger than the cache, a main that is read seldom is what
 * still hits. */
static void judge_main(struct store *store) {
    uint64_t lookups = 0, main_hits = 0, stored = 0, items = store_items(store);
    for (int i = 0; i < store->config.workers; i++) {
        const struct store_worker *worker = store->workers[i];
        lookups += atomic_load_explicit(&worker->lookups, memory_order_relaxed);
        main_hits += atomic_load_explicit(&worker->main_hits, memory_order_relaxed);
        stored += atomic_load_explicit(&worker->items_total, memory_order_relaxed);
    }
    struct window *reads = &store->reads, *main = &store->main_reads;
    if ((stored - reads->stored) * PROBATION_SHARE >= items) {
        store->nobody_reads = (lookups - reads->count) * READS_LEAST < stored - reads->stored;
        *reads = (struct window){stored, lookups};
    }
    if (stored - main->stored >= items) {
        store->main_unread = (main_hits - main->count) * MAIN_READS_LEAST < stored - main->stored;
        *main = (struct window){stored, main_hits};
    }
}

static bool main_goes_first(struct store *store) {
    judge_main(store);
    store->choices++;
    return store->nobody_reads || (store->main_unread && store->choices % MAIN_UNREAD_EVERY == 0);
}

/* Probation's oldest when it holds more than its share, else main's. Not one that is still being
 * filled while the other pool has a full one: it would be given up for the few items in it. */
static uint32_t oldest(struct store *store) {
    bool main_first = main_goes_first(store);
    pthread_mutex_lock(&store->lock);
    uint32_t probation = store->fifo[PROBATION].first, main = store->fifo[MAIN].first, segment;
    if (probation == SEGMENT_NONE || main == SEGMENT_NONE)
        segment = main == SEGMENT_NONE ? probation : main;
    else if (segment_is_open(segment_at(store, probation)) !=
             segment_is_open(segment_at(store, main)))
        segment = segment_is_open(segment_at(store, main)) ? probation : main;
    else
        segment = evict_probation_full(store) && !main_first ? probation : main;
    pthread_mutex_unlock(&store->lock);
    return segment;
}

/* The percentage of dead bytes from which a segment is cleaned. The lower, the more is copied for
 * what it frees; so it is as low as what is copied for what is written allows. */
static uint32_t clean_from(struct store *store) {
    if (!store->config.evict)
        return CLEAN_DEAD_LEAST;
    uint64_t written = store_written_bytes(store),
             copied = atomic_load_explicit(&store->copied_bytes, memory_order_relaxed);
    struct window *copies = &store->copies;
    uint64_t more = written - copies->stored;
    if (more >= store_limit(store) / COPIES_JUDGED) {
        bool many = (copied - copies->count) * 100 > more * COPIES_PERCENT;
        if (many && store->clean_sooner > 0)
            store->clean_sooner -= CLEAN_STEP;
        else if (!many && store->clean_sooner < CLEAN_DEAD_MOST - CLEAN_DEAD_LEAST)
            store->clean_sooner += CLEAN_STEP;
        *copies = (struct window){written, copied};
    }
    return CLEAN_DEAD_MOST - store->clean_sooner;
}

/* Begins one step towards room; the tries-th without success. False: nothing may leave. */
static bool step_begin(struct store *store, uint32_t tries, uint32_t now) {
    enum leaving leaving = BY_CLEANING;
    struct seen seen;
    uint32_t segment = find_dead(store, clean_from(store), now, &seen);
    if (segment == SEGMENT_NONE && store->config.evict) {
        leaving = BY_POLICY;
        segment = oldest(store);
        atomic_store_explicit(&store->has_evicted, true, memory_order_relaxed);
    }
    if (segment == SEGMENT_NONE)
        return false;
    if (leaving == BY_CLEANING && !seen.whole)
        atomic_fetch_add_explicit(&store->cleaned_segments, 1, memory_order_relaxed);
    walk_begin(store, segment, leaving, now);
    store->walk.stay_freq =
        (store->nobody_reads ? STAY_FREQ_UNREAD : STAY_FREQ) + tries / STRICTER_EVERY;
    uint64_t items = store_items(store);
    store->walk.mean_size = items > 0 ? seen.live_bytes / items : 0;
    return true;
}

/* A whole step; it ends one that was begun. False: nothing may leave. */
static bool evict_step(struct store *store, uint32_t tries, uint32_t now) {
    if (store->walk.entry == NULL && !step_begin(store, tries, now))
        return false;
    walk_on(store, UINT32_MAX, now);
    return !store->walk.stuck;
}

static bool has_room(struct store *store, uint64_t bytes) {
    pthread_mutex_lock(&store->lock);
    bool reservation = evict_has_room(store, bytes);
    pthread_mutex_unlock(&store->lock);
    return reservation;
}

/* The batch, or the nearest that the limit allows. */
static void batch_set(struct store *store, uint64_t batch) {
    uint64_t limit = store_limit(store);
    uint64_t least = (uint64_t)BATCH_SEGMENTS_MIN * segment_bytes(store);
    uint64_t most = limit / BATCH_MOST_SHARE * ebb_dropped_slack();
    if (most > limit / BATCH_UTMOST_SHARE) /* even when collections take more time than they may */
        most = limit / BATCH_UTMOST_SHARE;
    if (batch > most)
        batch = most;
    if (batch < limit / BATCH_LEAST_SHARE)
        batch = limit / BATCH_LEAST_SHARE;
    store->batch_bytes = batch > least ? batch : least;
}

/* Garbage between two collections is memory that holds nothing; too little of it, and collections
 * take the time. */
static void batch_fit(struct store *store) {
    uint64_t batch = store->batch_bytes, share = ebb_collect_per_mille();
    uint64_t fitting = batch * share / COLLECT_PER_MILLE, up = batch + batch / 4,
             down = batch - batch / 8; /* in steps: the share is that of some collections */
    batch_set(store, fitting > up ? up : fitting < down ? down : fitting);
}

static void collect(struct store *store) {
    ebb_collect(EBB_CAUSE_dropped);
    batch_fit(store);
}

/* Readers and reservations under construction hold what was dropped, and a collection frees nothing
 * of that: clients who sent half a value each can hold all. So garbage that a collection left is
 * not worth the next one for a moment, unless a reservation was let go of; nor are, where it was
 * most of it, single segments. */
static void vain_judge(struct store *store, uint64_t before, uint64_t live) {
    struct vain *vain = &store->vain;
    uint64_t held = segment_bytes_held(store), after = held > live ? held - live : 0;
    uint64_t fresh = before > vain->garbage ? before - vain->garbage : 0;
    vain->found_little = after + fresh / 2 > before;
    vain->garbage = after;
    vain->ns = ebb_clock_ns();
}

/* Survivors need room too: a segment's worth must be free before a segment is walked. Where what
 * lives is over the budget, since the limit was lowered, no collection makes it fit: there is one
 * for each batch of garbage then, not one for each segment. */
static void collect_if_held(struct store *store, uint64_t bytes) {
    uint64_t held = segment_bytes_held(store), budget = segment_budget(store);
    if (held + bytes <= budget)
        return;
    uint64_t live = segment_bytes_live_now(store), garbage = held > live ? held - live : 0,
             batch = atomic_load_explicit(&store->batch_bytes, memory_order_relaxed);
    if (live + bytes > budget && garbage < batch)
        return;
    if (garbage < store->vain.garbage) /* some of that was freed since, by whichever collection */
        store->vain.garbage = garbage;
    uint64_t worth = store->vain.found_little ? (batch > bytes ? batch : bytes) : 1;
    bool let_go = atomic_exchange(&store->room_let_go, false);
    if (!let_go && garbage < store->vain.garbage + worth &&
        ebb_clock_ns() - store->vain.ns < VAIN_NS)
        return;
    collect(store);
    vain_judge(store, garbage, live);
}

/* What may live so that `bytes` more find room. Asked before each step: a ghost table that grows
 * takes of the budget meanwhile. */
static uint64_t live_target(const struct store *store, uint64_t bytes, bool uses_batch) {
    uint64_t most = uses_batch ? segment_budget(store) : live_most(store);
    return most > bytes ? most - bytes : 0;
}

/* Before a step: counts it as one more try. False: there is room. */
static bool try_more(struct store *store, uint64_t bytes, bool uses_batch, struct trying *trying) {
    uint64_t live = segment_bytes_live_now(store);
    if (live <= live_target(store, bytes, uses_batch)) {
        *trying = (struct trying){.least = UINT64_MAX};
        return false;
    }
    trying->tries = live < trying->least ? 0 : trying->tries + 1;
    trying->least = live < trying->least ? live : trying->least;
    collect_if_held(store, segment_bytes(store));
    return true;
}

static void evict_until(struct store *store, uint64_t bytes, bool uses_batch, uint32_t now) {
    struct trying trying = {.least = UINT64_MAX};
    while (try_more(store, bytes, uses_batch, &trying) && evict_step(store, trying.tries, now))
        continue;
}

void evict_ahead(struct store *store, uint32_t carved, bool fresh, uint32_t now) {
    uint64_t most = live_most(store), ahead = (uint64_t)AHEAD_SEGMENTS * segment_bytes(store);
    if (most < AHEAD_LEAST * ahead) /* it would take the very segment that it was opened for */
        return;
    if (pthread_mutex_trylock(&store->evict_lock) != 0)
        return;
    if (store->walk.entry || (try_more(store, ahead, false, &store->trying_ahead) &&
                              step_begin(store, store->trying_ahead.tries, now))) {
        walk_on(store, carved * AHEAD_PACE, now);
        fresh |= store->walk.entry == NULL;
    }
    if (fresh) /* the index may have grown meanwhile */
        collect_if_held(store, ahead);
    pthread_mutex_unlock(&store->evict_lock);
}

bool evict_for(struct store *store, uint64_t bytes, uint32_t now) {
    uint64_t budget = segment_budget(store);
    if (bytes > budget)
        return false;
    pthread_mutex_lock(&store->evict_lock);
    bool huge = bytes > atomic_load_explicit(&store->batch_bytes, memory_order_relaxed);
    evict_until(store, bytes, huge, now);
    /* Readers, reservations and chunks may hold what was dropped, and others may take what was
     * freed: on, until nothing is left to evict. */
    bool possible = true;
    while (possible && !has_room(store, bytes)) {
        collect_if_held(store, bytes);
        possible = has_room(store, bytes) || evict_step(store, 0, now);
    }
    pthread_mutex_unlock(&store->evict_lock);
    return possible;
}

bool evict_instead(struct store *store, uint64_t bytes, uint32_t now) {
    pthread_mutex_lock(&store->evict_lock);
    uint64_t before = segment_bytes_live_now(store), live = before;
    uint64_t most = before > bytes ? before - bytes : 0;
    for (uint32_t tries = 0; live > most && evict_step(store, tries, now); tries++)
        live = segment_bytes_live_now(store);
    pthread_mutex_unlock(&store->evict_lock);
    return live < before;
}

/* Goes on with a walk whose segment is dead, or else begins the next; another that is on its way
 * ends first. Under evict_lock. False: none is dead. */
static bool walk_dead(struct store *store, uint32_t now, uint64_t *left) {
    struct seen seen;
    if (store->walk.entry == NULL || !is_over(store->walk.entry, now)) {
        uint32_t segment = find_dead(store, NEVER_CLEAN, now, &seen);
        if (segment == SEGMENT_NONE)
            return false;
        if (store->walk.entry == NULL)
            walk_begin(store, segment, BY_CLEANING, now);
    }
    *left = walk_on(store, WALK_PIECE, now);
    return true;
}

bool evict_expired(struct store *store, uint32_t now) {
    uint64_t left = 0;
    pthread_mutex_lock(&store->evict_lock);
    bool more = walk_dead(store, now, &left) || ghost_shrink(store);
    pthread_mutex_unlock(&store->evict_lock);
    if (left > 0)
        ebb_dropped(left);
    return more;
}

/* Segments of a limit that was much higher: what lives there moves to some of today's size. */
static void split_large(struct store *store, uint32_t now) {
    if (store->walk.entry)
        walk_on(store, UINT32_MAX, now);
    uint32_t large;
    while ((large = segment_find_larger(store, store_limit(store) / LARGE_SHARE)) != SEGMENT_NONE) {
        collect_if_held(store, segment_at(store, large)->capacity);
        walk_begin(store, large, BY_CLEANING, now);
        walk_on(store, UINT32_MAX, now);
        if (store->walk.stuck)
            return;
    }
}

void evict_to_budget(struct store *store, uint32_t now) {
    pthread_mutex_lock(&store->evict_lock);
    batch_set(store, store->batch_bytes); /* of a larger limit it may be all that there is now */
    store->vain = (struct vain){0};
    evict_until(store, 0, false, now);
    split_large(store, now);
    pthread_mutex_unlock(&store->evict_lock);
}
