/* Limit: whatever limits came before, a store is as good as one that began with the limit that it
 * has: as many hits, as many items for a byte. Nothing is wrong meanwhile. */
#include "harness.h"
#include "ebbd/store/internal.h"
#include <ebb/assert.h>
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
    NOW = 2,
    POINTS = 2, /* of a hundred, that may be lost */
    VALUE_MAX = 8 << 20,
};
static const size_t MIB = 1 << 20, LIMIT_MOST = (size_t)16 << 30;

static struct store *open_store(size_t limit, bool evict) {
    ebb_stack_clear(); /* an earlier test's segments count as held until they are collected */
    ebb_collect_fully(EBB_CAUSE_demand);
    struct store_config config = {.limit_bytes = limit,
                                  .limit_most = LIMIT_MOST,
                                  .value_size_max = VALUE_MAX,
                                  .workers = 1,
                                  .evict = evict};
    return store_new(&config);
}

static void limit_is(struct store *store, size_t limit) {
    struct store_stats stats = {0}; /* else it would hold what lay there */
    ck_assert(store_limit_set(store, limit, NOW));
    store_check(store);
    store_stats_read(store, &stats);
    ck_assert_uint_eq(stats.limit_bytes, limit);
    ck_assert_uint_le(stats.segment_bytes + stats.dropped_bytes + stats.index_bytes, limit);
}

/* All bytes of a value are the same, and tell the key. */
static char byte_of(uint32_t number) {
    return (char)(number * 31);
}

static enum store_verdict reserve(struct store_worker *worker, uint32_t number, size_t length,
                                  struct store_reservation *reservation) {
    char key[32];
    snprintf(key, sizeof key, "key-%u", number);
    struct store_new plain = {0};
    enum store_verdict verdict =
        store_reserve(worker, ebb_span_of(key), length, &plain, NOW, reservation);
    if (verdict == STORE_STORED)
        memset(reservation->value, byte_of(number), length);
    return verdict;
}

static enum store_verdict put(struct store_worker *worker, uint32_t number, size_t length) {
    struct store_reservation reservation = {0};
    struct store_new plain = {0};
    enum store_verdict verdict = reserve(worker, number, length, &reservation);
    return verdict == STORE_STORED ? store_commit(worker, &reservation, NOW, &plain, NULL, NULL)
                                   : verdict;
}

/* A hit is whole, and a use. */
static bool is_there(struct store_worker *worker, uint32_t number, size_t length) {
    char key[32];
    struct store_read read;
    snprintf(key, sizeof key, "key-%u", number);
    if (!store_find(worker, ebb_span_of(key), NOW, &read))
        return false;
    ck_assert_uint_eq(read.item.value_length, length);
    bool whole = read.item.value[0] == byte_of(number) &&
                 memcmp(read.item.value, read.item.value + 1, length - 1) == 0;
    ck_assert(whole);
    ck_assert(store_still(&read));
    store_touched(&read);
    return true;
}

/* ---- as good as new ---- */

struct figures {
    double hits;          /* percent */
    double items_per_mib; /* of the limit, without what may be garbage */
};

static size_t length_of(uint32_t number, size_t length) {
    return length + (number % 2 ? number % length : 0);
}

/* An application that looks aside, and asks for a few keys much more often than for most. What it
 * finds is counted after as many turn-overs again. */
static struct figures play(struct store *store, size_t length, unsigned turnovers) {
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_stats stats;
    uint64_t random = 7, asked = 0, hits = 0, fit = store_limit(store) / (length * 5 / 4);
    for (uint64_t i = 0; i < fit * 2 * turnovers * 2; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        double u = (double)(random >> 33) / ((uint64_t)1 << 31);
        uint32_t number = (uint32_t)((double)(fit * 12) * u * u * u * u);
        bool hit = is_there(worker, number, length_of(number, length));
        if (!hit)
            ck_assert_int_eq(put(worker, number, length_of(number, length)), STORE_STORED);
        if (i < fit * 2 * turnovers)
            continue;
        asked++;
        hits += hit;
    }
    store_check(store);
    store_stats_read(store, &stats);
    double bytes = (double)(store_limit(store) - store->batch_bytes);
    return (struct figures){100 * (double)hits / (double)asked,
                            (double)stats.items * (double)MIB / bytes};
}

static void as_good_as_new(const size_t *limits, size_t count, size_t length, unsigned turnovers) {
    struct figures fresh[8];
    for (size_t i = 0; i < count; i++) {
        struct store *store = open_store(limits[i], true);
        fresh[i] = play(store, length, turnovers);
        store_close(store);
    }
    struct store *store = open_store(3 * MIB, true);
    for (size_t n = 0; n < 2 * count - 1; n++) {
        size_t i = n < count ? n : 2 * count - 2 - n; /* up, and down again */
        limit_is(store, limits[i]);
        struct figures now = play(store, length, turnovers);
        printf("%zu MiB, values of %zu bytes: %.1f%% hits (%.1f%% after a start), %.0f items a MiB "
               "(%.0f)\n",
               limits[i] / MIB, length, now.hits, fresh[i].hits, now.items_per_mib,
               fresh[i].items_per_mib);
        ck_assert_double_ge(now.hits, fresh[i].hits - POINTS);
        ck_assert_double_ge(now.items_per_mib, fresh[i].items_per_mib * (100 - POINTS) / 100);
    }
    store_close(store);
}

START_TEST(after_any_limit_a_store_is_as_good_as_new) {
    const size_t small[] = {8 * MIB, 20 * MIB}, large[] = {16 * MIB, 64 * MIB};
    as_good_as_new(small, 2, 300, 2);
    as_good_as_new(large, 2, 9000, 4);
}
END_TEST

/* ---- right meanwhile ---- */

START_TEST(limits_come_and_go_and_every_hit_is_right) {
    static const size_t limits[] = {1, 700, 2, 33, 8, 130, 64, 3, 1024, 9, 2048, 1, 5, 70, 20};
    enum { KEYS = 30000 };
    struct store *store = open_store(MIB, true);
    struct store_worker *worker = store_worker_at(store, 0);
    uint32_t hits = 0;
    for (size_t n = 0; n < sizeof limits / sizeof *limits; n++) {
        limit_is(store, limits[n] * MIB);
        for (uint32_t i = 0; i < KEYS; i++) {
            hits += is_there(worker, i, length_of(i, 200));
            ck_assert_int_eq(put(worker, i, length_of(i, 200)), STORE_STORED);
        }
        store_check(store);
    }
    ck_assert_uint_gt(hits, KEYS);
    store_close(store);
}
END_TEST

/* Ten thousand items of 300 bytes fit all of these limits. */
START_TEST(what_fits_stays) {
    static const size_t limits[] = {64, 700, 8, 64, 9, 2048, 8};
    enum { KEYS = 10000 };
    for (int evict = 0; evict < 2; evict++) {
        struct store *store = open_store(8 * MIB, evict);
        struct store_worker *worker = store_worker_at(store, 0);
        for (uint32_t i = 0; i < KEYS; i++)
            ck_assert_int_eq(put(worker, i, 300), STORE_STORED);
        for (size_t n = 0; n < sizeof limits / sizeof *limits; n++) {
            limit_is(store, limits[n] * MIB);
            for (uint32_t i = 0; i < KEYS; i++)
                ck_assert(is_there(worker, i, 300));
            for (uint32_t i = 0; i < KEYS; i += 7)
                ck_assert_int_eq(put(worker, i, 300), STORE_STORED);
        }
        store_close(store);
    }
}
END_TEST

static uint64_t huge_of(struct store *store) {
    struct store_stats stats;
    store_stats_read(store, &stats);
    return stats.huge;
}

/* Under 1 GiB they lie in segments of 2 MiB, under 16 MiB each in one of its own; and among others
 * again when they have survived there. */
START_TEST(values_larger_than_todays_segments_stay) {
    enum { KEYS = 20, LENGTH = 300000, READ_EVERY = 500 };
    struct store *store = open_store(1024 * MIB, true);
    struct store_worker *worker = store_worker_at(store, 0);
    for (uint32_t i = 0; i < KEYS; i++)
        ck_assert_int_eq(put(worker, i, LENGTH), STORE_STORED);
    ck_assert_uint_eq(huge_of(store), 0);
    limit_is(store, 16 * MIB);
    ck_assert_uint_eq(huge_of(store), KEYS);
    for (uint32_t i = 0; i < KEYS; i++)
        ck_assert(is_there(worker, i, LENGTH));
    limit_is(store, 1024 * MIB);
    for (uint32_t other = 1000; huge_of(store) > 0; other++) {
        ck_assert_int_eq(put(worker, other, 100000), STORE_STORED);
        for (uint32_t i = 0; other % READ_EVERY == 0 && i < KEYS; i++)
            ck_assert(is_there(worker, i, LENGTH));
    }
    store_close(store);
}
END_TEST

START_TEST(a_room_outlives_a_change_of_the_limit) {
    static const size_t limits[] = {2, 1024, 16};
    static const size_t lengths[] = {100, 5000, 200000};
    struct store *store = open_store(64 * MIB, true);
    struct store_worker *worker = store_worker_at(store, 0);
    uint32_t number = 0;
    for (size_t n = 0; n < sizeof limits / sizeof *limits; n++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            struct store_reservation reservation = {0}, unused = {0};
            struct store_new plain = {0};
            limit_is(store, 64 * MIB);
            ck_assert_int_eq(reserve(worker, ++number, lengths[i], &reservation), STORE_STORED);
            ck_assert_int_eq(reserve(worker, number + 1000, lengths[i], &unused), STORE_STORED);
            limit_is(store, limits[n] * MIB);
            store_abandon(worker, &unused);
            ck_assert_int_eq(store_commit(worker, &reservation, NOW, &plain, NULL, NULL),
                             STORE_STORED);
            ck_assert(is_there(worker, number, lengths[i]));
            store_check(store);
        }
    store_close(store);
}
END_TEST

/* What was found before is whole or refused; to say that it was used does no harm. */
START_TEST(a_view_from_before_a_change_is_refused_or_right) {
    struct store *store = open_store(4 * MIB, true);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_read read;
    ck_assert_int_eq(put(worker, 1, 500), STORE_STORED);
    ck_assert(store_find(worker, EBB_SPAN("key-1"), NOW, &read));
    limit_is(store, 4096 * MIB);
    ck_assert(!store_still(&read)); /* its bucket is in another index now */
    store_touched(&read);
    ck_assert(is_there(worker, 1, 500));
    store_check(store);
    store_close(store);
}
END_TEST

/* Few buckets: one more or less is a large part of them. */
START_TEST(the_index_of_few_items_fits_any_limit) {
    struct store *store = open_store(64 * MIB, true);
    struct store_worker *worker = store_worker_at(store, 0);
    for (uint32_t i = 0; i < 600; i++) {
        ck_assert_int_eq(put(worker, i, 10), STORE_STORED);
        ck_assert(store_limit_set(store, 60 * MIB + i * 4096, NOW));
        ck_assert(store_limit_set(store, 50 * MIB, NOW));
        ck_assert(i % 7 || is_there(worker, i, 10));
    }
    store_check(store);
    store_close(store);
}
END_TEST

static atomic_bool lowers;
static atomic_uint steps_seen;

static void look_at_the_limit(void *arg) {
    while (atomic_load(&lowers)) {
        struct store_stats stats;
        store_stats_read(arg, &stats);
        if (stats.limit_bytes != 256 * MIB && stats.limit_bytes != 8 * MIB)
            atomic_fetch_add(&steps_seen, 1);
    }
}

/* It is lowered in steps, which are nobody's business. */
START_TEST(only_limits_that_were_asked_for_are_told) {
    struct store *store = open_store(256 * MIB, true);
    struct store_worker *worker = store_worker_at(store, 0);
    struct ebb_thread *looker;
    for (uint32_t i = 0; i < 200000; i++)
        ck_assert_int_eq(put(worker, i, 500), STORE_STORED);
    atomic_store(&lowers, true);
    ck_assert_int_eq(ebb_thread_start(&looker, "looker", look_at_the_limit, store), EBB_OK);
    limit_is(store, 8 * MIB);
    atomic_store(&lowers, false);
    ebb_thread_join(looker);
    ck_assert_uint_eq(atomic_load(&steps_seen), 0);
    store_close(store);
}
END_TEST

START_TEST(what_is_out_of_bounds_is_refused_and_changes_nothing) {
    struct store *store = open_store(64 * MIB, true);
    ck_assert(!store_limit_set(store, MIB - 1, NOW));
    ck_assert(!store_limit_set(store, LIMIT_MOST + 1, NOW));
    limit_is(store, LIMIT_MOST);
    limit_is(store, MIB);
    store_close(store);
}
END_TEST

HARNESS_MAIN_COLLECTED(
    "limit", after_any_limit_a_store_is_as_good_as_new, limits_come_and_go_and_every_hit_is_right,
    what_fits_stays, values_larger_than_todays_segments_stay, a_room_outlives_a_change_of_the_limit,
    a_view_from_before_a_change_is_refused_or_right, the_index_of_few_items_fits_any_limit,
    only_limits_that_were_asked_for_are_told, what_is_out_of_bounds_is_refused_and_changes_nothing)
