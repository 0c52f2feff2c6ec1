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
 * slot's place holds it.
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
 */
#include "store/internal.h"
#include <sched.h>
#include <string.h>

enum {
    LOAD_GROW_TENTHS = 95,   /* items a bucket, in tenths: grow above, */
    LOAD_SHRINK_TENTHS = 35, /* shrink below; */
    LOAD_TIGHT_TENTHS = 300, /* chains would soon be full: who inserts waits for who resizes */
    BUCKETS_MIN = 16,
    SPARE_LOW = 64,           /* overflow buckets kept ready */
    PAGE_BYTES_MAX = 4 << 20, /* a page is cleared while somebody waits for his insert */
    SPINS = 64,
    SWEEP_STEPS = 1024, /* buckets without letting others resize */
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
static struct bucket *page_new(struct store *store) {
    size_t bytes = index_page_bytes(&store->index);
    char *object = ebb_try_sized(&ebb_type_index_page, bytes);
    if (object == NULL)
        return NULL;
    char *page = (char *)(((uintptr_t)object + 63) & ~(uintptr_t)63);
    memset(page, 0, index_page_buckets(&store->index) * sizeof(struct bucket));
    store->index_bytes += bytes;
    return (struct bucket *)page;
}

static struct bucket *bucket_in(_Atomic(struct bucket *) *pages, const struct index *index,
                                uint32_t number) {
    uint32_t at = index_page_of(index, number);
    struct bucket *page = atomic_load_explicit(&pages[at], memory_order_acquire);
    return page ? &page[number - at * index_page_buckets(index)] : NULL;
}

struct bucket *index_bucket_at(const struct store *store, uint32_t number) {
    return bucket_in(store->index.pages, &store->index, number);
}

struct overflow *index_overflow_at(const struct store *store, uint32_t number) {
    struct bucket *room = bucket_in(store->index.overflow, &store->index, number / 2);
    return (struct overflow *)room + number % 2;
}

uint32_t index_number_of(uint64_t hash, uint32_t count) {
    uint32_t mask = count <= 1 ? 0 : UINT32_MAX >> __builtin_clz(count - 1);
    uint32_t number = (uint32_t)hash & mask;
    return number < count ? number : number & mask >> 1;
}

void index_start(struct store *store) {
    struct index *index = &store->index;
    while ((sizeof(struct bucket) << index->page_shift) < store->segment_capacity &&
           (sizeof(struct bucket) << index->page_shift) < PAGE_BYTES_MAX)
        index->page_shift++;
    index->page_reciprocal =
        (((uint64_t)1 << (32 + index->page_shift)) - 1) / index_page_buckets(index) + 1;
    /* Room for four times the first limit, half of it index: cache_memlimit may raise it. */
    index->directory_size =
        (uint32_t)(store_limit(store) * 2 / (sizeof(struct bucket) << index->page_shift)) + 16;
    size_t bytes = index->directory_size * sizeof *index->pages;
    index->pages = ebb_new_sized(&ebb_type_index_directory, bytes);
    index->overflow = ebb_new_sized(&ebb_type_index_directory, bytes);
    store->index_bytes += 2 * bytes;
    index->overflow_free = OVERFLOW_NONE;
    pthread_mutex_init(&index->resize_lock, NULL);
    atomic_flag_clear(&index->overflow_lock);
    atomic_store(&index->pages[0], page_new(store));
    index->pages_count = 1;
    atomic_store(&index->buckets, BUCKETS_MIN);
    index_provision(store);
}

/* ---- overflow buckets ---- */

static void overflow_locked(struct index *index) {
    int spins = 0;
    while (atomic_flag_test_and_set_explicit(&index->overflow_lock, memory_order_acquire))
        pause_spin(&spins);
}

static void overflow_unlocked(struct index *index) {
    atomic_flag_clear_explicit(&index->overflow_lock, memory_order_release);
}

/* The number of one that is empty, or OVERFLOW_NONE. */
static uint32_t overflow_take(struct store *store) {
    struct index *index = &store->index;
    overflow_locked(index);
    uint32_t taken = index->overflow_free;
    if (taken != OVERFLOW_NONE) {
        index->overflow_free =
            atomic_load_explicit(&index_overflow_at(store, taken)->tail[0], memory_order_relaxed);
        atomic_fetch_sub_explicit(&index->overflow_free_count, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&index->overflow_count, 1, memory_order_relaxed);
    }
    overflow_unlocked(index);
    return taken;
}

/* An empty one goes back. */
static void overflow_put(struct store *store, uint32_t number) {
    struct index *index = &store->index;
    overflow_locked(index);
    atomic_store_explicit(&index_overflow_at(store, number)->tail[0], index->overflow_free,
                          memory_order_relaxed);
    index->overflow_free = number;
    atomic_fetch_add_explicit(&index->overflow_free_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&index->overflow_count, 1, memory_order_relaxed);
    overflow_unlocked(index);
}

/* Under resize_lock. */
static void provision(struct store *store) {
    struct index *index = &store->index;
    if (atomic_load_explicit(&index->overflow_free_count, memory_order_relaxed) >= SPARE_LOW ||
        index->overflow_pages == index->directory_size)
        return;
    struct bucket *page = page_new(store);
    if (page == NULL)
        return;
    uint32_t count = 2 * index_page_buckets(index), first = index->overflow_pages * count;
    struct overflow *fresh = (struct overflow *)page;
    for (uint32_t i = 0; i < count - 1; i++)
        atomic_store_explicit(&fresh[i].tail[0], first + i + 1, memory_order_relaxed);
    atomic_store_explicit(&index->overflow[index->overflow_pages++], page, memory_order_release);
    overflow_locked(index);
    atomic_store_explicit(&fresh[count - 1].tail[0], index->overflow_free, memory_order_relaxed);
    index->overflow_free = first;
    atomic_fetch_add_explicit(&index->overflow_free_count, count, memory_order_relaxed);
    overflow_unlocked(index);
}

void index_provision(struct store *store) {
    uint32_t spare = atomic_load_explicit(&store->index.overflow_free_count, memory_order_relaxed);
    if (spare >= SPARE_LOW)
        return;
    /* Somebody who resizes provides too; only when it gets tight is he waited for. */
    if (spare < SPARE_LOW / 4)
        pthread_mutex_lock(&store->index.resize_lock);
    else if (pthread_mutex_trylock(&store->index.resize_lock) != 0)
        return;
    provision(store);
    pthread_mutex_unlock(&store->index.resize_lock);
}

void index_prefetch(const struct store *store, uint64_t hash) {
    uint32_t buckets = atomic_load_explicit(&store->index.buckets, memory_order_relaxed);
    const struct bucket *bucket = index_bucket_at(store, index_number_of(hash, buckets));
    __builtin_prefetch(bucket, 1);
}

/* ---- locking ---- */

static void lock_bucket(struct bucket *bucket) {
    int spins = 0;
    for (;;) {
        uint32_t version = atomic_load_explicit(&bucket->version, memory_order_relaxed);
        if (!(version & 1) &&
            atomic_compare_exchange_weak(&bucket->version, &version, version + 1)) {
            atomic_thread_fence(memory_order_release);
            return;
        }
        pause_spin(&spins);
    }
}

struct bucket *index_lock(struct store *store, uint64_t hash) {
    for (;;) {
        uint32_t buckets = atomic_load_explicit(&store->index.buckets, memory_order_acquire);
        struct bucket *bucket = index_bucket_at(store, index_number_of(hash, buckets));
        if (bucket == NULL)
            continue;
        lock_bucket(bucket);
        buckets = atomic_load_explicit(&store->index.buckets, memory_order_acquire);
        if (index_bucket_at(store, index_number_of(hash, buckets)) == bucket)
            return bucket;
        index_unlock(bucket);
    }
}

void index_unlock(struct bucket *bucket) {
    atomic_fetch_add_explicit(&bucket->version, 1, memory_order_release);
}

/* ---- slots, under the lock ---- */

static bool record_has_key(const struct record *record, struct ebb_span key) {
    uint64_t lead = atomic_load_explicit(&record->lead, memory_order_relaxed);
    return lead_key_length(lead) == key.length &&
           memcmp(record_key(record, lead), key.at, key.length) == 0;
}

/* Bits that say from the head alone that a slot cannot be the one. */
struct tag {
    uint16_t mask, bits;
};

static struct tag tag_make(const struct store *store, uint64_t hash) {
    return (struct tag){(uint16_t)(store->tag_mask >> SLOT_TAIL_BITS),
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
    struct run run;
    struct tag tag;
    int at;
};

static struct search search_start(const struct store *store, struct bucket *bucket, uint64_t hash) {
    return (struct search){run_of_bucket(bucket), tag_make(store, hash), 0};
}

/* The next slot that has the tag, if any. */
static inline __attribute__((always_inline)) struct place search_next(const struct store *store,
                                                                      struct search *search) {
    for (;;) {
        int at = tagged(&search->run, search->tag, search->at);
        if (at < search->run.slots) {
            search->at = at + 1;
            return run_at(&search->run, at);
        }
        if (!run_next(store, &search->run))
            return (struct place){NULL, NULL};
        search->at = 0;
    }
}

struct place index_find(struct store *store, struct bucket *bucket, struct ebb_span key,
                        uint64_t hash) {
    struct search search = search_start(store, bucket, hash);
    struct place place;
    do
        place = search_next(store, &search);
    while (place.head && !record_has_key(slot_record(store, slot_load(place)), key));
    return place;
}

struct place index_find_place(struct store *store, struct bucket *bucket, uint64_t hash,
                              uint64_t points_to) {
    struct search search = search_start(store, bucket, hash);
    struct place place;
    do
        place = search_next(store, &search);
    while (place.head && slot_place(store, slot_load(place)) != points_to);
    return place;
}

static uint64_t index_insert(struct store *store, struct bucket *bucket, uint64_t slot) {
    struct run run = run_of_bucket(bucket);
    int length = 0;
    do {
        for (int i = 0; i < run.slots; i++)
            if (place_empty(run_at(&run, i))) {
                slot_store(run_at(&run, i), slot);
                return 0;
            }
        length++;
    } while (run_next(store, &run));
    uint32_t more = length <= INDEX_CHAIN_MAX ? overflow_take(store) : OVERFLOW_NONE;
    struct place last = run_last(&run);
    if (more == OVERFLOW_NONE) {
        uint64_t lost = slot_load(last);
        slot_store(last, slot);
        return lost;
    }
    struct run fresh = run_of_overflow(index_overflow_at(store, more));
    slot_store(run_at(&fresh, 0), slot_load(last));
    slot_store(run_at(&fresh, 1), slot);
    slot_store(last, (uint64_t)HEAD_LINK << SLOT_TAIL_BITS | more);
    return 0;
}

/* The chain's last item fills the hole (invariant 6). */
void index_remove(struct store *store, struct bucket *bucket, struct place place) {
    struct run run = run_of_bucket(bucket);
    struct place link = {NULL, NULL};
    while (place_links(run_last(&run))) {
        link = run_last(&run);
        run_next(store, &run);
    }
    if (link.head == NULL) {
        slot_store(place, 0);
        return;
    }
    int taken = run.slots - 1;
    while (place_empty(run_at(&run, taken)))
        taken--;
    slot_store(place, slot_load(run_at(&run, taken)));
    slot_store(run_at(&run, taken), 0);
    if (taken > 1)
        return;
    uint32_t number = link_number(link); /* one is left, which can stand in the link's place */
    slot_store(link, slot_load(run_at(&run, 0)));
    slot_store(run_at(&run, 0), 0);
    overflow_put(store, number);
}

/* ---- reading ---- */

enum look { LOOK_FOUND, LOOK_NOTHING, LOOK_AGAIN };

static bool still(const struct bucket *bucket, uint32_t version) {
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&bucket->version, memory_order_relaxed) == version;
}

static enum look look_in(const struct store *store, struct ebb_span key, struct tag tag,
                         struct found *found) {
    struct run run = run_of_bucket(found->bucket);
    for (;;) {
        for (int i = 0; (i = tagged(&run, tag, i)) < run.slots; i++) {
            struct place place = run_at(&run, i);
            uint64_t slot = slot_load(place);
            uint32_t segment = slot_segment(store, slot); /* any, when the halves are of two */
            char *data = segment < store->segments_max ? segment_data(store, segment) : NULL;
            if (!still(found->bucket, found->version)) /* invariant 2 */
                return LOOK_AGAIN;
            if (!record_has_key((struct record *)(data + slot_offset(store, slot)), key))
                continue;
            found->place = place;
            found->slot = slot;
            found->data = data;
            return LOOK_FOUND;
        }
        struct place last = run_last(&run);
        bool links = place_links(last);
        uint32_t number = link_number(last);
        if (!still(found->bucket, found->version))
            return LOOK_AGAIN;
        if (!links)
            return LOOK_NOTHING;
        run = run_of_overflow(index_overflow_at(store, number));
    }
}

bool index_lookup(const struct store *store, struct ebb_span key, uint64_t hash,
                  struct found *found) {
    struct tag tag = tag_make(store, hash);
    for (int spins = 0;; pause_spin(&spins)) {
        uint32_t buckets = atomic_load_explicit(&store->index.buckets, memory_order_acquire);
        found->bucket = index_bucket_at(store, index_number_of(hash, buckets));
        if (found->bucket == NULL)
            continue;
        found->version = atomic_load_explicit(&found->bucket->version, memory_order_acquire);
        if (found->version & 1)
            continue;
        enum look look = look_in(store, key, tag, found);
        if (look == LOOK_FOUND)
            return true;
        if (look == LOOK_AGAIN)
            continue;
        uint32_t now = atomic_load_explicit(&store->index.buckets, memory_order_acquire);
        if (index_bucket_at(store, index_number_of(hash, now)) == found->bucket &&
            still(found->bucket, found->version))
            return false; /* invariant 3 */
    }
}

/* ---- growing and shrinking ---- */

enum { CHAIN_ITEMS_MAX = BUCKET_SLOTS + INDEX_CHAIN_MAX * (OVERFLOW_SLOTS - 1) };

/* Takes all items out of a locked bucket and its chain; the overflow buckets go back. Returns how
 * many. */
static int take_all(struct store *store, struct bucket *bucket, uint64_t slots[CHAIN_ITEMS_MAX]) {
    struct run run = run_of_bucket(bucket);
    uint32_t number = OVERFLOW_NONE;
    int n = 0;
    for (;;) {
        struct place last = run_last(&run);
        uint32_t next = place_links(last) ? link_number(last) : OVERFLOW_NONE;
        if (next != OVERFLOW_NONE)
            slot_store(last, 0);
        for (int i = 0; i < run.slots; i++) {
            struct place place = run_at(&run, i);
            if (place_empty(place))
                continue;
            slots[n++] = slot_load(place);
            slot_store(place, 0);
        }
        if (number != OVERFLOW_NONE)
            overflow_put(store, number);
        if (next == OVERFLOW_NONE)
            return n;
        number = next;
        run = run_of_overflow(index_overflow_at(store, number));
    }
}

/* Puts a slot in; one that found no room for it any more is an item gone. */
void index_put(struct store *store, struct bucket *bucket, uint64_t slot) {
    uint64_t lost = index_insert(store, bucket, slot);
    if (lost == 0)
        return;
    segment_slot_gone(store, lost);
    atomic_fetch_sub_explicit(&store->items_other, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->evictions, 1, memory_order_relaxed);
}

static bool split_one(struct store *store) {
    struct index *index = &store->index;
    uint32_t last = atomic_load_explicit(&index->buckets, memory_order_relaxed);
    uint32_t page = index_page_of(index, last);
    if (page >= index->directory_size)
        return false;
    if (atomic_load_explicit(&index->pages[page], memory_order_relaxed) == NULL) {
        struct bucket *fresh = page_new(store);
        if (fresh == NULL)
            return false;
        index->pages_count++;
        atomic_store_explicit(&index->pages[page], fresh, memory_order_release);
    }
    struct bucket *from = index_bucket_at(store, index_number_of(last, last));
    struct bucket *to = index_bucket_at(store, last);
    uint64_t slots[CHAIN_ITEMS_MAX];
    lock_bucket(from);
    int n = take_all(store, from, slots);
    lock_bucket(to);
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

static bool merge_one(struct store *store) {
    struct index *index = &store->index;
    uint32_t last = atomic_load_explicit(&index->buckets, memory_order_relaxed) - 1;
    if (last < BUCKETS_MIN)
        return false;
    struct bucket *to = index_bucket_at(store, index_number_of(last, last));
    struct bucket *from = index_bucket_at(store, last);
    uint64_t slots[CHAIN_ITEMS_MAX];
    lock_bucket(to);
    lock_bucket(from);
    int n = take_all(store, from, slots);
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
static bool resize_locked(struct index *index, uint64_t items) {
    if (pthread_mutex_trylock(&index->resize_lock) == 0)
        return true;
    uint64_t buckets = atomic_load_explicit(&index->buckets, memory_order_relaxed);
    return items * 10 > buckets * LOAD_TIGHT_TENTHS && pthread_mutex_lock(&index->resize_lock) == 0;
}

bool index_resize(struct store *store, uint64_t items, int steps) {
    struct index *index = &store->index;
    if (!resize_locked(index, items))
        return false;
    bool moved = true;
    for (; moved && steps > 0; steps--) {
        provision(store);
        uint64_t buckets = atomic_load_explicit(&index->buckets, memory_order_relaxed);
        moved = false;
        if (items * 10 > buckets * LOAD_GROW_TENTHS)
            moved = split_one(store);
        else if (items * 10 < buckets * LOAD_SHRINK_TENTHS && !atomic_load(&store->flushed))
            moved = merge_one(store); /* not while a sweep is on: it would miss what moves back */
    }
    pthread_mutex_unlock(&index->resize_lock);
    return moved;
}

static uint32_t sweep_bucket(struct store *store, struct bucket *bucket) {
    uint64_t slots[CHAIN_ITEMS_MAX];
    uint32_t cleared = 0;
    lock_bucket(bucket);
    int n = take_all(store, bucket, slots);
    for (int i = 0; i < n; i++)
        if (atomic_load(&store->entries[slot_segment(store, slots[i])].flushed))
            cleared++;
        else
            index_put(store, bucket, slots[i]);
    index_unlock(bucket);
    return cleared;
}

void index_sweep_start(struct store *store) {
    pthread_mutex_lock(&store->index.resize_lock);
    store->index.sweep_at = 0;
    pthread_mutex_unlock(&store->index.resize_lock);
}

bool index_sweep(struct store *store) {
    struct index *index = &store->index;
    int64_t cleared = 0;
    pthread_mutex_lock(&index->resize_lock);
    uint32_t buckets = atomic_load(&index->buckets), steps = SWEEP_STEPS;
    for (; index->sweep_at < buckets && steps > 0; index->sweep_at++, steps--)
        cleared += sweep_bucket(store, index_bucket_at(store, index->sweep_at));
    bool all = index->sweep_at >= buckets;
    pthread_mutex_unlock(&index->resize_lock);
    atomic_fetch_sub_explicit(&store->items_other, cleared, memory_order_relaxed);
    return all;
}
