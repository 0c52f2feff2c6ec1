/* index -- from a key's hash to the place of its item, in cache-line buckets, read without a lock.
 *
 * Linear hashing: `buckets` grows one by one; bucket number = hash modulo the next power of two, or
 * the one below when that bucket does not exist yet. Splitting bucket s moves half its items to the
 * new last bucket. So there is never a rehash of the whole table, and its memory follows the number
 * of items. A bucket has ten slots; the last of a full one leads to an overflow bucket of half its
 * size, whose last slot may lead to another. Buckets lie in pages, pages in a directory; an unused
 * page is dropped and collected.
 *
 * 1. A bucket's lock is its version being odd; it covers its overflow chain. Whoever changes a
 * slot's address holds it.
 * 2. A reader takes (version, slot, segment pointer) and checks the version before it follows the
 * pointer: evicting clears the slot, under the lock, before it clears the root, so an unchanged
 * version means a valid pointer, and the pointer in the reader's register holds the segment from
 * then on. It checks the version before it follows a link, too.
 * 3. A reader that finds nothing asks again whether the key's bucket is still this one, and then
 * once more for its version: a split or merge may have moved the item meanwhile, or a merge before
 * and a split after its look.
 * 4. Frequency bits may change without the lock (one compare-and-swap by a reader); losing one is
 * harmless.
 * 5. Pages and overflow buckets are made ahead, outside bucket locks. An insert that finds none
 * takes another item's slot in the same bucket: an eviction, counted by the caller.
 * 6. A chain has at most INDEX_CHAIN_MAX overflow buckets. All but its last run of slots are full;
 * the items of an overflow bucket, at least two, are at its front.
 * 7. An unchanged version means, too, that a slot was understood: what its bits mean changes while
 * all buckets are locked (reshape.c). Then another index takes the place of this one, whose buckets
 * stay locked for ever; a thread that waits for one of them looks for its key's bucket again.
 */
#include "store/internal.h"
#include <sched.h>
#include <string.h>

enum {
    LOAD_GROW_TENTHS = 95,   /* items a bucket, in tenths: grow above, */
    LOAD_SHRINK_TENTHS = 35, /* shrink below; */
    LOAD_TIGHT_TENTHS = 300, /* chains would soon be full: who inserts waits for who resizes */
    SPINS = 64,
    SWEEP_STEPS = 1024, /* buckets without letting others resize */
    LOAD_FIT_TENTHS = 92,
    FIT_STEPS = 1024,
};

static void pause_spin(int *spins) {
    if (++*spins % SPINS == 0)
        sched_yield();
    else
        __builtin_ia32_pause();
}

/* ---- pages ---- */

/* The page starts at a multiple of 64 inside the object; an inner pointer holds the object just as
 * well. */
static struct bucket *page_new(struct store *store, const struct index *index) {
    size_t bytes = index_page_bytes(index);
    char *object = ebb_try_sized(&ebb_type_index_page, bytes);
    if (object == NULL)
        return NULL;
    char *page = (char *)(((uintptr_t)object + 63) & ~(uintptr_t)63);
    memset(page, 0, index_page_buckets(index) * sizeof(struct bucket));
    store->index_bytes += bytes;
    return (struct bucket *)page;
}

bool index_page_add(struct store *store, struct index *index, uint32_t page) {
    struct bucket *fresh = page_new(store, index);
    if (fresh == NULL)
        return false;
    index->pages_count++;
    atomic_store_explicit(&index->pages[page], fresh, memory_order_release);
    return true;
}

uint64_t index_bytes(const struct index *index) {
    return (uint64_t)(index->pages_count + index->overflow_pages) * index_page_bytes(index) +
           2 * (uint64_t)index->directory_size * sizeof *index->pages;
}

static inline struct bucket *bucket_in(_Atomic(struct bucket *) *pages, const struct index *index,
                                       uint32_t number) {
    uint32_t at = index_page_of(index, number);
    struct bucket *page = atomic_load_explicit(&pages[at], memory_order_acquire);
    return page ? &page[number - at * index_page_buckets(index)] : NULL;
}

struct bucket *index_bucket_at(const struct index *index, uint32_t number) {
    return bucket_in(index->pages, index, number);
}

struct overflow *index_overflow_at(const struct index *index, uint32_t number) {
    struct bucket *two = bucket_in(index->overflow, index, number / 2);
    return two ? (struct overflow *)two + number % 2 : NULL;
}

uint32_t index_number_of(uint64_t hash, uint32_t count) {
    uint32_t mask = count <= 1 ? 0 : UINT32_MAX >> __builtin_clz(count - 1);
    uint32_t number = (uint32_t)hash & mask;
    return number < count ? number : number & mask >> 1;
}

static inline __attribute__((always_inline)) struct bucket *home_of(const struct index *index,
                                                                    uint64_t hash) {
    uint32_t buckets = atomic_load_explicit(&index->buckets, memory_order_acquire);
    return index_bucket_at(index, index_number_of(hash, buckets));
}

/* ---- overflow buckets ---- */

static void overflow_lock(struct index *index) {
    int spins = 0;
    while (atomic_flag_test_and_set_explicit(&index->overflow_lock, memory_order_acquire))
        pause_spin(&spins);
}

static void overflow_unlocked(struct index *index) {
    atomic_flag_clear_explicit(&index->overflow_lock, memory_order_release);
}

/* The number of one that is empty, or OVERFLOW_NONE. */
static uint32_t overflow_take(struct index *index) {
    overflow_lock(index);
    uint32_t taken = index->overflow_free;
    if (taken != OVERFLOW_NONE) {
        index->overflow_free =
            atomic_load_explicit(&index_overflow_at(index, taken)->tail[0], memory_order_relaxed);
        atomic_fetch_sub_explicit(&index->overflow_free_count, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&index->overflow_count, 1, memory_order_relaxed);
    }
    overflow_unlocked(index);
    return taken;
}

/* An empty one goes back. */
static void overflow_put(struct index *index, uint32_t number) {
    overflow_lock(index);
    atomic_store_explicit(&index_overflow_at(index, number)->tail[0], index->overflow_free,
                          memory_order_relaxed);
    index->overflow_free = number;
    atomic_fetch_add_explicit(&index->overflow_free_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&index->overflow_count, 1, memory_order_relaxed);
    overflow_unlocked(index);
}

/* A page more of them. False: there is no memory. Under resize_lock. */
bool index_overflow_add(struct store *store, struct index *index) {
    struct bucket *page =
        index->overflow_pages < index->directory_size ? page_new(store, index) : NULL;
    if (page == NULL)
        return false;
    uint32_t count = 2 * index_page_buckets(index), first = index->overflow_pages * count;
    struct overflow *fresh = (struct overflow *)page;
    for (uint32_t i = 0; i < count - 1; i++)
        atomic_store_explicit(&fresh[i].tail[0], first + i + 1, memory_order_relaxed);
    atomic_store_explicit(&index->overflow[index->overflow_pages++], page, memory_order_release);
    overflow_lock(index);
    atomic_store_explicit(&fresh[count - 1].tail[0], index->overflow_free, memory_order_relaxed);
    index->overflow_free = first;
    atomic_fetch_add_explicit(&index->overflow_free_count, count, memory_order_relaxed);
    overflow_unlocked(index);
    return true;
}

uint32_t index_overflow_spare(const struct index *index) {
    return atomic_load_explicit(&index->overflow_free_count, memory_order_relaxed);
}

static void provision(struct store *store, struct index *index) {
    if (index_overflow_spare(index) < INDEX_SPARE_LOW)
        index_overflow_add(store, index);
}

void index_provision(struct store *store) {
    uint32_t spare = index_overflow_spare(index_now(store));
    if (spare >= INDEX_SPARE_LOW)
        return;
    /* Somebody who resizes provides too; only when it gets tight is he waited for. */
    if (spare < INDEX_SPARE_LOW / 4)
        pthread_mutex_lock(&store->resize_lock);
    else if (pthread_mutex_trylock(&store->resize_lock) != 0)
        return;
    provision(store, index_now(store));
    pthread_mutex_unlock(&store->resize_lock);
}

void index_prefetch(const struct store *store, uint64_t hash) {
    __builtin_prefetch(home_of(index_now(store), hash), 1);
}

/* ---- locking ---- */

static bool lock_once(struct bucket *bucket) {
    uint32_t version = atomic_load_explicit(&bucket->version, memory_order_relaxed);
    if ((version & 1) || !atomic_compare_exchange_weak(&bucket->version, &version, version + 1))
        return false;
    atomic_thread_fence(memory_order_release);
    return true;
}

/* Under resize_lock: the bucket stays where it is. */
void index_bucket_lock(struct bucket *bucket) {
    int spins = 0;
    while (!lock_once(bucket))
        pause_spin(&spins);
}

struct bucket *index_lock(struct store *store, uint64_t hash) {
    for (int spins = 0;; pause_spin(&spins)) {
        struct bucket *bucket = home_of(index_now(store), hash);
        if (bucket == NULL || !lock_once(bucket))
            continue;
        if (home_of(index_now(store), hash) == bucket)
            return bucket;
        index_unlock(bucket);
    }
}

void index_unlock(struct bucket *bucket) {
    atomic_fetch_add_explicit(&bucket->version, 1, memory_order_release);
}

/* ---- slots, under the lock ---- */

static bool record_has_key(const struct record *record, struct ebb_span key) {
    uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed);
    return header_key_length(header) == key.length &&
           memcmp(record_key(record, header), key.at, key.length) == 0;
}

/* Bits that say from the head alone that a slot cannot be the one. */
struct tag {
    uint16_t mask, bits;
};

static struct tag tag_make(const struct store *store, uint64_t hash) {
    return (struct tag){(uint16_t)(tag_mask(store) >> SLOT_TAIL_BITS),
                        (uint16_t)(tag_of(store, hash) >> SLOT_TAIL_BITS)};
}

/* The first slot from this one on that has the tag, or run->slots. */
static int tagged(const struct run *run, struct tag tag, int from) {
    while (from < run->slots &&
           (atomic_load_explicit(&run->first.head[from], memory_order_relaxed) & tag.mask) !=
               tag.bits)
        from++;
    return from;
}

/* A search through a bucket and its chain, under the lock. */
struct search {
    const struct index *index;
    struct run run;
    struct tag tag;
    int at;
};

static struct search search_start(const struct store *store, struct bucket *bucket, uint64_t hash) {
    return (struct search){index_now(store), run_of_bucket(bucket), tag_make(store, hash), 0};
}

/* The next slot that has the tag, if any. */
static inline __attribute__((always_inline)) struct slot_ref search_next(struct search *search) {
    for (;;) {
        int at = tagged(&search->run, search->tag, search->at);
        if (at < search->run.slots) {
            search->at = at + 1;
            return run_at(&search->run, at);
        }
        if (!run_next(search->index, &search->run))
            return (struct slot_ref){NULL, NULL};
        search->at = 0;
    }
}

struct slot_ref index_find(struct store *store, struct bucket *bucket, struct ebb_span key,
                           uint64_t hash) {
    struct search search = search_start(store, bucket, hash);
    struct slot_ref slot_at;
    do
        slot_at = search_next(&search);
    while (slot_at.head && !record_has_key(slot_record(store, slot_load(slot_at)), key));
    return slot_at;
}

struct slot_ref index_find_address(struct store *store, struct bucket *bucket, uint64_t hash,
                                   uint64_t points_to) {
    struct search search = search_start(store, bucket, hash);
    struct slot_ref slot_at;
    do
        slot_at = search_next(&search);
    while (slot_at.head && slot_address(store, slot_load(slot_at)) != points_to);
    return slot_at;
}

/* Returns the slot that had to go for it, or 0. */
uint64_t index_insert(struct index *index, struct bucket *bucket, uint64_t slot) {
    struct run run = run_of_bucket(bucket);
    int length = 0;
    do {
        for (int i = 0; i < run.slots; i++)
            if (slot_ref_empty(run_at(&run, i))) {
                slot_store(run_at(&run, i), slot);
                return 0;
            }
        length++;
    } while (run_next(index, &run));
    uint32_t more = length <= INDEX_CHAIN_MAX ? overflow_take(index) : OVERFLOW_NONE;
    struct slot_ref last = run_last(&run);
    if (more == OVERFLOW_NONE) {
        uint64_t lost = slot_load(last);
        slot_store(last, slot);
        return lost;
    }
    struct run fresh = run_of_overflow(index_overflow_at(index, more));
    slot_store(run_at(&fresh, 0), slot_load(last));
    slot_store(run_at(&fresh, 1), slot);
    slot_store(last, (uint64_t)HEAD_LINK << SLOT_TAIL_BITS | more);
    return 0;
}

/* The chain's last item fills the hole (invariant 6). */
void index_remove(struct store *store, struct bucket *bucket, struct slot_ref slot_at) {
    struct index *index = index_now(store);
    struct run run = run_of_bucket(bucket);
    struct slot_ref link = {NULL, NULL};
    while (slot_ref_links(run_last(&run))) {
        link = run_last(&run);
        run_next(index, &run);
    }
    if (link.head == NULL) {
        slot_store(slot_at, 0);
        return;
    }
    int taken = run.slots - 1;
    while (slot_ref_empty(run_at(&run, taken)))
        taken--;
    slot_store(slot_at, slot_load(run_at(&run, taken)));
    slot_store(run_at(&run, taken), 0);
    if (taken > 1)
        return;
    uint32_t number = link_number(link); /* one is left, which can stand in the link's place */
    slot_store(link, slot_load(run_at(&run, 0)));
    slot_store(run_at(&run, 0), 0);
    overflow_put(index, number);
}

/* ---- reading ---- */

enum look { LOOK_FOUND, LOOK_NOTHING, LOOK_AGAIN };

static bool still(const struct bucket *bucket, uint32_t version) {
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&bucket->version, memory_order_relaxed) == version;
}

static enum look look_in(const struct store *store, const struct index *index, struct ebb_span key,
                         struct tag tag, struct found *found) {
    struct run run = run_of_bucket(found->bucket);
    for (;;) {
        for (int i = 0; (i = tagged(&run, tag, i)) < run.slots; i++) {
            struct slot_ref slot_at = run_at(&run, i);
            uint64_t slot = slot_load(slot_at);
            uint32_t offset = slot_offset(store, slot);
            uint32_t segment = slot_segment(store, slot); /* any, when the halves are of two */
            char *data = segment < store->segments_max ? segment_data(store, segment) : NULL;
            if (!still(found->bucket, found->version)) /* invariants 2, 7 */
                return LOOK_AGAIN;
            struct record *record = (struct record *)(data + offset);
            if (!record_has_key(record, key))
                continue;
            found->slot_at = slot_at;
            found->slot = slot;
            found->target = (struct target){data, record, segment_at(store, segment)};
            return LOOK_FOUND;
        }
        struct slot_ref last = run_last(&run);
        bool links = slot_ref_links(last);
        uint32_t number = link_number(last);
        if (!still(found->bucket, found->version))
            return LOOK_AGAIN;
        if (!links)
            return LOOK_NOTHING;
        struct overflow *next = index_overflow_at(index, number);
        if (next == NULL) /* of an index that has just been replaced */
            return LOOK_AGAIN;
        run = run_of_overflow(next);
    }
}

bool index_lookup(const struct store *store, struct ebb_span key, uint64_t hash,
                  struct found *found) {
    for (int spins = 0;; pause_spin(&spins)) {
        const struct index *index = index_now(store);
        found->bucket = home_of(index, hash);
        if (found->bucket == NULL)
            continue;
        found->version = atomic_load_explicit(&found->bucket->version, memory_order_acquire);
        if (found->version & 1)
            continue;
        enum look look = look_in(store, index, key, tag_make(store, hash), found);
        if (look == LOOK_FOUND)
            return true;
        if (look == LOOK_AGAIN)
            continue;
        if (home_of(index_now(store), hash) == found->bucket &&
            still(found->bucket, found->version))
            return false; /* invariant 3 */
    }
}

/* ---- growing and shrinking ---- */

enum { CHAIN_ITEMS_MAX = BUCKET_SLOTS + INDEX_CHAIN_MAX * (OVERFLOW_SLOTS - 1) };

/* Takes all items out of a locked bucket and its chain; the overflow buckets go back. Returns how
 * many. */
static int take_all(struct index *index, struct bucket *bucket, uint64_t slots[CHAIN_ITEMS_MAX]) {
    struct run run = run_of_bucket(bucket);
    uint32_t number = OVERFLOW_NONE;
    int n = 0;
    for (;;) {
        struct slot_ref last = run_last(&run);
        uint32_t next = slot_ref_links(last) ? link_number(last) : OVERFLOW_NONE;
        if (next != OVERFLOW_NONE)
            slot_store(last, 0);
        for (int i = 0; i < run.slots; i++) {
            struct slot_ref slot_at = run_at(&run, i);
            if (slot_ref_empty(slot_at))
                continue;
            slots[n++] = slot_load(slot_at);
            slot_store(slot_at, 0);
        }
        if (number != OVERFLOW_NONE)
            overflow_put(index, number);
        if (next == OVERFLOW_NONE)
            return n;
        number = next;
        run = run_of_overflow(index_overflow_at(index, number));
    }
}

/* Puts a slot in; one that found no room for it any more is an item gone. */
void index_put(struct store *store, struct bucket *bucket, uint64_t slot) {
    uint64_t lost = index_insert(index_now(store), bucket, slot);
    if (lost == 0)
        return;
    segment_slot_gone(store, lost);
    atomic_fetch_sub_explicit(&store->items_other, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->evictions, 1, memory_order_relaxed);
}

static bool split_one(struct store *store, struct index *index) {
    uint32_t last = atomic_load_explicit(&index->buckets, memory_order_relaxed);
    uint32_t page = index_page_of(index, last);
    if (page >= index->directory_size)
        return false;
    if (atomic_load_explicit(&index->pages[page], memory_order_relaxed) == NULL &&
        !index_page_add(store, index, page))
        return false;
    struct bucket *from = index_bucket_at(index, index_number_of(last, last));
    struct bucket *to = index_bucket_at(index, last);
    uint64_t slots[CHAIN_ITEMS_MAX];
    index_bucket_lock(from);
    int n = take_all(index, from, slots);
    index_bucket_lock(to);
    atomic_store_explicit(&index->buckets, last + 1, memory_order_release);
    for (int i = 0; i < n; i++) {
        struct bucket *home =
            index_number_of(record_hash(store, slot_record(store, slots[i])), last + 1) == last
                ? to
                : from;
        index_put(store, home, slots[i]);
    }
    index_unlock(to);
    index_unlock(from);
    return true;
}

static bool merge_one(struct store *store, struct index *index) {
    uint32_t last = atomic_load_explicit(&index->buckets, memory_order_relaxed) - 1;
    if (last < INDEX_BUCKETS_MIN)
        return false;
    struct bucket *to = index_bucket_at(index, index_number_of(last, last));
    struct bucket *from = index_bucket_at(index, last);
    uint64_t slots[CHAIN_ITEMS_MAX];
    index_bucket_lock(to);
    index_bucket_lock(from);
    int n = take_all(index, from, slots);
    atomic_store_explicit(&index->buckets, last, memory_order_release);
    for (int i = 0; i < n; i++)
        index_put(store, to, slots[i]);
    index_unlock(from);
    index_unlock(to);
    uint32_t page = index_page_of(index, last);
    if (last == page * index_page_buckets(index) && page > 0) {
        atomic_store_explicit(&index->pages[page], NULL, memory_order_release);
        index->pages_count--;
        size_t bytes = index_page_bytes(index);
        store->index_bytes -= bytes;
        ebb_dropped(bytes);
    }
    return true;
}

/* False: somebody else resizes, and that is as good. But who has the lock may have lost his
 * processor, and items would be lost meanwhile. */
static bool resize_locked(struct store *store, uint64_t items) {
    if (pthread_mutex_trylock(&store->resize_lock) == 0)
        return true;
    uint64_t buckets = atomic_load_explicit(&index_now(store)->buckets, memory_order_relaxed);
    return items * 10 > buckets * LOAD_TIGHT_TENTHS && pthread_mutex_lock(&store->resize_lock) == 0;
}

/* Under resize_lock. Not while a sweep is on: it would miss what moves back. */
static bool shrink_one(struct store *store, uint64_t items, uint64_t buckets, uint32_t tenths) {
    return items * 10 < buckets * tenths && !atomic_load(&store->flushed) &&
           merge_one(store, index_now(store));
}

bool index_resize(struct store *store, uint64_t items, int steps) {
    if (!resize_locked(store, items))
        return false;
    struct index *index = index_now(store);
    bool moved = true;
    for (; moved && steps > 0; steps--) {
        provision(store, index);
        uint64_t buckets = atomic_load_explicit(&index->buckets, memory_order_relaxed);
        moved = items * 10 > buckets * LOAD_GROW_TENTHS
                    ? split_one(store, index)
                    : shrink_one(store, items, buckets, LOAD_SHRINK_TENTHS);
    }
    pthread_mutex_unlock(&store->resize_lock);
    return moved;
}

/* One bucket less than are counted, or it would have to grow again. */
void index_fit(struct store *store) {
    for (bool moved = true; moved;) {
        uint64_t items = store_items(store);
        pthread_mutex_lock(&store->resize_lock);
        for (int steps = FIT_STEPS; moved && steps > 0; steps--) {
            uint64_t buckets = atomic_load(&index_now(store)->buckets);
            provision(store, index_now(store));
            moved = shrink_one(store, items, buckets - 1, LOAD_FIT_TENTHS);
        }
        pthread_mutex_unlock(&store->resize_lock);
    }
}

static uint32_t sweep_bucket(struct store *store, struct bucket *bucket) {
    struct index *index = index_now(store);
    uint64_t slots[CHAIN_ITEMS_MAX];
    uint32_t cleared = 0;
    index_bucket_lock(bucket);
    int n = take_all(index, bucket, slots);
    for (int i = 0; i < n; i++)
        if (atomic_load(&segment_at(store, slot_segment(store, slots[i]))->flushed))
            cleared++;
        else
            index_put(store, bucket, slots[i]);
    index_unlock(bucket);
    return cleared;
}

void index_sweep_start(struct store *store) {
    pthread_mutex_lock(&store->resize_lock);
    index_now(store)->sweep_at = 0;
    pthread_mutex_unlock(&store->resize_lock);
}

bool index_sweep(struct store *store) {
    int64_t cleared = 0;
    pthread_mutex_lock(&store->resize_lock);
    struct index *index = index_now(store);
    uint32_t buckets = atomic_load(&index->buckets), steps = SWEEP_STEPS;
    for (; index->sweep_at < buckets && steps > 0; index->sweep_at++, steps--)
        cleared += sweep_bucket(store, index_bucket_at(index, index->sweep_at));
    bool all = index->sweep_at >= buckets;
    pthread_mutex_unlock(&store->resize_lock);
    atomic_fetch_sub_explicit(&store->items_other, cleared, memory_order_relaxed);
    return all;
}
