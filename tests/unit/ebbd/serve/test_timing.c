/* timing: slow slices are remembered for a while, whatever the wall clock is set to meanwhile. */
#include "harness.h"

#include <ebb/clock.h>
#include <ebb/metric.h>
#include <ebb/writer.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "serve/timing.h"

enum { DAY_SECONDS = 86400, TEXT = 4096 };
static time_t ahead; /* of the wall clock that this program sees */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return failed;
}

static void slow_turn(struct timing *timing, const char *request) {
    const struct timing_slice slice = {
        .verb = REQUEST_get, .text = request, .length = strlen(request), .requests = 1};
    timing_begin(timing, ebb_clock_ns() - EBB_NS_PER_SECOND);
    timing_done(timing, true);
    timing_end(timing, &slice);
}

START_TEST(slow_turns_are_told_after_the_clock_was_set) {
    static struct timing timing;
    struct timing *const worker_list[] = {&timing};
    char text[TEXT];
    struct ebb_array_writer writer;
    timing_init(&timing, 1, 0);
    slow_turn(&timing, "get before\r\n");
    static const time_t set_to[] = {DAY_SECONDS, -DAY_SECONDS, 0};
    for (int i = 0; i < 3; i++) {
        ahead = set_to[i];
        slow_turn(&timing, "get after\r\n");
        ebb_array_writer_init(&writer, text, sizeof text);
        timing_write_slowest(worker_list, 1, &writer.writer);
        ck_assert_msg(strstr(text, "get before") && strstr(text, "get after"), "%s", text);
    }
}
END_TEST

HARNESS_MAIN_COLLECTED("timing", slow_turns_are_told_after_the_clock_was_set)
