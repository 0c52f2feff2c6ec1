/* watchdog: a loop that stands still is found, whatever the wall clock is set to meanwhile. */
#include "harness.h"

#include <ebb/loop.h>
#include <ebb/mem.h>
#include <ebb/metric.h>
#include <ebb/watchdog.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "telemetry/metrics.h"

enum { DAY_SECONDS = 86400, STALL_MS = 40, NAP_NS = 1000000 };
static _Atomic time_t ahead; /* of the wall clock that this program sees */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return failed;
}

struct standing {
    struct ebb_loop *loop;
    uint64_t stalls;
};

/* Until it was found. */
static void stand_still(void *arg) {
    struct standing *standing = arg;
    const struct timespec nap = {.tv_nsec = NAP_NS};
    while (ebb_metric_value(&ebb_metric_loop_stalls) == standing->stalls)
        nanosleep(&nap, NULL);
    ebb_loop_stop(standing->loop);
}

START_TEST(a_loop_that_stands_still_is_found_whatever_the_clock_is_set_to) {
    static const time_t set_to[] = {-DAY_SECONDS, DAY_SECONDS};
    for (int i = 0; i < 2; i++) {
        struct standing standing = {.stalls = ebb_metric_value(&ebb_metric_loop_stalls)};
        struct ebb_watchdog *watchdog;
        ck_assert_int_eq(ebb_loop_new(&standing.loop, "test"), EBB_OK);
        ahead = set_to[i];
        ck_assert_int_eq(ebb_watchdog_start(&watchdog, STALL_MS), EBB_OK);
        ebb_loop_post(standing.loop, stand_still, &standing);
        ebb_loop_run(standing.loop);
        ebb_watchdog_stop(watchdog);
        ahead = 0;
        ebb_loop_close(standing.loop);
        ck_assert_uint_eq(ebb_metric_value(&ebb_metric_loop_stalls), standing.stalls + 1);
    }
}
END_TEST

int main(void) {
    harness_collector();
    ebb_loop_library_start();
    const TTest *const tests[] = {a_loop_that_stands_still_is_found_whatever_the_clock_is_set_to};
    return harness_run("watchdog", tests, 1);
}
