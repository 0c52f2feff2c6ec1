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
 * 2. 0 is an empty cell: a fingerprint is never 0.
 * 3. A table knows its own size, so whoever has the pointer stays inside. */
#include "store/internal.h"
#include <string.h>

enum {
    AGE_MASK = (1 << GHOST_AGE_BITS) - 1,
    AGES_BELIEVED = 16, /* of 32: half the circle, so old and young can be told apart */
    ROWS_MIN = 128,
};

static uint16_t fingerprint(uint64_t hash) {
    uint16_t bits = (uint16_t)(hash >> 52) & 0x7FF;
    return (uint16_t)((bits ? bits : 1) << GHOST_AGE_BITS);
}

static uint32_t row_of(uint64_t hash, uint32_t rows) {
    return (uint32_t)((hash & UINT32_MAX) * rows >> 32);
}

static uint16_t age_now(const struct ghost *ghost, uint32_t rows) {
    uint64_t capacity = (uint64_t)rows * GHOST_WAYS,
             inserts = atomic_load_explicit(&ghost->inserts, memory_order_relaxed);
    return (uint16_t)(inserts * AGES_BELIEVED / capacity & AGE_MASK);
}

static uint16_t age_behind(uint16_t cell, uint16_t now) {
    return (uint16_t)((now - cell) & AGE_MASK);
}

/* A table for the number of items there are: when the present one is too small, or far too large.
 */
static void fit(struct store *store) {
    const struct ghost_table *old = atomic_load_explicit(&store->ghost.table, memory_order_relaxed);
    uint64_t wanted = store_items(store) / GHOST_WAYS + ROWS_MIN;
    if (old && wanted < (uint64_t)old->rows * 5 / 4 && wanted > old->rows / 3)
        return;
    wanted += wanted / 16;
    size_t bytes = sizeof *old + wanted * GHOST_WAYS * sizeof(uint16_t);
    struct ghost_table *table = ebb_try_sized(&ebb_type_ghost_cells, bytes);
    if (table == NULL)
        return;
    memset(table, 0, bytes);
    table->rows = (uint32_t)wanted;
    size_t old_bytes = old ? sizeof *old + (size_t)old->rows * GHOST_WAYS * sizeof(uint16_t) : 0;
    atomic_store_explicit(&store->ghost.table, table, memory_order_release);
    atomic_store_explicit(&store->ghost.inserts, 0, memory_order_relaxed);
    atomic_fetch_add(&store->index_bytes, bytes - old_bytes);
    ebb_dropped(old_bytes);
}

void ghost_add(struct store *store, uint64_t hash) {
    struct ghost *ghost = &store->ghost;
    if (atomic_load_explicit(&ghost->inserts, memory_order_relaxed) % 1024 == 0)
        fit(store);
    struct ghost_table *table = atomic_load_explicit(&ghost->table, memory_order_relaxed);
    if (table == NULL)
        return;
    uint16_t now = age_now(ghost, table->rows), oldest = 0;
    _Atomic uint16_t *row = table->cells + (size_t)row_of(hash, table->rows) * GHOST_WAYS,
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
    atomic_fetch_add_explicit(&ghost->inserts, 1, memory_order_relaxed);
}

bool ghost_take(struct store *store, uint64_t hash) {
    struct ghost *ghost = &store->ghost;
    struct ghost_table *table = atomic_load_explicit(&ghost->table, memory_order_acquire);
    if (table == NULL)
        return false;
    uint16_t now = age_now(ghost, table->rows);
    _Atomic uint16_t *row = table->cells + (size_t)row_of(hash, table->rows) * GHOST_WAYS;
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
