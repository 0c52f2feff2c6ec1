/* Room: a set finds some while anything may leave, whatever the limit, the sizes, and whoever still
 * reads; what has expired gives its memory back; and what moves stays what it was. */
#include "harness.h"
#include "ebbd/store/internal.h"
#include "telemetry/metrics.h"
#include <ebb/assert.h>
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NOW = 2, VALUE_MAX = 2 << 20 };
static const size_t LIMIT_MOST = (size_t)8 << 30;

static struct store *open_store(size_t limit, int workers, size_t value_max) {
    ebb_stack_clear(); /* an earlier test's segments count as held until they are collected */
    ebb_collect_fully(EBB_CAUSE_demand);
    struct store_config config = {.limit_bytes = limit,
                                  .limit_most = LIMIT_MOST,
                                  .value_size_max = value_max,
                                  .workers = workers,
                                  .evict = true};
    return store_new(&config);
}

/* A value of 'v's. */
static enum store_verdict put(struct store_worker *worker, const char *key, size_t length,
                              uint32_t expires, uint32_t now, struct store_new *new) {
    struct store_reservation reservation = {0};
    enum store_verdict verdict =
        store_reserve(worker, ebb_span_of(key), length, &(struct store_new){.expires = expires},
                      now, &reservation);
    if (verdict != STORE_STORED)
        return verdict;
    memset(reservation.value, 'v', length);
    struct store_new plain = {.expires = expires};
    return store_commit(worker, &reservation, now, new ? new : &plain, NULL, NULL);
}

static void put_many(struct store_worker *worker, const char *prefix, int count, size_t length,
                     uint32_t expires, uint32_t now) {
    char key[96];
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%s-%d", prefix, i);
        enum store_verdict verdict = put(worker, key, length, expires, now, NULL);
        ebb_assert(verdict == STORE_STORED, "%s of %zu bytes: %d", key, length, verdict);
    }
}

static struct store_stats stats_of(struct store *store) {
    struct store_stats stats;
    store_stats_read(store, &stats);
    return stats;
}

static bool read_now(struct store_worker *worker, const char *key, uint32_t now,
                     struct store_item *item) {
    struct store_read read;
    do {
        if (!store_find(worker, ebb_span_of(key), now, &read))
            return false;
        *item = read.item;
    } while (!store_still(&read));
    return true;
}

START_TEST(a_limit_below_a_mebibyte_is_raised_to_one) {
    const size_t limits[] = {0, 1, 4096, 200000, (1 << 20) - 1};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct store *store = open_store(limits[i], 1, 1 << 20);
        ck_assert_uint_eq(stats_of(store).limit_bytes, 1 << 20);
        put_many(store_worker_at(store, 0), "k", 20000, 100, 0, NOW);
        ck_assert_uint_gt(stats_of(store).items, 2000);
        store_check(store);
        store_close(store);
    }
}
END_TEST

/* What may be garbage follows the limit, and leaves the rest of it to what lives. */
START_TEST(a_limit_that_all_items_fit_in_takes_none) {
    struct store *store = open_store(256 << 20, 1, VALUE_MAX);
    put_many(store_worker_at(store, 0), "k", 4000, 900, 0, NOW);
    ck_assert(store_limit_set(store, 8 << 20, NOW));
    struct store_stats stats = stats_of(store);
    ck_assert_uint_eq(stats.items, 4000);
    ck_assert_uint_eq(stats.evictions, 0);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(values_of_all_sizes_fit_the_smallest_store_or_are_refused) {
    struct store *store = open_store(1 << 20, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    char key[64];
    struct store_item item;
    ck_assert_int_eq(put(worker, "k", 10, 0, NOW, NULL), STORE_STORED);
    for (size_t length = 1; length <= VALUE_MAX - 200; length = length * 5 / 4 + 1)
        for (int i = 0; i < 5; i++) {
            snprintf(key, sizeof key, "k-%zu-%d", length, i);
            enum store_verdict verdict = put(worker, key, length, 0, NOW, NULL);
            if (length < 300000) /* stale pointers may hold one such value */
                ck_assert_int_eq(verdict, STORE_STORED);
            if (length > 1 << 20)
                ck_assert_int_eq(verdict, STORE_NO_MEMORY);
            ck_assert_int_eq(read_now(worker, key, NOW, &item), verdict == STORE_STORED);
        }
    store_check(store);
    put_many(worker, "small", 1000, 100, 0, NOW);
    ck_assert(read_now(worker, "small-999", NOW, &item));
    ck_assert_int_eq(put(worker, "k", VALUE_MAX, 0, NOW, NULL), STORE_TOO_LARGE);
    store_check(store);
    store_close(store);
}
END_TEST

/* Each reader holds what it read, as a connection does that sends from a segment. */
START_TEST(sets_go_on_while_readers_hold_segments) {
    enum { HELD = 24 };
    struct store *store = open_store(2 << 20, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    const void *volatile pin[HELD];
    char key[64];
    struct store_item item;
    for (int i = 0; i < HELD; i++) {
        snprintf(key, sizeof key, "held-%d", i);
        ck_assert_int_eq(put(worker, key, 3000, 0, NOW, NULL), STORE_STORED);
        ck_assert(read_now(worker, key, NOW, &item));
        pin[i] = item.pin;
        snprintf(key, sizeof key, "between-%d", i);
        put_many(worker, key, 10, 3000, 0, NOW);
    }
    put_many(worker, "more", 20000, 900, 0, NOW);
    put_many(worker, "huge", 100, 40000, 0, NOW);
    struct store_stats stats = stats_of(store);
    ck_assert_uint_gt(stats.dropped_bytes, 100000); /* what is held counts */
    ck_assert_uint_le(stats.segment_bytes + stats.dropped_bytes + stats.index_bytes,
                      (2 << 20) + (2 << 20) / 50);
    for (int i = 0; i < HELD; i++)
        ck_assert(pin[i] != NULL);
    store_check(store);
    store_close(store);
}
END_TEST

/* Values too long to be written over in place, of half as many keys again as there is room for. How
 * much lives goes up and down with what is cleaned, so it is the mean once it has settled. */
START_TEST(random_overwrites_leave_most_of_the_memory_alive_and_copy_little) {
    enum { LIMIT = 16 << 20, KEYS = 17500, WRITES = 150000, SETTLED = 50000, LOOKS = 100 };
    struct store *store = open_store(LIMIT, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_item item;
    uint32_t random = 1;
    uint64_t live = 0;
    char key[64];
    for (int i = 0; i < WRITES; i++) {
        random = random * 1664525 + 1013904223;
        snprintf(key, sizeof key, "key-%u", (random >> 8) % KEYS);
        ck_assert_int_eq(put(worker, key, 1500, 0, NOW, NULL), STORE_STORED);
        random = random * 1664525 + 1013904223;
        snprintf(key, sizeof key, "key-%u", (random >> 8) % KEYS);
        read_now(worker, key, NOW, &item);
        if (i >= SETTLED && i % ((WRITES - SETTLED) / LOOKS) == 0)
            live += stats_of(store).bytes / LOOKS;
    }
    struct store_stats stats = stats_of(store);
    ck_assert_uint_gt(live, LIMIT / 100 * 80);
    ck_assert_uint_lt(stats.copied_bytes, stats.written_bytes / 2 * 3);
    store_check(store);
    store_close(store);
}
END_TEST

struct filler {
    struct store *store;
    int index;
};

static void fill(void *arg) {
    struct filler *me = arg;
    struct store_worker *worker = store_worker_at(me->store, me->index);
    static const size_t lengths[] = {10, 300, 2000, 9000, 60000, 200000};
    char key[64];
    for (int i = 0; i < 3000; i++) {
        size_t length = lengths[(i * 7 + me->index) % (i % 50 == 0 ? 6 : 4)];
        snprintf(key, sizeof key, "f-%d-%d", me->index, i);
        enum store_verdict verdict = put(worker, key, length, 0, NOW, NULL);
        ebb_assert(verdict == STORE_STORED, "%zu bytes: %d", length, verdict);
    }
}

START_TEST(many_threads_never_run_out_of_a_tiny_store) {
    enum { FILLERS = 8 };
    struct store *store = open_store(1 << 20, FILLERS, VALUE_MAX);
    struct filler filler[FILLERS];
    struct ebb_thread *thread[FILLERS];
    for (int i = 0; i < FILLERS; i++) {
        filler[i] = (struct filler){store, i};
        ck_assert_int_eq(ebb_thread_start(&thread[i], "filler", fill, &filler[i]), EBB_OK);
    }
    for (int i = 0; i < FILLERS; i++)
        ebb_thread_join(thread[i]);
    ck_assert_uint_gt(stats_of(store).evictions, 10000);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(records_of_a_size_leave_no_room_between_them) {
    const size_t values[] = {100, 300, 1024}; /* bytes; none divides a chunk of 32 KiB */
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct store *store = open_store(512 << 20, 1, VALUE_MAX);
        struct store_worker *worker = store_worker_at(store, 0);
        struct store_stats last, now = {0};
        char key[32];
        for (int n = 0; now.segments < 2; n++) {
            last = now;
            snprintf(key, sizeof key, "key-%08d", n);
            ck_assert_int_eq(put(worker, key, values[i], 0, NOW, NULL), STORE_STORED);
            now = stats_of(store);
        }
        ck_assert_uint_lt(last.segment_bytes - last.bytes, now.bytes - last.bytes);
        store_check(store);
        store_close(store);
    }
}
END_TEST

START_TEST(what_moves_stays_what_it_was) {
    struct store *store = open_store(2 << 20, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_new new = {.client_flags = 77, .expires = 5000, .item_flags = STORE_STALE};
    ck_assert_int_eq(put(worker, "kept", 100, 5000, NOW, &new), STORE_STORED);
    struct store_item before, after;
    struct store_read read;
    const void *first = NULL;
    int slots_at = 0;
    for (int i = 0; i < 200; i++) {
        for (int reads = 0; reads < 200; reads++) { /* else the store thinks that nobody reads */
            ck_assert_msg(store_find(worker, EBB_SPAN("kept"), NOW + 1, &read), "round %d", i);
            store_touched(&read);
        }
        ck_assert(read_now(worker, "kept", NOW + 1, i == 0 ? &before : &after));
        slots_at += i > 0 && after.pin != first;
        first = i == 0 ? before.pin : after.pin;
        char prefix[32];
        snprintf(prefix, sizeof prefix, "other-%d", i);
        put_many(worker, prefix, 400, 100, 0, NOW + 2);
    }
    ck_assert_int_gt(slots_at, 0); /* it was moved */
    ck_assert_uint_eq(after.cas, before.cas);
    ck_assert_uint_eq(after.expires, 5000);
    ck_assert_uint_eq(after.client_flags, 77);
    ck_assert_uint_eq(after.last_access, NOW + 1);
    ck_assert_uint_eq(after.item_flags, STORE_STALE | STORE_FETCHED);
    ck_assert(read_now(worker, "kept", 4999, &after));
    ck_assert(!read_now(worker, "kept", 5000, &after));
    store_check(store);
    store_close(store);
}
END_TEST

static void lengthen(struct store_update *update, void *context) {
    update->expires = *(uint32_t *)context;
}

START_TEST(the_sweeper_returns_expired_memory_without_traffic) {
    struct store *store = open_store(16 << 20, 2, VALUE_MAX);
    struct store_item item;
    for (int i = 0; i < 2; i++) { /* both workers have open chunks, and then go idle */
        put_many(store_worker_at(store, i), i ? "a" : "b", 20000, 100, 100 + (uint32_t)i, NOW);
        put_many(store_worker_at(store, i), i ? "c" : "d", 3, 400000, 100, NOW);
    }
    put_many(store_worker_at(store, 0), "stays", 10, 100, 0, NOW);
    uint32_t longer = 200;
    ck_assert(
        store_update(store_worker_at(store, 0), EBB_SPAN("a-5"), NOW, longer, lengthen, &longer));
    ck_assert_uint_gt(stats_of(store).segment_bytes, 4 << 20);
    while (store_tick(store, 99))
        continue;
    ck_assert_uint_eq(stats_of(store).items, 2 * 20000 + 2 * 3 + 10);
    store_check(store);
    while (store_tick(store, 101))
        continue;
    ebb_stack_clear();
    ebb_collect_fully(EBB_CAUSE_demand);
    struct store_stats stats = stats_of(store);
    ck_assert(read_now(store_worker_at(store, 0), "a-5", 101, &item)); /* though its segment left */
    ck_assert(!read_now(store_worker_at(store, 0), "a-6", 101, &item));
    ck_assert_uint_lt(stats.segment_bytes, 256 << 10);
    ck_assert_uint_lt(stats.dropped_bytes, 128 << 10); /* idle workers hold nothing */
    store_check(store);
    store_close(store);
}
END_TEST

enum { THREADS = 4, TURN_OVERS_BYTES = 200 << 20 };

struct stayer {
    struct store_worker *worker;
    int number;
    pthread_barrier_t *full, *done;
};

static void fill_and_stay(void *arg) {
    struct stayer *stayer = arg;
    char prefix[16];
    snprintf(prefix, sizeof prefix, "t%d", stayer->number);
    put_many(stayer->worker, prefix, TURN_OVERS_BYTES / THREADS / 1000, 900, 0, NOW);
    pthread_barrier_wait(stayer->full);
    pthread_barrier_wait(stayer->done);
}

/* What a thread walked, and what the collector copied in it, must hold no segment: a large one is
 * more than the garbage that may gather. */
START_TEST(one_collection_frees_all_that_left_whoever_walked_it) {
    struct store *store = open_store(64 << 20, THREADS, VALUE_MAX);
    pthread_barrier_t full, done;
    pthread_barrier_init(&full, NULL, THREADS + 1);
    pthread_barrier_init(&done, NULL, THREADS + 1);
    struct ebb_thread *threads[THREADS];
    struct stayer stayers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        stayers[i] = (struct stayer){store_worker_at(store, i), i, &full, &done};
        ck_assert_int_eq(ebb_thread_start(&threads[i], "stayer", fill_and_stay, &stayers[i]),
                         EBB_OK);
    }
    pthread_barrier_wait(&full);
    ebb_collect(EBB_CAUSE_demand);
    struct store_stats stats = stats_of(store);
    pthread_barrier_wait(&done);
    for (int i = 0; i < THREADS; i++)
        ebb_thread_join(threads[i]);
    ck_assert_uint_gt(stats.evictions, 100000);
    ck_assert_uint_le(stats.dropped_bytes, 128 << 10); /* one segment */
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(the_ghosts_follow_the_number_of_items) {
    struct store *store = open_store(16 << 20, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    put_many(worker, "fills", 200000, 100, 0, NOW); /* more than there is room for */
    put_many(worker, "left", 5000, 100, 0, NOW);
    put_many(worker, "pushes-out", 150000, 100, 0, NOW);
    uint64_t hits = stats_of(store).ghost_hits, index_bytes = stats_of(store).index_bytes;
    ck_assert(!read_now(worker, "left-4999", NOW, &(struct store_item){0}));
    put_many(worker, "left", 5000, 100, 0, NOW);
    ck_assert_uint_gt(stats_of(store).ghost_hits - hits, 4500);
    hits = stats_of(store).ghost_hits;
    put_many(worker, "never-seen", 5000, 100, 0, NOW);
    ck_assert_uint_lt(stats_of(store).ghost_hits - hits, 500);
    store_check(store);
    store_flush(store, NOW, NOW);
    while (store_tick(store, NOW))
        continue;
    /* Nothing is left of them but a page, nor of the index. */
    ck_assert_uint_lt(stats_of(store).index_bytes, index_bytes / 2);
    store_check(store);
    store_close(store);
}
END_TEST

/* A page of ghosts has cells for many more keys than there are items of 30 KB. */
START_TEST(a_ghost_is_forgotten_when_as_many_left_as_there_are_items) {
    struct store *store = open_store(64 << 20, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    put_many(worker, "fills", 4000, 30000, 0, NOW);
    put_many(worker, "left", 500, 30000, 0, NOW);
    put_many(worker, "pushes-out", 3000, 30000, 0, NOW);
    uint64_t hits = stats_of(store).ghost_hits;
    put_many(worker, "left", 500, 30000, 0, NOW);
    ck_assert_uint_gt(stats_of(store).ghost_hits - hits, 400);
    put_many(worker, "long-gone", 500, 30000, 0, NOW);
    put_many(worker, "pushes-on", 12000, 30000, 0, NOW);
    hits = stats_of(store).ghost_hits;
    put_many(worker, "long-gone", 500, 30000, 0, NOW);
    ck_assert_uint_lt(stats_of(store).ghost_hits - hits, 50);
    store_check(store);
    store_close(store);
}
END_TEST

static void remove_it(struct store_update *update, void *context) {
    (void)context;
    update->remove = true;
}

/* Without eviction (-M) what lives stays, also where cleaning finds no room for it: values of a bit
 * more than a quarter of a segment have segments of their own, and those run out. */
START_TEST(without_eviction_nothing_that_lives_leaves) {
    enum { KEYS = 100000, EVERY = 3 };
    struct store *store = open_store(64 << 20, 1, VALUE_MAX);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_item item;
    char key[64];
    store->config.evict = false;
    put_many(worker, "small", KEYS, 300, 0, NOW);
    for (int i = 0; i < KEYS; i += EVERY) {
        snprintf(key, sizeof key, "small-%d", i);
        ck_assert(store_update(worker, ebb_span_of(key), NOW, 0, remove_it, NULL));
    }
    ck_assert(store_limit_set(store, 160 << 20, NOW));
    int stored = 0;
    enum store_verdict verdict;
    do {
        snprintf(key, sizeof key, "large-%d", stored++);
        verdict = put(worker, key, 33000, 0, NOW, NULL);
    } while (verdict == STORE_STORED);
    ck_assert_int_eq(verdict, STORE_NO_MEMORY);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "small-%d", i);
        ck_assert_int_eq(read_now(worker, key, NOW, &item), i % EVERY != 0);
    }
    ck_assert_uint_eq(stats_of(store).evictions, 0);
    store_check(store);
    store_close(store);
}
END_TEST

static atomic_bool writes;

static void write_fresh(void *arg) {
    put_many(arg, "fresh", 40000, 900, 0, NOW);
    atomic_store(&writes, false);
}

START_TEST(a_tick_beside_a_writer_counts_only_what_left) {
    struct store *store = open_store(64 << 20, 1, VALUE_MAX);
    uint64_t dropped = ebb_metric_value(&ebb_metric_dropped_bytes);
    struct ebb_thread *writer;
    atomic_store(&writes, true);
    ck_assert_int_eq(ebb_thread_start(&writer, "writer", write_fresh, store_worker_at(store, 0)),
                     EBB_OK);
    while (atomic_load(&writes))
        store_tick(store, NOW);
    ebb_thread_join(writer);
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_dropped_bytes), dropped);
    store_check(store);
    store_close(store);
}
END_TEST

/* As when the thread that resizes has lost its processor. */
START_TEST(nothing_is_lost_while_somebody_resizes_for_long) {
    struct store *store = open_store(64 << 20, 1, VALUE_MAX);
    struct ebb_thread *writer;
    atomic_store(&writes, true);
    pthread_mutex_lock(&store->resize_lock);
    ck_assert_int_eq(ebb_thread_start(&writer, "writer", write_fresh, store_worker_at(store, 0)),
                     EBB_OK);
    uint64_t before;
    do { /* until it has ended, or waits */
        before = store_items(store);
        usleep(50000);
    } while (store_items(store) != before || before == 0);
    pthread_mutex_unlock(&store->resize_lock);
    ebb_thread_join(writer);
    ck_assert_uint_eq(stats_of(store).evictions, 0);
    ck_assert_uint_eq(stats_of(store).items, 40000);
    store_check(store);
    store_close(store);
}
END_TEST

HARNESS_MAIN_COLLECTED(
    "room", a_limit_below_a_mebibyte_is_raised_to_one,
    random_overwrites_leave_most_of_the_memory_alive_and_copy_little,
    a_limit_that_all_items_fit_in_takes_none, records_of_a_size_leave_no_room_between_them,
    what_moves_stays_what_it_was, the_sweeper_returns_expired_memory_without_traffic,
    sets_go_on_while_readers_hold_segments, many_threads_never_run_out_of_a_tiny_store,
    one_collection_frees_all_that_left_whoever_walked_it, the_ghosts_follow_the_number_of_items,
    a_ghost_is_forgotten_when_as_many_left_as_there_are_items,
    without_eviction_nothing_that_lives_leaves, a_tick_beside_a_writer_counts_only_what_left,
    nothing_is_lost_while_somebody_resizes_for_long,
    values_of_all_sizes_fit_the_smallest_store_or_are_refused)
