/* alarm: each kind of condition, fed an hour in a moment: what is wrong raises it, what is merely
 * lively does not. */
#include "harness.h"

#include <ebb/alarm.h>
#include <math.h>
#include <string.h>

#define HOUR 3600
#define MIB  (1024.0 * 1024.0)

static struct ebb_alarm fresh(enum ebb_alarm_kind kind, double threshold, uint32_t window,
                              double floor) {
    return (struct ebb_alarm){.name = "test",
                              .kind = kind,
                              .threshold = threshold,
                              .window_seconds = window,
                              .floor = floor,
                              .what = "",
                              .advice = ""};
}

/* The same noise in every run: -1 to 1. */
static double noise(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(int64_t)state / 9.3e18;
}

START_TEST(a_level_must_hold_for_its_window) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_LEVEL, 0.9, 10, 0);
    for (uint64_t second = 1; second <= 100; second++) {
        ebb_alarm_step(&alarm, second, second % 8 == 0 ? 0.5 : 0.95, 0);
        ck_assert(!alarm.raised);
    }
    uint64_t second = 101;
    for (; !alarm.raised; second++)
        ebb_alarm_step(&alarm, second, 0.95, 0);
    ck_assert_uint_ge(second, 108);
    ck_assert_uint_le(second, 113);
    for (; alarm.raised && second < 200; second++)
        ebb_alarm_step(&alarm, second, 0.1, 0);
    ck_assert_uint_lt(second, 130);
    ck_assert_uint_eq(alarm.times, 1);
}
END_TEST

START_TEST(a_level_without_a_window_is_raised_at_once) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_LEVEL, 1, 0, 0);
    ck_assert(!ebb_alarm_step(&alarm, 1, 0, 0));
    ck_assert(ebb_alarm_step(&alarm, 2, 1, 0));
    ck_assert(alarm.raised);
    ck_assert(ebb_alarm_step(&alarm, 3, 0, 0));
    ck_assert(!alarm.raised);
}
END_TEST

START_TEST(a_counter_that_rises_raises_and_is_forgotten_after_the_window) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_RISE, 1, 60, 0);
    for (uint64_t second = 1; second <= 100; second++)
        ck_assert(!ebb_alarm_step(&alarm, second, 7, 0)); /* what was before the start is no rise */
    ck_assert(ebb_alarm_step(&alarm, 101, 8, 0));
    uint64_t second = 102;
    for (; alarm.raised && second < 500; second++)
        ebb_alarm_step(&alarm, second, 8, 0);
    ck_assert_uint_ge(second, 101 + 60);
    ck_assert_uint_le(second, 101 + 60 + 35);
}
END_TEST

START_TEST(a_rise_of_an_hour_ago_still_counts_and_one_of_two_hours_does_not) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_RISE, 1, HOUR, 0);
    ebb_alarm_step(&alarm, 1, 0, 0);
    for (uint64_t second = 2; second < HOUR - 100; second++) {
        ebb_alarm_step(&alarm, second, 1, 0);
        ck_assert(alarm.raised);
    }
    for (uint64_t second = HOUR - 100; second < 2 * HOUR; second++)
        ebb_alarm_step(&alarm, second, 1, 0);
    ck_assert(!alarm.raised);
}
END_TEST

START_TEST(a_ratio_needs_enough_of_what_it_divides_by) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_RATIO, 0.25, 60, 10);
    double a = 0, b = 0;
    for (uint64_t second = 1; second <= 100; second++) {
        ebb_alarm_step(&alarm, second, a += 0.01, b += 0.01); /* all of nearly nothing */
        ck_assert(!alarm.raised);
    }
    for (uint64_t second = 101; second <= 200; second++) {
        ebb_alarm_step(&alarm, second, a += 0.1, b += 1); /* a tenth */
        ck_assert(!alarm.raised);
    }
    for (uint64_t second = 201; second <= 300; second++)
        ebb_alarm_step(&alarm, second, a += 0.5, b += 1);
    ck_assert(alarm.raised);
    ck_assert(fabs(alarm.value - 0.5) < 0.01);
}
END_TEST

START_TEST(a_ratio_that_falls_is_compared_with_what_it_was) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_DROP, 0.2, 1200, 1000);
    double hits = 0, total = 0;
    uint64_t second = 1;
    for (; second <= 3000; second++) { /* lively, around 0.9 */
        double asked = 1000 + 500 * noise();
        ebb_alarm_step(&alarm, second, hits += asked * (0.9 + 0.05 * noise()), total += asked);
        ck_assert(!alarm.raised);
    }
    for (; second <= 3400; second++)
        ebb_alarm_step(&alarm, second, hits += 500, total += 1000);
    ck_assert(alarm.raised);
    for (; second <= 9000; second++) /* it stays low: that is how it is now */
        ebb_alarm_step(&alarm, second, hits += 500, total += 1000);
    ck_assert(!alarm.raised);
}
END_TEST

/* Bytes of a heap under churn: a few MiB, some per connection, garbage that comes and goes. */
static double lively_heap(uint64_t second, double connections) {
    double garbage = (double)(second % 47) / 47 * 1.5 * MIB;
    return 6 * MIB + connections * 2048 + garbage + 0.2 * MIB * noise();
}

/* Connections: a wave within the hour, bursts that come and go. */
static double lively_load(uint64_t second) {
    double wave = 500 + 450 * sin((double)second / HOUR * 6.28);
    return floor(second % 600 < 60 ? wave + 300 : wave) + floor(10 * noise());
}

START_TEST(an_hour_of_churn_shows_no_trend) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_TREND, 8 * MIB, 1800, 0);
    struct ebb_alarm strict = fresh(EBB_ALARM_TREND, 2 * MIB, 1800, 0);
    for (uint64_t second = 1; second <= 4 * HOUR; second++) {
        double load = lively_load(second), heap = lively_heap(second, load);
        if (second % 3 == 0) { /* collections do not come each second */
            ebb_alarm_step(&alarm, second, heap, load);
            ebb_alarm_step(&strict, second, heap, load);
        }
        ck_assert(!alarm.raised);
        ck_assert(!strict.raised);
    }
}
END_TEST

START_TEST(a_heap_that_grows_with_its_connections_is_no_trend) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_TREND, 8 * MIB, 1800, 0);
    for (uint64_t second = 1; second <= HOUR; second++) {
        double load = (double)(second * 10);
        ebb_alarm_step(&alarm, second, 6 * MIB + load * 2048, load); /* 72 MiB in the end */
        ck_assert(!alarm.raised);
    }
}
END_TEST

START_TEST(a_slow_leak_under_churn_is_found) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_TREND, 8 * MIB, 1800, 0);
    uint64_t second = 1;
    for (; second <= HOUR; second++) {
        double load = lively_load(second);
        ebb_alarm_step(&alarm, second, lively_heap(second, load), load);
    }
    ck_assert(!alarm.raised);
    double leaked = 0;
    for (; second <= 2 * HOUR; second++) {
        double load = lively_load(second);
        leaked += 10.0 * 1024; /* 10 KiB a second: 18 MiB in half an hour */
        ebb_alarm_step(&alarm, second, lively_heap(second, load) + leaked, load);
    }
    ck_assert(alarm.raised);
}
END_TEST

START_TEST(one_step_up_is_no_trend) {
    struct ebb_alarm alarm = fresh(EBB_ALARM_TREND, 8 * MIB, 1800, 0);
    for (uint64_t second = 1; second <= 2 * HOUR; second++) {
        ebb_alarm_step(&alarm, second, (second > HOUR ? 40 : 6) * MIB + 0.1 * MIB * noise(), 5);
        ck_assert(!alarm.raised);
    }
}
END_TEST

START_TEST(two_ticks_in_one_second_are_one_sample) {
    for (uint32_t window = 4; window <= 60; window++) {
        struct ebb_alarm alarm = fresh(EBB_ALARM_TREND, MIB, window, 0);
        for (uint64_t second = 1; second <= 100; second++)
            for (int tick = 0; tick < 3; tick++) { /* the timer was late, and made up for it */
                ebb_alarm_step(&alarm, second, floor(4 * noise()) * MIB, 5);
                ck_assert_msg(isfinite(alarm.value) && fabs(alarm.value) < 1e3 * MIB, "%g",
                              alarm.value);
            }
    }
}
END_TEST

START_TEST(changes_are_read_or_refused) {
    static struct ebb_alarm known;
    struct ebb_alarm *row = &known;
    known = fresh(EBB_ALARM_LEVEL, 1, 60, 0);
    known.name = "known";
    ebb_alarms_add(&row, 1);
    ck_assert_int_eq(ebb_alarm_set("known=0.5"), EBB_OK);
    ck_assert(fabs(known.threshold - 0.5) < 1e-9);
    ck_assert_uint_eq(known.window_seconds, 60);
    ck_assert_int_eq(ebb_alarm_set("known=2e6/5"), EBB_OK);
    ck_assert(fabs(known.threshold - 2e6) < 1e-9);
    ck_assert_uint_eq(known.window_seconds, 5);
    static const char *const wrong[] = {"known",     "known=",        "known=x",   "known=1/",
                                        "known=1/x", "known=1/2x",    "unknown=1", "know=1",
                                        "",          "known=1/99999", "known=nan", "known=inf"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_int_eq(ebb_alarm_set(wrong[i]), EBB_ERR_USAGE);
        ck_assert_ptr_nonnull(strstr(ebb_err_text(), "NAME=THRESHOLD"));
    }
}
END_TEST

HARNESS_MAIN("alarm", a_level_must_hold_for_its_window, a_level_without_a_window_is_raised_at_once,
             a_counter_that_rises_raises_and_is_forgotten_after_the_window,
             a_rise_of_an_hour_ago_still_counts_and_one_of_two_hours_does_not,
             a_ratio_needs_enough_of_what_it_divides_by,
             a_ratio_that_falls_is_compared_with_what_it_was, an_hour_of_churn_shows_no_trend,
             a_heap_that_grows_with_its_connections_is_no_trend, a_slow_leak_under_churn_is_found,
             one_step_up_is_no_trend, two_ticks_in_one_second_are_one_sample,
             changes_are_read_or_refused)
