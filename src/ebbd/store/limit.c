/* limit -- another limit while the store is in use.
 *
 * A limit decides how large segments are, and with that how large the pages of the index and of the
 * ghosts are, and what the bits of a slot mean. All of these follow it. Segments that there are
 * stay as they are, beside those of the new size: they leave as all do. The pages of the index are
 * exchanged at one go (index.c), the ghosts begin anew, where they are much too large or too small.
 *
 * 1. Up: the index comes first, so that it has a number and an offset for all that the segments to
 * come will hold.
 * 2. Down: in steps of an eighth. Who survives a step finds room in the segments of that step, and
 * the index, which has the more of the budget the lower the limit, shrinks beside what it leads to.
 * 3. One change at a time (limit_lock). */
#include "store/internal.h"

enum {
    LIMIT_MIN = 1 << 20,
    STEP_SHARE = 8,
};

static void limit_store(struct store *store, uint64_t limit) {
    __atomic_store_n(&store->config.limit_bytes, limit, __ATOMIC_RELAXED);
}

static bool raise_to(struct store *store, uint64_t limit, uint32_t now) {
    struct shape shape = shape_for(limit);
    uint64_t before = store_limit(store);
    limit_store(store, limit);
    if (!reshape_to(store, &shape)) {
        limit_store(store, before);
        return false;
    }
    segments_shape(store, &shape);
    evict_to_budget(store, now);
    ghost_fit(store);
    return true;
}

static void lower_to(struct store *store, uint64_t limit, uint32_t now) {
    while (flush_go_on(store)) /* else the index would not shrink */
        continue;
    for (uint64_t at = store_limit(store); at > limit;) {
        uint64_t next = at - at / STEP_SHARE;
        at = next > limit ? next : limit;
        struct shape shape = shape_for(at);
        limit_store(store, at);
        segments_shape(store, &shape);
        evict_to_budget(store, now);
        index_fit(store);
        reshape_to(store, &shape);
        ghost_fit(store);
    }
}

bool store_limit_set(struct store *store, size_t limit_bytes, uint32_t now) {
    if (limit_bytes < LIMIT_MIN || limit_bytes > store->config.limit_most)
        return false;
    pthread_mutex_lock(&store->limit_lock);
    bool lower = limit_bytes < store_limit(store), done = true;
    atomic_store(&store->limit_asked, limit_bytes);
    if (lower)
        lower_to(store, limit_bytes, now);
    else
        done = raise_to(store, limit_bytes, now);
    atomic_store(&store->limit_asked, store_limit(store));
    ebb_budget_set(store_limit(store));
    pthread_mutex_unlock(&store->limit_lock);
    ebb_stack_clear(); /* what was let go of lay there, in large pieces */
    if (lower)
        ebb_collect_fully(EBB_CAUSE_demand);
    return done;
}
