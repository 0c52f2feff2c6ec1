/* exptime: what a client's number means on the daemon's clock. */
#include "harness.h"

#include <ebb/clock.h>
#include <ebbd/cmd/exptime.h>

#define UNIX_START 1700000000ull

static struct exptime_clock clock_at_start(void) {
    struct exptime_clock clock;
    exptime_clock_init(&clock, 5 * EBB_NS_PER_SECOND, UNIX_START * EBB_NS_PER_SECOND);
    return clock;
}

START_TEST(the_clock_starts_above_zero_and_counts_seconds) {
    struct exptime_clock clock = clock_at_start();
    ck_assert_uint_eq(exptime_now(&clock, 5 * EBB_NS_PER_SECOND), EXPTIME_CLOCK_START);
    ck_assert_uint_eq(exptime_now(&clock, 6 * EBB_NS_PER_SECOND - 1), EXPTIME_CLOCK_START);
    ck_assert_uint_eq(exptime_now(&clock, 6 * EBB_NS_PER_SECOND), EXPTIME_CLOCK_START + 1);
    ck_assert_uint_eq(exptime_now(&clock, 0), EXPTIME_CLOCK_START);
}
END_TEST

START_TEST(zero_is_never_and_negative_is_past) {
    struct exptime_clock clock = clock_at_start();
    ck_assert_uint_eq(exptime_second(&clock, 0, 100), 0);
    ck_assert_uint_eq(exptime_second(&clock, -1, 100), EXPTIME_PAST);
    ck_assert_uint_eq(exptime_second(&clock, INT32_MIN, 100), EXPTIME_PAST);
    ck_assert_uint_lt(EXPTIME_PAST, EXPTIME_CLOCK_START);
}
END_TEST

START_TEST(thirty_days_are_relative_and_more_is_a_date) {
    struct exptime_clock clock = clock_at_start();
    ck_assert_uint_eq(exptime_second(&clock, 1, 100), 101);
    ck_assert_uint_eq(exptime_second(&clock, EXPTIME_RELATIVE_MAX, 100),
                      100 + EXPTIME_RELATIVE_MAX);
    ck_assert_uint_eq(exptime_second(&clock, EXPTIME_RELATIVE_MAX + 1, 100), EXPTIME_PAST);
}
END_TEST

START_TEST(a_date_is_counted_from_the_start) {
    struct exptime_clock clock = clock_at_start();
    ck_assert_uint_eq(exptime_second(&clock, (int32_t)UNIX_START + 10, 100),
                      EXPTIME_CLOCK_START + 10);
    ck_assert_uint_eq(exptime_second(&clock, (int32_t)UNIX_START - 10, 100),
                      EXPTIME_CLOCK_START - 10);
    ck_assert_uint_eq(exptime_second(&clock, (int32_t)UNIX_START - EXPTIME_CLOCK_START, 100),
                      EXPTIME_PAST);
}
END_TEST

HARNESS_MAIN("exptime", the_clock_starts_above_zero_and_counts_seconds,
             zero_is_never_and_negative_is_past, thirty_days_are_relative_and_more_is_a_date,
             a_date_is_counted_from_the_start)
