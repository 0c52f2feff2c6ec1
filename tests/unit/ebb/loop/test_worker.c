/* Workers: they start, do what is posted, stop, and leave nothing behind. */
#include "harness.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <ebb/thread.h>
#include <ebb/worker.h>

#include "gc/types.h"

#define WORKERS 4
#define ROUNDS  20
#define POSTS   1000

static _Atomic int started, ran, stopped;

/* Each runs on a thread of its own name. */
static void on_start(int index, struct ebb_loop *loop, void *arg) {
    (void)loop;
    char name[16] = "", expected[16];
    snprintf(expected, sizeof expected, "%s-%d", (const char *)arg, index);
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strcmp(name, expected) == 0)
        atomic_fetch_add(&started, 1);
}

static void on_work(void *arg) {
    (void)arg;
    atomic_fetch_add(&ran, 1);
}

static void on_stop(int index, void *arg) {
    (void)index;
    (void)arg;
    atomic_fetch_add(&stopped, 1);
}

START_TEST(workers_do_what_is_posted_and_stop) {
    static char name[] = "worker";
    struct ebb_workers *workers;
    ebb_loop_library_start();
    for (int round = 0; round < ROUNDS; round++) {
        started = ran = stopped = 0;
        ck_assert_msg(ebb_workers_start(&workers, name, WORKERS, on_start, name) == EBB_OK, "%s",
                      ebb_err_text());
        ck_assert_int_eq(ebb_workers_count(workers), WORKERS);
        for (int i = 0; i < POSTS; i++)
            ebb_loop_post(ebb_worker_loop(workers, i % WORKERS), on_work, NULL);
        ebb_workers_stop(workers, on_stop, NULL);
        ck_assert_int_eq(started, WORKERS);
        ck_assert_int_eq(ran, POSTS); /* everything posted before the stop */
        ck_assert_int_eq(stopped, WORKERS);
    }
    ebb_workers_stop(NULL, NULL, NULL);
}
END_TEST

static uint64_t held_by_libevent(void) {
    return atomic_load(&ebbi_type_libevent.allocated) - atomic_load(&ebbi_type_libevent.gone);
}

START_TEST(workers_leave_nothing_behind) {
    ck_assert_uint_gt(atomic_load(&ebbi_type_libevent.allocated), 0);
    ck_assert_uint_eq(held_by_libevent(), 0);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
    ebb_collect_fully(EBB_CAUSE_demand);
    ck_assert_uint_eq(ebb_resources_forgotten(), 0);
}
END_TEST

HARNESS_MAIN_COLLECTED("worker", workers_do_what_is_posted_and_stop, workers_leave_nothing_behind)
