/* ghost -- remembers keys that left probation unread: one that is set again soon goes straight to
 * main.
 *
 * Rows of eight 16-bit cells: 11 bits of the hash and 5 bits of age. Age counts sixteenths of the
 * cache's items in inserts, so a cell is believed for as long as about one cacheful of keys leaves,
 * then it is stale and the first to be overwritten. There are about as many cells as the cache has
 * items, and a page at least. Rows lie in pages, which come and go one by one as in the index
 * (linear hashing), so nobody waits for a table. A new page is empty: what half of another
 * remembered is lost, no harm. Where another limit wants pages much larger or smaller all begins
 * anew, in a struct ghost of its own.
 *
 * 1. One writer of ages, places and pages (under evict_lock); a taker only writes 0 over a cell it
 * believed.
 * 2. 0 is an empty cell: a fingerprint is never 0.
 * 3. A page is there before it is counted; a taker that counted it too late to find it misses. A
 * taker that has the former ghosts takes from those, no harm. */
#include "store/internal.h"
#include <string.h>

enum {
    AGE_MASK = (1 << GHOST_AGE_BITS) - 1,
    AGES_BELIEVED = 16, /* of 32: half the circle, so old and young can be told apart */
    PAGES_PER_SEGMENT = 4,
    PAGE_BYTES_MAX = 4 << 20, /* it is cleared while others wait to evict */
    DIRECTORY_SHARE = 4,      /* of the limit: a cell is far less than a quarter of an item */
    DIRECTORY_MIN = 16,
    GROW_SHARE = 16,   /* of a page's cells: so many inserts make one more, which takes room */
    SHRINK_UNUSED = 3, /* cells an item */
    PAGES_SMALL = 4,   /* so many times too small: anew */
    REACH_SHARE = 16,  /* of the limit, that the directory must reach */
};

static uint16_t fingerprint(uint64_t hash) {
    uint16_t bits = (uint16_t)(hash >> 52) & 0x7FF;
    return (uint16_t)((bits ? bits : 1) << GHOST_AGE_BITS);
}

static uint16_t age_behind(uint16_t cell, uint16_t now) {
    return (uint16_t)((now - cell) & AGE_MASK);
}

static uint64_t capacity(const struct ghost *ghost) {
    return (uint64_t)ghost->pages_count * ghost->page_cells;
}

static size_t page_bytes(const struct ghost *ghost) {
    return ghost->page_cells * sizeof(ghost_cell);
}

uint64_t ghost_bytes(const struct ghost *ghost) {
    return (uint64_t)ghost->pages_count * page_bytes(ghost) +
           ghost->directory_size * sizeof *ghost->pages;
}

static struct ghost *ghost_now(const struct store *store) {
    return atomic_load_explicit(&store->ghost, memory_order_acquire);
}

static uint32_t page_cells_for(const struct store *store) {
    size_t page = (segment_bytes(store) + OBJECT_SLACK) / PAGES_PER_SEGMENT;
    if (page > PAGE_BYTES_MAX)
        page = PAGE_BYTES_MAX;
    return (uint32_t)((page - OBJECT_SLACK) / sizeof(ghost_cell) / GHOST_WAYS) * GHOST_WAYS;
}

/* False: no memory. */
static bool begin(struct store *store) {
    uint32_t cells = page_cells_for(store);
    uint32_t entries =
        (uint32_t)(store_limit(store) / DIRECTORY_SHARE / (cells * sizeof(ghost_cell))) +
        DIRECTORY_MIN;
    struct ghost *ghost = ebb_try_sized(&ebb_type_ghost, sizeof *ghost);
    void *pages = ebb_try_sized(&ebb_type_ghost_directory, entries * sizeof *ghost->pages);
    if (ghost == NULL || pages == NULL)
        return false;
    ghost->page_cells = cells;
    ghost->directory_size = entries;
    ghost->pages = pages;
    store->index_bytes += ghost_bytes(ghost);
    atomic_store_explicit(&store->ghost, ghost, memory_order_release);
    return true;
}

void ghost_start(struct store *store) {
    ebb_assert(begin(store), "no memory for the ghosts of an empty store");
}

static bool suits(const struct store *store, const struct ghost *ghost) {
    uint64_t have = ghost->page_cells, want = page_cells_for(store);
    uint64_t reach = (uint64_t)ghost->directory_size * page_bytes(ghost);
    return have <= want && want < PAGES_SMALL * have && reach >= store_limit(store) / REACH_SHARE;
}

static void grow(struct store *store, struct ghost *ghost) {
    if (store_items(store) <= capacity(ghost) || ghost->pages_count == ghost->directory_size)
        return;
    size_t bytes = page_bytes(ghost);
    ghost_cell *page = ebb_try_sized(&ebb_type_ghost_page, bytes);
    if (page == NULL)
        return;
    memset(page, 0, bytes);
    store->index_bytes += bytes;
    atomic_store_explicit(&ghost->pages[ghost->pages_count], page, memory_order_release);
    atomic_fetch_add_explicit(&ghost->pages_count, 1, memory_order_release);
}

static bool shrink(struct store *store, unsigned unused) {
    struct ghost *ghost = ghost_now(store);
    if (ghost->pages_count < 2 ||
        store_items(store) * unused >= capacity(ghost) - ghost->page_cells)
        return false;
    size_t bytes = page_bytes(ghost);
    uint32_t last = atomic_fetch_sub_explicit(&ghost->pages_count, 1, memory_order_release) - 1;
    atomic_store_explicit(&ghost->pages[last], NULL, memory_order_release);
    store->index_bytes -= bytes;
    ebb_dropped(bytes);
    return true;
}

bool ghost_shrink(struct store *store) {
    return shrink(store, SHRINK_UNUSED);
}

void ghost_fit(struct store *store) {
    pthread_mutex_lock(&store->evict_lock);
    struct ghost *ghost = ghost_now(store);
    if (!suits(store, ghost) && begin(store)) {
        store->index_bytes -= ghost_bytes(ghost);
        ebb_dropped(ghost_bytes(ghost));
    }
    while (shrink(store, 1))
        continue;
    pthread_mutex_unlock(&store->evict_lock);
}

/* NULL: none yet, or just gone. */
static ghost_cell *row_of(const struct ghost *ghost, uint64_t hash) {
    uint32_t count = atomic_load_explicit(&ghost->pages_count, memory_order_acquire);
    if (count == 0)
        return NULL;
    ghost_cell *page =
        atomic_load_explicit(&ghost->pages[index_number_of(hash, count)], memory_order_acquire);
    uint32_t rows = ghost->page_cells / GHOST_WAYS;
    return page ? page + ((hash & UINT32_MAX) * rows >> 32) * GHOST_WAYS : NULL;
}

static uint16_t grow_older(const struct store *store, struct ghost *ghost) {
    uint16_t age = atomic_load_explicit(&ghost->age, memory_order_relaxed);
    if (++ghost->inserts >= ghost->age_inserts) {
        uint64_t items = store_items(store), cells = capacity(ghost);
        ghost->age_inserts = (items < cells ? items : cells) / AGES_BELIEVED;
        ghost->inserts = 0;
        age = (uint16_t)(age + 1) & AGE_MASK;
        atomic_store_explicit(&ghost->age, age, memory_order_relaxed);
    }
    return age;
}

void ghost_add(struct store *store, uint64_t hash) {
    struct ghost *ghost = ghost_now(store);
    if (ghost->until_grown-- == 0) {
        ghost->until_grown = ghost->page_cells / GROW_SHARE;
        grow(store, ghost);
    }
    ghost_cell *row = row_of(ghost, hash), *slot_at = row;
    if (row == NULL)
        return;
    uint16_t now = grow_older(store, ghost), oldest = 0;
    for (int i = 0; i < GHOST_WAYS; i++) {
        uint16_t cell = atomic_load_explicit(&row[i], memory_order_relaxed);
        uint16_t behind = cell == 0 ? AGE_MASK + 1 : age_behind(cell & AGE_MASK, now);
        if (behind >= oldest) {
            oldest = behind;
            slot_at = &row[i];
        }
    }
    atomic_store_explicit(slot_at, fingerprint(hash) | now, memory_order_relaxed);
}

bool ghost_take(struct store *store, uint64_t hash) {
    const struct ghost *ghost = ghost_now(store);
    ghost_cell *row = row_of(ghost, hash);
    uint16_t now = atomic_load_explicit(&ghost->age, memory_order_relaxed);
    for (int i = 0; row && i < GHOST_WAYS; i++) {
        uint16_t cell = atomic_load_explicit(&row[i], memory_order_relaxed);
        if ((cell & ~AGE_MASK) != fingerprint(hash) ||
            age_behind(cell & AGE_MASK, now) > AGES_BELIEVED)
            continue;
        atomic_store_explicit(&row[i], 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&store->ghost_hits, 1, memory_order_relaxed);
        return true;
    }
    return false;
}
