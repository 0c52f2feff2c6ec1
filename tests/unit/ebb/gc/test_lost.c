/* Lost objects: each is counted by the first collection after it was lost, whatever lives beside
 * it, and none that lives. */
#include "harness.h"
#include <ebb/collector.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

/* HELD: so many may be held by words that calls have left on the stack. */
enum { KEPT_MAX = 20000, LOST_LEAST = 20, HELD = 2, THREADS = 3, ROUNDS = 40, RING = 512 };

EBB_TYPE_DEFINE(scanned, EBB_POINTERS, EBB_OWNED, "an object with pointers")
EBB_TYPE_DEFINE(flat, EBB_BYTES, EBB_OWNED, "an object without pointers")
EBB_TYPE_DEFINE(common, EBB_POINTERS, EBB_SHARED, "an object that nobody must remember")

static struct ebb_type *const types[] = {&ebb_type_scanned, &ebb_type_flat, &ebb_type_common};
static void *kept[KEPT_MAX];

static __attribute__((noinline)) void clear_stack(void) {
    volatile char old[16384];
    memset((char *)old, 0, sizeof old);
    ebb_keep(old);
    ebb_stack_clear();
}

static __attribute__((noinline)) void collect_once(void) {
    clear_stack();
    ebb_collect(EBB_CAUSE_demand);
}

/* Makes count objects, of which one in step is lost; returns how many. */
static __attribute__((noinline)) int fill(struct ebb_type *type, size_t size, int count, int step) {
    int lost = 0;
    for (int i = 0; i < count; i++) {
        void *object = ebb_new_sized(type, size);
        bool loses = i % step == step / 2;
        kept[i] = loses ? NULL : object;
        lost += loses;
    }
    return lost;
}

static __attribute__((noinline)) void release_all(void) {
    for (int i = 0; i < KEPT_MAX; i++) {
        ebb_done(kept[i]);
        kept[i] = NULL;
    }
}

static void check_one(struct ebb_type *type, size_t size, int step) {
    int count = step * LOST_LEAST < KEPT_MAX ? step * LOST_LEAST : KEPT_MAX;
    if (count < 1000)
        count = 1000;
    uint64_t before = type->leaked, bytes = type->leaked_bytes;
    uint64_t lost = (uint64_t)fill(type, size, count, step);
    collect_once();
    uint64_t counted = type->leaked - before;
    ck_assert_msg(counted <= lost && counted + HELD >= lost,
                  "%s of %zu bytes, 1 of %d: %llu lost, %llu counted", type->name, size, step,
                  (unsigned long long)lost, (unsigned long long)counted);
    ck_assert_uint_eq(type->leaked_bytes - bytes, counted * size);
    release_all();
    collect_once();
    ck_assert_uint_le(type->leaked - before, lost);
}

START_TEST(one_collection_counts_each_lost_object_whatever_lives_beside_it) {
    static const size_t sizes[] = {16, 48, 112, 200, 500, 1000, 2000, 2032, 2033, 4096, 8192};
    ebb_types_add(types, 3);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int step = 1; step <= 1024; step *= 2) {
            if (sizes[i] > 2033 && step > 64)
                continue; /* an object with blocks of its own has no neighbours */
            check_one(&ebb_type_scanned, sizes[i], step);
            check_one(&ebb_type_flat, sizes[i], step);
        }
}
END_TEST

struct found {
    uint64_t scanned, flat, ages;
};

static void see_site(const struct ebb_site *site, void *context) {
    struct found *found = context;
    if (site->type == &ebb_type_scanned)
        found->scanned += site->leaked;
    if (site->type == &ebb_type_flat)
        found->flat += site->leaked;
    found->ages += site->age_seconds_sum;
}

START_TEST(objects_of_several_types_in_one_block_are_told_apart) {
    ebb_types_add(types, 3);
    uint64_t scanned = ebb_type_scanned.leaked, common = ebb_type_common.leaked;
    struct found before = {0}, after = {0};
    ebb_leaks_each(see_site, &before);
    for (int i = 0; i < 3000; i++) {
        kept[2 * i] = ebb_new_sized(&ebb_type_scanned, 48);
        kept[2 * i + 1] = ebb_new_sized(&ebb_type_common, 48);
        if (i % 100 == 50)
            kept[2 * i] = NULL;
        if (i % 50 == 20)
            kept[2 * i + 1] = NULL;
    }
    collect_once();
    ck_assert_uint_le(ebb_type_scanned.leaked - scanned, 30);
    ck_assert_uint_ge(ebb_type_scanned.leaked - scanned, 30 - HELD);
    ck_assert_uint_eq(ebb_type_common.leaked, common);
    ebb_leaks_each(see_site, &after);
    ck_assert_uint_eq(after.scanned - before.scanned, ebb_type_scanned.leaked - scanned);
    ck_assert_uint_eq(after.flat, before.flat);
    for (int i = 0; i < 3000; i++) {
        ebb_done(kept[2 * i]);
        kept[2 * i] = kept[2 * i + 1] = NULL;
    }
}
END_TEST

static _Atomic uint64_t lost_by_threads;
static _Atomic int threads_ended;

/* A ring of objects, each replaced again and again: 15 of 16 are released, one is lost. */
static void run_loser(void *arg) {
    void **ring = ebb_new_sized(&ebb_type_common, RING * sizeof *ring);
    *ebb_thread_slot() = ring;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < RING; i++) {
            if (ring[i] && (round + i) % 16 == 0)
                atomic_fetch_add(&lost_by_threads, 1); /* before it is */
            else
                ebb_done(ring[i]);
            ring[i] = ebb_new_sized(arg, 64);
        }
    for (int i = 0; i < RING; i++)
        ebb_done(ring[i]);
    *ebb_thread_slot() = NULL;
    atomic_fetch_add(&threads_ended, 1);
}

static void collect_beside_losers(void) {
    ebb_types_add(types, 3);
    collect_once();
    atomic_store(&lost_by_threads, 0);
    atomic_store(&threads_ended, 0);
    struct ebb_thread *thread[THREADS];
    uint64_t before = ebb_type_scanned.leaked;
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(ebb_thread_start(&thread[i], "loser", run_loser, &ebb_type_scanned),
                         EBB_OK);
    while (atomic_load(&threads_ended) < THREADS) {
        ebb_collect(EBB_CAUSE_demand);
        uint64_t counted = ebb_type_scanned.leaked - before;
        ck_assert_uint_le(counted, atomic_load(&lost_by_threads));
    }
    for (int i = 0; i < THREADS; i++)
        ebb_thread_join(thread[i]);
    collect_once();
    uint64_t lost = atomic_load(&lost_by_threads), counted = ebb_type_scanned.leaked - before;
    ck_assert_uint_gt(lost, 1000);
    ck_assert_uint_le(counted, lost);
    ck_assert_uint_ge(counted + HELD * THREADS, lost);
}

START_TEST(what_threads_lose_while_others_collect_is_counted_once_and_nothing_else) {
    collect_beside_losers();
}
END_TEST

/* As when another process of this user has all signals pending that the system allows. */
START_TEST(threads_are_stopped_also_where_the_system_queues_no_signal) {
    struct rlimit before, none;
    ck_assert_int_eq(getrlimit(RLIMIT_SIGPENDING, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_SIGPENDING, &none), 0);
    collect_beside_losers();
    ck_assert_int_eq(setrlimit(RLIMIT_SIGPENDING, &before), 0);
}
END_TEST

START_TEST(a_write_after_done_is_found_among_objects_that_live) {
    if (!EBB_DEBUG)
        return; /* only debug builds look */
    ebb_types_add(types, 3);
    collect_once();
    uint64_t before = ebb_used_after_done_count();
    fill(&ebb_type_scanned, 64, 2000, 2001);
    for (int i = 50; i < 2000; i += 100) {
        ebb_done(kept[i]);
        *(int *)kept[i] = i;
        kept[i] = NULL;
    }
    collect_once();
    ck_assert_uint_le(ebb_used_after_done_count() - before, 20);
    ck_assert_uint_ge(ebb_used_after_done_count() - before, 20 - HELD);
    release_all();
}
END_TEST

HARNESS_MAIN_COLLECTED("lost", one_collection_counts_each_lost_object_whatever_lives_beside_it,
                       objects_of_several_types_in_one_block_are_told_apart,
                       what_threads_lose_while_others_collect_is_counted_once_and_nothing_else,
                       threads_are_stopped_also_where_the_system_queues_no_signal,
                       a_write_after_done_is_found_among_objects_that_live)
