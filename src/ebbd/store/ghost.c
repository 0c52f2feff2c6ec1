/* ghost -- remembers keys that left probation unread: one that is set again soon goes straight to
 * main.
 *
 * A table of rows of eight 16-bit cells: 11 bits of the hash and 5 bits of age. Age counts
 * sixteenths of the table's own capacity in inserts, so a cell is believed for as long as about one
 * cacheful of keys leaves, then it is stale and the first to be overwritten. The table has about as
 * many cells as the cache has items; when that no longer fits, a fresh one takes its place and the
 * old one is collected: some ghosts are lost, no harm.
 *
 * 1. One writer of ages and places (the evictor); a taker only writes 0 over a cell it believed.
 * 2. 0 is an empty cell: a fingerprint is never 0. */
#include "store/internal.h"
#include <string.h>

enum {
    AGE_BITS = 5,
    AGE_MASK = (1 << AGE_BITS) - 1,
    AGES_BELIEVED = 16, /* of 32: half the circle, so old and young can be told apart */
    ROWS_MIN = 128,
};

static uint16_t fingerprint(uint64_t hash) {
    uint16_t bits = (uint16_t)(hash >> 52) & 0x7FF;
    return (uint16_t)((bits ? bits : 1) << AGE_BITS);
}

static uint32_t row_of(uint64_t hash, uint32_t rows) {
    return (uint32_t)((hash & UINT32_MAX) * rows >> 32);
}

static uint16_t age_now(const struct ghost *ghost, uint32_t rows) {
    uint64_t capacity = (uint64_t)rows * GHOST_WAYS;
    return (uint16_t)(ghost->inserts * AGES_BELIEVED / capacity & AGE_MASK);
}

static uint16_t age_behind(uint16_t cell, uint16_t now) {
    return (uint16_t)((now - cell) & AGE_MASK);
}

/* A table for the number of items there are: when the present one is too small, or far too large.
 */
static void fit(struct store *store) {
    uint32_t rows = atomic_load_explicit(&store->ghost.rows, memory_order_relaxed);
    uint64_t wanted = store_items(store) / GHOST_WAYS + ROWS_MIN;
    if (rows != 0 && wanted < (uint64_t)rows * 5 / 4 && wanted > rows / 3)
        return;
    wanted += wanted / 8;
    size_t bytes = wanted * GHOST_WAYS * sizeof(uint16_t);
    _Atomic uint16_t *cells = ebb_try_sized(&ebb_type_ghost_cells, bytes);
    if (cells == NULL)
        return;
    memset((void *)cells, 0, bytes);
    atomic_store(&store->ghost.rows, 0); /* nobody looks until both fit */
    atomic_store(&store->ghost.cells, cells);
    atomic_store(&store->ghost.rows, (uint32_t)wanted);
    store->ghost.inserts = 0;
    size_t old = (size_t)rows * GHOST_WAYS * sizeof(uint16_t);
    atomic_fetch_add(&store->index_bytes, bytes - old);
    ebb_dropped(old);
}

void ghost_add(struct store *store, uint64_t hash) {
    struct ghost *ghost = &store->ghost;
    if (ghost->inserts % 1024 == 0)
        fit(store);
    uint32_t rows = atomic_load_explicit(&ghost->rows, memory_order_relaxed);
    if (rows == 0)
        return;
    uint16_t now = age_now(ghost, rows), oldest = 0;
    _Atomic uint16_t *row = atomic_load(&ghost->cells) + (size_t)row_of(hash, rows) * GHOST_WAYS,
                     *place = row;
    for (int i = 0; i < GHOST_WAYS; i++) {
        uint16_t cell = atomic_load_explicit(&row[i], memory_order_relaxed);
        uint16_t behind = cell == 0 ? AGE_MASK + 1 : age_behind(cell & AGE_MASK, now);
        if (behind >= oldest) {
            oldest = behind;
            place = &row[i];
        }
    }
    atomic_store_explicit(place, fingerprint(hash) | now, memory_order_relaxed);
    ghost->inserts++;
}

bool ghost_take(struct store *store, uint64_t hash) {
    struct ghost *ghost = &store->ghost;
    uint32_t rows = atomic_load(&ghost->rows);
    _Atomic uint16_t *cells = atomic_load(&ghost->cells);
    /* The same number again after the cells were read: they belong together (a table never gets its
     * old size back while a thread is between these two lines; if it did, a wrong guess of eleven
     * bits is all that happens). */
    if (rows == 0 || atomic_load(&ghost->rows) != rows)
        return false;
    uint16_t now = age_now(ghost, rows);
    _Atomic uint16_t *row = cells + (size_t)row_of(hash, rows) * GHOST_WAYS;
    for (int i = 0; i < GHOST_WAYS; i++) {
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
