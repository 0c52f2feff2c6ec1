/* The store's own tests: what a key holds, what leaves, what stays inside the limit, and many
 * threads at once. */
#include "harness.h"
#include "ebbd/store/store.h"
#include <ebb/assert.h>
#include <ebb/hash.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct store *open_store(size_t limit, int workers) {
    ebb_stack_clear(); /* an earlier test's segments count as held until they are collected */
    ebb_collect_fully(EBB_CAUSE_demand);
    struct store_config config = {
        .limit_bytes = limit, .value_size_max = 8 << 20, .workers = workers, .evict = true};
    return store_new(&config);
}

static enum store_verdict put(struct store_worker *worker, const char *key, const void *value,
                              size_t length, uint32_t expires, uint32_t now) {
    struct store_reservation reservation = {0};
    enum store_verdict verdict =
        store_reserve(worker, ebb_span_of(key), length, &(struct store_new){.expires = expires},
                      now, &reservation);
    if (verdict != STORE_STORED)
        return verdict;
    memcpy(reservation.value, value, length);
    struct store_new new = {.expires = expires, .client_flags = 7};
    return store_commit(worker, &reservation, now, &new, NULL, NULL);
}

/* Length of the value, or -1 for a miss; its bytes in out. */
static long take(struct store_worker *worker, const char *key, uint32_t now, char *out,
                 size_t size) {
    struct store_read read;
    do {
        if (!store_find(worker, ebb_span_of(key), now, &read))
            return -1;
        ebb_assert(read.item.value_length <= size, "%zu bytes", read.item.value_length);
        memcpy(out, read.item.value, read.item.value_length);
    } while (!store_still(&read));
    store_touched(&read);
    return (long)read.item.value_length;
}

START_TEST(what_was_set_is_found) {
    struct store *store = open_store(16 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    char out[64];
    ck_assert_int_eq(take(worker, "a", 2, out, sizeof out), -1);
    ck_assert_int_eq(put(worker, "a", "hello", 5, 0, 2), STORE_STORED);
    ck_assert_int_eq(take(worker, "a", 2, out, sizeof out), 5);
    ck_assert_int_eq(memcmp(out, "hello", 5), 0);
    ck_assert_int_eq(put(worker, "a", "", 0, 0, 2), STORE_STORED);
    ck_assert_int_eq(take(worker, "a", 2, out, sizeof out), 0);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(an_expired_item_is_a_miss_from_its_second_on) {
    struct store *store = open_store(16 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    char out[64];
    put(worker, "k", "v", 1, 10, 2);
    ck_assert_int_eq(take(worker, "k", 9, out, sizeof out), 1);
    ck_assert_int_eq(take(worker, "k", 10, out, sizeof out), -1);
    while (store_tick(store, 10))
        continue;
    struct store_stats stats;
    store_stats_read(store, &stats);
    ck_assert_uint_eq(stats.items, 0);
    ck_assert_uint_eq(stats.segments, 0); /* an open segment is swept too */
    put(worker, "k", "w", 1, 12, 10);
    put(worker, "k", "w", 1, 0, 12);
    store_stats_read(store, &stats);
    ck_assert_uint_eq(stats.items, 1);
    ck_assert_uint_eq(stats.expired_lookups, 2);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(the_index_takes_less_than_nine_bytes_an_item_whatever_their_number) {
    enum { ITEMS = 100000, STEP = 10000, PAGES_BEGUN = 2 * (16 << 10) /* bytes */ };
    struct store *store = open_store(8 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_stats empty, stats;
    char key[32];
    store_stats_read(store, &empty);
    for (int n = 1; n <= ITEMS; n++) {
        snprintf(key, sizeof key, "key-%d", n);
        ck_assert_int_eq(put(worker, key, "", 0, 0, 2), STORE_STORED);
        if (n % STEP > 0)
            continue;
        store_stats_read(store, &stats);
        ck_assert_uint_eq(stats.items, n); /* none was pushed out of its bucket */
        ck_assert_uint_lt(stats.index_bytes - empty.index_bytes, stats.items * 9 + PAGES_BEGUN);
    }
    store_check(store);
    store_close(store);
}
END_TEST

static void remove_it(struct store_update *update, void *context) {
    (void)context;
    update->remove = true;
}

static void bump(struct store_update *update, void *context) {
    (void)context;
    update->value[0]++;
    update->expires = 99;
    update->cas = 0;
}

START_TEST(an_edit_changes_in_place_and_removes) {
    struct store *store = open_store(16 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    char out[8];
    put(worker, "k", "a", 1, 0, 2);
    struct store_read before, after;
    ck_assert(store_find(worker, EBB_SPAN("k"), 2, &before));
    ck_assert(store_update(worker, EBB_SPAN("k"), 2, 0, bump, NULL));
    ck_assert(!store_still(&before));
    ck_assert(store_find(worker, EBB_SPAN("k"), 2, &after));
    ck_assert_uint_gt(after.item.cas, before.item.cas);
    ck_assert_uint_eq(after.item.expires, 99);
    ck_assert_uint_eq(after.item.client_flags, 7);
    ck_assert_int_eq(take(worker, "k", 2, out, sizeof out), 1);
    ck_assert_int_eq(out[0], 'b');
    ck_assert(store_update(worker, EBB_SPAN("k"), 2, 0, remove_it, NULL));
    ck_assert(!store_update(worker, EBB_SPAN("k"), 2, 0, remove_it, NULL));
    store_check(store);
    store_close(store);
}
END_TEST

static enum store_verdict only_if_absent(const struct store_item *old, struct store_new *new,
                                         void *context) {
    (void)new, (void)context;
    return old ? STORE_NOT_STORED : STORE_STORED;
}

START_TEST(a_refused_commit_leaves_the_old_and_wastes_nothing) {
    struct store *store = open_store(16 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    char out[8];
    put(worker, "k", "old", 3, 0, 2);
    for (int i = 0; i < 100000;
         i++) { /* 100,000 reservations of 128 bytes would fill most of the limit */
        struct store_reservation reservation = {0};
        ck_assert_int_eq(
            store_reserve(worker, EBB_SPAN("k"), 100, &(struct store_new){0}, 2, &reservation),
            STORE_STORED);
        struct store_new new = {0};
        ck_assert_int_eq(store_commit(worker, &reservation, 2, &new, only_if_absent, NULL),
                         STORE_NOT_STORED);
    }
    ck_assert_int_eq(take(worker, "k", 2, out, sizeof out), 3);
    struct store_stats stats;
    store_stats_read(store, &stats);
    ck_assert_uint_eq(stats.segments, 1);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(the_limit_holds_while_value_sizes_change) {
    const size_t limit = 32 << 20;
    struct store *store = open_store(limit, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    enum { VALUE = 1 << 20 };
    char *value = ebb_bytes(VALUE);
    const size_t sizes[] = {100, 800, 4096, 40000, 900000, 10};
    char key[32];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t i = 0; i * (sizes[s] + 60) < 3 * limit; i++) {
            snprintf(key, sizeof key, "key-%zu-%zu", s, i);
            ck_assert_int_eq(put(worker, key, value, sizes[s], 0, 2), STORE_STORED);
            struct store_stats stats;
            if (i % 512 != 0)
                continue;
            store_stats_read(store, &stats);
            ck_assert_msg(
                stats.segment_bytes + stats.dropped_bytes + stats.index_bytes <= limit + limit / 50,
                "%lu + %lu + %lu", stats.segment_bytes, stats.dropped_bytes, stats.index_bytes);
        }
        ck_assert_int_eq(take(worker, key, 2, value, VALUE), (long)sizes[s]);
        store_check(store);
    }
    struct store_stats stats;
    store_stats_read(store, &stats);
    ck_assert_uint_gt(stats.evictions, 1000);
    store_close(store);
}
END_TEST

START_TEST(a_huge_value_comes_back_whole_and_its_memory_returns) {
    struct store *store = open_store(32 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    enum { HUGE = 5 << 20 };
    char *value = ebb_bytes(HUGE),
         *out = ebb_bytes(HUGE); /* static arrays would be scanned at each collection */
    for (size_t i = 0; i < HUGE; i++)
        value[i] = (char)(i * 7 + i / 4096);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(put(worker, "huge", value, HUGE, 0, 2), STORE_STORED);
    ck_assert_int_eq(take(worker, "huge", 2, out, HUGE), HUGE);
    ck_assert_int_eq(memcmp(value, out, HUGE), 0);
    ck_assert_int_eq(put(worker, "big", value, HUGE, 0, 2), STORE_STORED);
    struct store_reservation reservation = {0};
    ck_assert_int_eq(
        store_reserve(worker, EBB_SPAN("k"), 8 << 20, &(struct store_new){0}, 2, &reservation),
        STORE_TOO_LARGE);
    store_check(store);
    store_close(store);
}
END_TEST

/* Whatever the limit makes of the segments' size: values of an ordinary segment and huge ones. */
START_TEST(a_store_of_any_size_holds_values_of_any_size) {
    const size_t limits[] = {64 << 20, (size_t)6 << 30, (size_t)20 << 30};
    const size_t lengths[] = {0, 100, 1 << 20, (4 << 20) - 64, (16 << 20) - 64, 17 << 20};
    enum { LIMITS = sizeof limits / sizeof *limits, LENGTHS = sizeof lengths / sizeof *lengths };
    char *value = ebb_bytes(lengths[LENGTHS - 1]), *out = ebb_bytes(lengths[LENGTHS - 1]);
    for (size_t i = 0; i < lengths[LENGTHS - 1]; i++)
        value[i] = (char)(i * 11 + i / 4096);
    for (int l = 0; l < LIMITS; l++) {
        struct store_config config = {
            .limit_bytes = limits[l], .value_size_max = 32 << 20, .workers = 1, .evict = true};
        struct store *store = store_new(&config);
        struct store_worker *worker = store_worker_at(store, 0);
        char key[32];
        for (int i = 0; i < LENGTHS; i++) {
            snprintf(key, sizeof key, "key-%d", i);
            ck_assert_int_eq(put(worker, key, value, lengths[i], 0, 2), STORE_STORED);
            ck_assert_int_eq(take(worker, key, 2, out, 17 << 20), (long)lengths[i]);
            ck_assert_int_eq(memcmp(out, value, lengths[i]), 0);
        }
        store_check(store);
        store_close(store);
        ebb_stack_clear();
        ebb_collect_fully(EBB_CAUSE_demand);
    }
}
END_TEST

START_TEST(a_room_outlives_the_eviction_of_its_segment) {
    struct store *store = open_store(4 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    static char filler[1000];
    char key[32], out[2000];
    struct store_reservation reservation = {0};
    ck_assert_int_eq(
        store_reserve(worker, EBB_SPAN("slow"), 1000, &(struct store_new){0}, 2, &reservation),
        STORE_STORED);
    memset(reservation.value, 'x', 1000);
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        ck_assert_int_eq(put(worker, key, filler, sizeof filler, 0, 2), STORE_STORED);
    }
    struct store_new new = {0};
    ck_assert_int_eq(store_commit(worker, &reservation, 2, &new, NULL, NULL), STORE_STORED);
    ck_assert_int_eq(take(worker, "slow", 2, out, sizeof out), 1000);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(out[i], 'x');
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(a_flush_takes_what_was_before_and_nothing_after) {
    struct store *store = open_store(16 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    char key[32], out[32];
    for (int i = 0; i < 50000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        put(worker, key, "v", 1, 0, 2);
    }
    store_flush(store, 2, 2);
    ck_assert_int_eq(take(worker, "k1", 2, out, sizeof out), -1);
    put(worker, "new", "v", 1, 0, 2);
    ck_assert_int_eq(take(worker, "new", 2, out, sizeof out), 1);
    store_flush(store, 5, 2);
    ck_assert_int_eq(take(worker, "new", 4, out, sizeof out), 1);
    ck_assert_int_eq(take(worker, "new", 5, out, sizeof out), -1);
    put(worker, "later", "v", 1, 0, 5);
    ck_assert_int_eq(take(worker, "later", 5, out, sizeof out), 1);
    struct store_stats stats;
    while (store_tick(store, 6))
        continue;
    store_stats_read(store, &stats);
    ck_assert_uint_eq(stats.items, 1);
    ck_assert_uint_lt(stats.buckets, 2000); /* the index shrank with its items */
    store_check(store);
    store_close(store);
}
END_TEST

static long fill(struct store_worker *worker, const char *prefix, long from, long to) {
    char key[32];
    for (long i = from; i < to; i++) {
        snprintf(key, sizeof key, "%s-%ld", prefix, i);
        ck_assert_int_eq(put(worker, key, key, strlen(key), 0, 2), STORE_STORED);
    }
    return to - from;
}

static long count_found(struct store_worker *worker, const char *prefix, long n) {
    char key[32], out[32];
    long found = 0;
    for (long i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%s-%ld", prefix, i);
        found += take(worker, key, 2, out, sizeof out) >= 0;
    }
    return found;
}

/* What was flushed is a miss at once, and is freed by and by: by the tick, or by who needs room. */
START_TEST(what_was_flushed_is_freed_by_the_tick_or_by_need) {
    struct store *store = open_store(4 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_stats stats;
    const long n = 12000;
    for (int round = 0; round < 3; round++) {
        fill(worker, "old", 0, n);
        store_flush(store, 2, 2);
        ck_assert_int_eq(count_found(worker, "old", n), 0);
        long again = fill(worker, "old", 0, n / 10), new = fill(worker, "new", 0, n / 10);
        store_check(store);
        while (store_tick(store, 2))
            continue;
        store_check(store);
        store_stats_read(store, &stats);
        ck_assert_uint_eq(stats.items, again + new);
        ck_assert_uint_lt(stats.segment_bytes, 1 << 20);
        ck_assert_int_eq(count_found(worker, "old", n), again);
        ck_assert_int_eq(count_found(worker, "new", n), new);
        store_flush(store, 2, 2);
    }
    ck_assert_uint_eq(stats.evictions, 0);
    fill(worker, "much", 0, 6 * n);
    store_check(store);
    store_flush(store, 2, 2);
    fill(worker, "last", 0, 6 * n);
    store_check(store);
    ck_assert_int_eq(count_found(worker, "much", 6 * n), 0);
    ck_assert_int_gt(count_found(worker, "last", 6 * n), n);
    store_close(store);
}
END_TEST

/* A twentieth of the memory for as good a chance of a hit. */
START_TEST(small_values_stay_longer_than_large_ones_read_as_often) {
    struct store *store = open_store(4 << 20, 1);
    struct store_worker *worker = store_worker_at(store, 0);
    static char value[2000];
    char key[32];
    long small = 0, large = 0;
    const int n = 20000;
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, i % 2 ? "small-%d" : "large-%d", i);
        ck_assert_int_eq(put(worker, key, value, i % 2 ? 60 : 1800, 0, 2), STORE_STORED);
        take(worker, key, 2, value, sizeof value);
    }
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, i % 2 ? "small-%d" : "large-%d", i);
        *(i % 2 ? &small : &large) += take(worker, key, 2, value, sizeof value) >= 0;
    }
    ck_assert_int_gt(large, 0);
    ck_assert_int_gt(small, 2 * large);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(without_eviction_a_full_store_refuses) {
    struct store_config config = {
        .limit_bytes = 2 << 20, .value_size_max = 1 << 20, .workers = 1, .evict = false};
    ebb_stack_clear();
    ebb_collect_fully(EBB_CAUSE_demand);
    struct store *store = store_new(&config);
    struct store_worker *worker = store_worker_at(store, 0);
    static char value[1000];
    char key[32], out[1000];
    enum store_verdict verdict = STORE_STORED;
    int stored = 0;
    for (; stored < 10000 && verdict == STORE_STORED; stored++) {
        snprintf(key, sizeof key, "k%d", stored);
        verdict = put(worker, key, value, sizeof value, 0, 2);
    }
    ck_assert_int_eq(verdict, STORE_NO_MEMORY);
    ck_assert_int_gt(stored, 1000);
    ck_assert_int_eq(take(worker, "k0", 2, out, sizeof out), 1000);
    store_check(store);
    store_close(store);
}
END_TEST

/* ---- many threads ---- */

enum { THREADS = 4, KEYS = 4000, ROUNDS = 150000 };

struct stress {
    struct store *store;
    int index;
    uint64_t hits, sets;
};

/* A value says its key and its own length and ends in a checksum: a torn or foreign one cannot
 * pass. */
static size_t value_make(char *out, uint32_t key, uint32_t salt, size_t length) {
    if (length < 24)
        length = 24;
    memset(out, (int)(salt & 0xFF), length);
    memcpy(out, &key, 4);
    memcpy(out + 4, &salt, 4);
    uint64_t sum = ebb_hash(out, length - 8, 42);
    memcpy(out + length - 8, &sum, 8);
    return length;
}

static bool value_good(const char *value, size_t length, uint32_t key) {
    uint64_t sum;
    uint32_t said;
    memcpy(&said, value, 4);
    memcpy(&sum, value + length - 8, 8);
    return said == key && sum == ebb_hash(value, length - 8, 42);
}

/* Check's own assertions leave by longjmp, which another thread must not. */
static void stress_run(void *arg) {
    struct stress *me = arg;
    struct store_worker *worker = store_worker_at(me->store, me->index);
    uint64_t random = (uint64_t)me->index * 7919 + 1;
    static _Thread_local char value[40000], out[40000];
    char key[32];
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        uint32_t number = (uint32_t)(random >> 40) % KEYS, what = (uint32_t)(random >> 33) % 100;
        snprintf(key, sizeof key, "key-%u", number);
        if (what < 50) {
            long length = take(worker, key, 2, out, sizeof out);
            if (length >= 0)
                ebb_assert(value_good(out, (size_t)length, number),
                           "key %u: a foreign or torn value", number);
            me->hits += length >= 0;
        } else if (what < 98) {
            size_t length = what == 97 ? 20000 + random % 19000 : random % 900;
            length = value_make(value, number, (uint32_t)random, length);
            enum store_verdict verdict = put(worker, key, value, length, 0, 2);
            ebb_assert(verdict == STORE_STORED, "set: %d", verdict);
            me->sets++;
        } else {
            store_update(worker, ebb_span_of(key), 2, 0, remove_it, NULL);
        }
    }
}

START_TEST(threads_see_whole_values_of_their_keys_while_segments_leave) {
    struct store *store = open_store(2 << 20, THREADS);
    struct stress stress[THREADS];
    struct ebb_thread *thread[THREADS];
    for (int i = 0; i < THREADS; i++) {
        stress[i] = (struct stress){.store = store, .index = i};
        ck_assert_int_eq(ebb_thread_start(&thread[i], "stress", stress_run, &stress[i]), EBB_OK);
    }
    uint64_t hits = 0;
    for (int i = 0; i < THREADS; i++) {
        ebb_thread_join(thread[i]);
        hits += stress[i].hits;
    }
    ck_assert_uint_gt(hits, 1000);
    struct store_stats stats;
    store_stats_read(store, &stats);
    ck_assert_uint_gt(stats.evictions, 10000);
    store_check(store);
    store_close(store);
}
END_TEST

/* The tests with large values come last: a stale pointer in the test runner's own frames may hold
 * one segment, which is much of a small store. */
HARNESS_MAIN_COLLECTED(
    "store", what_was_set_is_found,
    the_index_takes_less_than_nine_bytes_an_item_whatever_their_number,
    an_expired_item_is_a_miss_from_its_second_on, an_edit_changes_in_place_and_removes,
    a_refused_commit_leaves_the_old_and_wastes_nothing, a_room_outlives_the_eviction_of_its_segment,
    a_flush_takes_what_was_before_and_nothing_after,
    what_was_flushed_is_freed_by_the_tick_or_by_need,
    small_values_stay_longer_than_large_ones_read_as_often, without_eviction_a_full_store_refuses,
    threads_see_whole_values_of_their_keys_while_segments_leave,
    the_limit_holds_while_value_sizes_change, a_huge_value_comes_back_whole_and_its_memory_returns,
    a_store_of_any_size_holds_values_of_any_size)
