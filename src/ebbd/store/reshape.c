/* reshape -- what the bits of a slot mean, how large the index's pages are, and how both change.
 *
 * Both suit the limit: a page takes about as much as a segment, a slot tells as many segments and
 * offsets apart as there may be. Where a limit wants others an empty index of that shape is made;
 * then all buckets are locked and copied to it, and it is published. That takes about 20 ns a
 * bucket, in which everybody waits; all memory was allocated before.
 *
 * 1. A bucket keeps its number, and a slot its tag or a part of it: no key is looked at.
 * 2. A change of the bits only ever gives the place more of them and the tag fewer. So a lower
 * limit leaves them as they are.
 * 3. The old buckets stay locked for ever and the old directories are cleared: nothing is found or
 * written there any more, and a late look at the old index does not hold its pages. */
#include "store/internal.h"

enum {
    PAGE_BYTES_MAX = 4 << 20, /* a page is cleared while an insert waits for it */
    PAGES_SMALL = 4,          /* a page so many times too small is worth another index */
    DIRECTORY_SHARE = 2,      /* of the limit: more of it is never index, */
    DIRECTORY_AHEAD = 4,      /* of a limit so many times as large: another index then */
    DIRECTORY_MIN = 16,
};

static int bits_for(uint32_t count) {
    return count <= 1 ? 0 : 32 - __builtin_clz(count - 1);
}

/* For what there was and what will be; bits that nothing else needs are the offset's, so that
 * most limits have the same. The tag never gets a bit back: slots do not say it. */
static struct layout layout_for(const struct store *store, const struct shape *shape) {
    uint32_t segments = store->segments_most, bytes = store->segment_bytes_most;
    int number_bits = bits_for(segments > shape->segments_most ? segments : shape->segments_most);
    int offset_bits =
        bits_for((bytes > shape->segment_bytes ? bytes : shape->segment_bytes) / RECORD_ALIGN);
    if (number_bits + offset_bits < SLOT_TAIL_BITS) /* the tag stands in the head only */
        offset_bits = SLOT_TAIL_BITS - number_bits;
    uint64_t address_mask = ((uint64_t)1 << (number_bits + offset_bits)) - 1;
    return (struct layout){.offset_bits = (uint8_t)offset_bits,
                           .offset_mask = ((uint64_t)1 << offset_bits) - 1,
                           .address_mask = address_mask,
                           .tag_mask = SLOT_MAIN - 1 - address_mask};
}

static bool layout_same(const struct layout *one, const struct layout *other) {
    return one->offset_bits == other->offset_bits && one->address_mask == other->address_mask;
}

static void layout_set(struct layout *at, const struct layout *to) {
    atomic_store_explicit(&at->offset_bits, to->offset_bits, memory_order_relaxed);
    atomic_store_explicit(&at->offset_mask, to->offset_mask, memory_order_relaxed);
    atomic_store_explicit(&at->address_mask, to->address_mask, memory_order_relaxed);
    atomic_store_explicit(&at->tag_mask, to->tag_mask, memory_order_relaxed);
}

/* The same slot in another layout, whose tag is no longer. */
static uint64_t slot_again(const struct layout *from, const struct layout *to, uint64_t slot) {
    uint64_t slot_at = slot & from->address_mask, offset = slot_at & from->offset_mask;
    return (slot & (SLOT_FREQ_ALL | SLOT_HUGE | SLOT_MAIN)) |
           tag_not_0(slot & from->tag_mask & to->tag_mask) |
           slot_at >> from->offset_bits << to->offset_bits | offset;
}

static uint32_t page_shift_for(const struct shape *shape) {
    uint32_t shift = 0;
    while ((sizeof(struct bucket) << shift) < shape->segment_bytes &&
           (sizeof(struct bucket) << shift) < PAGE_BYTES_MAX)
        shift++;
    return shift;
}

/* The largest pages do for every larger limit. */
static uint32_t directory_size_for(const struct store *store, uint32_t page_shift) {
    uint64_t page = sizeof(struct bucket) << page_shift,
             bytes = store_limit(store) * DIRECTORY_AHEAD;
    if (page == PAGE_BYTES_MAX && bytes < store->config.limit_most)
        bytes = store->config.limit_most;
    return (uint32_t)(bytes / DIRECTORY_SHARE / page) + DIRECTORY_MIN;
}

static void index_gone(struct store *store, struct index *index) {
    uint64_t bytes = index_bytes(index);
    store->index_bytes -= bytes;
    ebb_dropped(bytes);
}

/* Of so many buckets, all empty. NULL: no memory. */
static struct index *index_new(struct store *store, uint32_t page_shift, uint32_t buckets) {
    uint32_t entries = directory_size_for(store, page_shift);
    size_t bytes = entries * sizeof(struct bucket *);
    struct index *index = ebb_try_sized(&ebb_type_index, sizeof *index);
    void *pages = ebb_try_sized(&ebb_type_index_directory, bytes);
    void *overflow = ebb_try_sized(&ebb_type_index_directory, bytes);
    if (index == NULL || pages == NULL || overflow == NULL)
        return NULL;
    index->page_shift = page_shift;
    index->page_reciprocal =
        (((uint64_t)1 << (32 + page_shift)) - 1) / index_page_buckets(index) + 1;
    index->directory_size = entries;
    index->pages = pages;
    index->overflow = overflow;
    index->overflow_free = OVERFLOW_NONE;
    atomic_flag_clear(&index->overflow_lock);
    atomic_store(&index->buckets, buckets);
    store->index_bytes += 2 * bytes;
    bool all = true;
    for (uint32_t page = 0; all && page <= index_page_of(index, buckets - 1); page++)
        all = page < entries && index_page_add(store, index, page);
    if (all)
        return index;
    index_gone(store, index);
    return NULL;
}

void reshape_start(struct store *store, const struct shape *shape) {
    struct layout layout = layout_for(store, shape);
    layout_set(&store->layout, &layout);
    pthread_mutex_init(&store->resize_lock, NULL);
    struct index *index = index_new(store, page_shift_for(shape), INDEX_BUCKETS_MIN);
    ebb_assert(index != NULL, "no memory for an empty index");
    atomic_store(&store->index, index);
    index_provision(store);
}

static void lock_all(const struct index *index) {
    for (uint32_t i = 0; i < atomic_load(&index->buckets); i++)
        index_bucket_lock(index_bucket_at(index, i));
}

static void unlock_all(const struct index *index) {
    for (uint32_t i = 0; i < atomic_load(&index->buckets); i++)
        index_unlock(index_bucket_at(index, i));
}

/* Locks all buckets, while the other has an overflow bucket for each of this one's. False: no
 * memory, nothing is locked. */
static bool lock_for(struct store *store, const struct index *index, struct index *other) {
    for (;;) {
        while (index_overflow_spare(other) < atomic_load(&index->overflow_count) + INDEX_SPARE_LOW)
            if (!index_overflow_add(store, other))
                return false;
        lock_all(index);
        if (index_overflow_spare(other) >= atomic_load(&index->overflow_count))
            return true;
        unlock_all(index);
    }
}

static void copy_bucket(const struct index *from, struct index *to, uint32_t number,
                        const struct layout *was, const struct layout *is) {
    struct run run = run_of_bucket(index_bucket_at(from, number));
    struct bucket *copy = index_bucket_at(to, number);
    do
        for (int i = 0; i < run.slots; i++) {
            struct slot_ref slot_at = run_at(&run, i);
            if (slot_ref_empty(slot_at) || (i == run.slots - 1 && slot_ref_links(slot_at)))
                continue;
            uint64_t lost = index_insert(to, copy, slot_again(was, is, slot_load(slot_at)));
            ebb_assert(lost == 0, "bucket %u: no room for its copy", number);
        }
    while (run_next(from, &run));
}

/* Under resize_lock. Roots are cleared, so that whoever still sees the old index does not hold what
 * it held; who waits for a bucket there finds none and asks again. */
static bool index_replace(struct store *store, struct index *old, uint32_t page_shift,
                          const struct layout *layout) {
    struct layout was = store->layout;
    struct index *fresh = index_new(store, page_shift, atomic_load(&old->buckets));
    if (fresh == NULL)
        return false;
    if (!lock_for(store, old, fresh)) {
        index_gone(store, fresh);
        return false;
    }
    layout_set(&store->layout, layout);
    for (uint32_t i = 0; i < atomic_load(&old->buckets); i++)
        copy_bucket(old, fresh, i, &was, layout);
    fresh->sweep_at = old->sweep_at;
    atomic_store_explicit(&store->index, fresh, memory_order_release);
    for (uint32_t i = 0; i < old->directory_size; i++) {
        atomic_store_explicit(&old->pages[i], NULL, memory_order_release);
        atomic_store_explicit(&old->overflow[i], NULL, memory_order_release);
    }
    index_gone(store, old);
    return true;
}

/* Not with a page too large or much too small, a directory too short, or twice the directory or the
 * overflow pages that are needed. */
static bool suits(const struct store *store, const struct index *index, uint32_t page_shift) {
    uint64_t have = (uint64_t)1 << index->page_shift, want = (uint64_t)1 << page_shift;
    uint64_t reach = (uint64_t)index->directory_size * index_page_bytes(index);
    uint64_t overflow = atomic_load(&index->overflow_count) + INDEX_SPARE_LOW;
    uint64_t needed = overflow / (2 * index_page_buckets(index)) + 1;
    return have <= want && want < PAGES_SMALL * have &&
           reach >= store_limit(store) / DIRECTORY_SHARE &&
           index->directory_size <= 2 * directory_size_for(store, index->page_shift) &&
           index->overflow_pages <= 2 * needed;
}

bool reshape_to(struct store *store, const struct shape *shape) {
    struct layout layout = layout_for(store, shape);
    uint32_t page_shift = page_shift_for(shape);
    pthread_mutex_lock(&store->resize_lock);
    struct index *index = index_now(store);
    bool same = layout_same(&store->layout, &layout);
    bool done = (same && suits(store, index, page_shift)) ||
                index_replace(store, index, page_shift, &layout) || same;
    pthread_mutex_unlock(&store->resize_lock);
    return done;
}
