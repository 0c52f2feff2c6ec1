/* metric: counting from many threads, histograms, reset, and the text that Prometheus reads. */
#include "harness.h"

#include <ebb/clock.h>
#include <ebb/metric.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <telemetry/metrics.h>

#define MANY_THREADS (EBB_METRIC_THREADS + 36)
#define EACH_COUNTS  1000

static struct ebb_metric counter = {
    .name = "test_total", .labels = "", .help = "A counter.", .kind = EBB_COUNTER};
static struct ebb_metric gauge = {
    .name = "test_level", .labels = "side=\"left\"", .help = "A gauge.", .kind = EBB_GAUGE};
static struct ebb_metric other_side = {
    .name = "test_level", .labels = "side=\"right\"", .help = "A gauge.", .kind = EBB_GAUGE};
static struct ebb_metric histogram = {.name = "test_seconds",
                                      .labels = "",
                                      .help = "A histogram.",
                                      .kind = EBB_HISTOGRAM,
                                      .unit = EBB_UNIT_SECONDS};
static struct ebb_metric *const rows[] = {&gauge, &counter, &histogram, &other_side};

static void add_rows(void) {
    ebbi_metrics_add_library();
    ebb_metrics_add(rows, sizeof(rows) / sizeof(rows[0]));
}

static pthread_barrier_t all_have_counted;

static void *count_and_wait(void *unused) {
    for (int i = 0; i < EACH_COUNTS; i++)
        ebb_count(&counter, 1);
    pthread_barrier_wait(&all_have_counted); /* so that all are alive at once */
    return unused;
}

static void *count_once(void *unused) {
    ebb_count(&counter, 1);
    return unused;
}

START_TEST(more_threads_than_blocks_lose_no_count) {
    add_rows();
    uint64_t before = ebb_metric_value(&counter);
    pthread_t threads[MANY_THREADS];
    pthread_barrier_init(&all_have_counted, NULL, MANY_THREADS);
    for (int i = 0; i < MANY_THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_and_wait, NULL), 0);
    for (int i = 0; i < MANY_THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all_have_counted);
    ck_assert_uint_eq(ebb_metric_value(&counter) - before, MANY_THREADS * EACH_COUNTS);
}
END_TEST

START_TEST(a_thread_that_ends_leaves_its_sums_and_hands_on_its_block) {
    add_rows();
    uint64_t before = ebb_metric_value(&counter);
    for (int i = 0; i < 3 * EBB_METRIC_THREADS; i++) {
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, count_once, NULL), 0);
        pthread_join(thread, NULL);
    }
    ck_assert_uint_eq(ebb_metric_value(&counter) - before, 3 * EBB_METRIC_THREADS);
    ebb_count(&counter, 1);
    ck_assert_ptr_nonnull(ebb_metric_block); /* the dead threads' blocks are to be had again */
}
END_TEST

START_TEST(what_was_not_added_counts_nothing) {
    static struct ebb_metric unknown = {.name = "unknown", .labels = "", .kind = EBB_COUNTER};
    static struct ebb_metric unknown_histogram = {.name = "u", .labels = "", .kind = EBB_HISTOGRAM};
    ebb_count(&unknown, 5);
    ebb_observe_ns(&unknown_histogram, 5);
    ck_assert_uint_eq(ebb_metric_value(&unknown), 0);
    ck_assert_uint_eq(ebb_metric_value(&unknown_histogram), 0);
    ck_assert_uint_eq(ebb_metric_quantile_ns(&unknown_histogram, 0.5), 0);
}
END_TEST

START_TEST(a_histogram_knows_count_sum_and_quantiles) {
    add_rows();
    ck_assert_uint_eq(ebb_metric_quantile_ns(&histogram, 0.5), 0);
    ebb_observe_many_ns(&histogram, 2000, 89); /* in (1 us, 2.5 us] */
    ebb_observe_ns(&histogram, 2000);
    for (int i = 0; i < 10; i++)
        ebb_observe_ns(&histogram, 20ull * 1000 * 1000 * 1000); /* above the last bound */
    ck_assert_uint_eq(ebb_metric_value(&histogram), 100);
    ck_assert_uint_eq(ebb_metric_sum_ns(&histogram), 90 * 2000 + 200ull * 1000 * 1000 * 1000);
    ck_assert_uint_eq(ebb_metric_quantile_ns(&histogram, 0.45), 1750);
    ck_assert_uint_eq(ebb_metric_quantile_ns(&histogram, 0.99), 10ull * 1000 * 1000 * 1000);
}
END_TEST

START_TEST(a_value_on_a_bound_belongs_to_the_bucket_below_it) {
    add_rows();
    uint64_t before[EBBI_HISTOGRAM_BOUNDS + 1], after[EBBI_HISTOGRAM_BOUNDS + 1];
    ebbi_histogram_read(&histogram, before);
    ebb_observe_ns(&histogram, ebbi_histogram_bound_ns[4]);
    ebb_observe_ns(&histogram, ebbi_histogram_bound_ns[4] + 1);
    ebbi_histogram_read(&histogram, after);
    ck_assert_uint_eq(after[4] - before[4], 1);
    ck_assert_uint_eq(after[5] - before[5], 1);
}
END_TEST

START_TEST(a_reset_changes_what_stats_shows_and_not_what_prometheus_reads) {
    add_rows();
    ebb_count(&counter, 7);
    ebb_observe_ns(&histogram, 1);
    uint64_t value = ebb_metric_value(&counter);
    ebb_metrics_reset();
    ck_assert_uint_eq(ebb_metric_value(&counter), value);
    ck_assert_uint_eq(ebb_metric_since_reset(&counter), 0);
    ck_assert_uint_eq(ebb_metric_since_reset(&histogram), 0);
    ebb_count(&counter, 2);
    ck_assert_uint_eq(ebb_metric_since_reset(&counter), 2);
}
END_TEST

static char page[256 * 1024];

static void write_page(void) {
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, page, sizeof(page));
    ebb_metrics_write_prometheus(&array.writer);
    ck_assert(!array.cut);
}

START_TEST(rows_of_one_name_stand_together_in_one_family) {
    add_rows();
    ebb_gauge_set(&gauge, -3);
    ebb_gauge_set(&other_side, 4);
    write_page();
    ck_assert_ptr_nonnull(strstr(page, "# HELP test_level A gauge.\n# TYPE test_level gauge\n"
                                       "test_level{side=\"left\"} -3\n"
                                       "test_level{side=\"right\"} 4\n"));
}
END_TEST

static struct ebb_metric first = {
    .name = "test_first_total", .labels = "", .help = "One.", .kind = EBB_PROBE_COUNTER};
static struct ebb_metric second = {
    .name = "test_second", .labels = "", .help = "The same.", .kind = EBB_PROBE};
static int readings;

static void read_both(void) {
    readings++;
    ebb_gauge_set(&first, readings);
    ebb_gauge_set(&second, readings);
}

START_TEST(probes_of_one_reading_are_asked_for_once_and_agree) {
    struct ebb_metric *const both[] = {&first, &second};
    add_rows();
    ebb_metrics_add(both, 2);
    ebb_metrics_refresh_set(read_both);
    write_page();
    write_page();
    ck_assert_int_eq(readings, 2);
    ck_assert_ptr_nonnull(strstr(page, "# TYPE test_first_total counter\ntest_first_total 2\n"));
    ck_assert_ptr_nonnull(strstr(page, "# TYPE test_second gauge\ntest_second 2\n"));
    ck_assert_uint_eq(ebb_metric_value(&second), 3); /* without a page, too */
    ebb_metrics_refresh_set(NULL);
}
END_TEST

START_TEST(the_process_is_told_from_proc) {
    add_rows();
    ck_assert_uint_gt(ebb_metric_value(&ebb_metric_process_resident), 100 * 1024);
    uint64_t open_fds = ebb_metric_value(&ebb_metric_process_open_fds);
    FILE *one_more = fopen("/dev/null", "r");
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_process_open_fds), open_fds + 1);
    fclose(one_more);
    uint64_t started = ebb_metric_value(&ebb_metric_process_start_time);
    ck_assert_uint_le(started, ebb_clock_unix_ns());
    ck_assert_uint_gt(started, ebb_clock_unix_ns() - 600 * EBB_NS_PER_SECOND);
}
END_TEST

START_TEST(promtool_has_nothing_to_say_about_the_page) {
    if (system("command -v promtool >/dev/null") != 0)
        return; /* Debian package prometheus */
    add_rows();
    write_page();
    FILE *promtool = popen("promtool check metrics 2>&1", "w");
    ck_assert_ptr_nonnull(promtool);
    ck_assert_uint_eq(fwrite(page, 1, strlen(page), promtool), strlen(page));
    ck_assert_int_eq(pclose(promtool), 0);
}
END_TEST

HARNESS_MAIN("metric", a_histogram_knows_count_sum_and_quantiles,
             a_value_on_a_bound_belongs_to_the_bucket_below_it,
             more_threads_than_blocks_lose_no_count,
             a_thread_that_ends_leaves_its_sums_and_hands_on_its_block,
             what_was_not_added_counts_nothing,
             a_reset_changes_what_stats_shows_and_not_what_prometheus_reads,
             rows_of_one_name_stand_together_in_one_family,
             probes_of_one_reading_are_asked_for_once_and_agree, the_process_is_told_from_proc,
             promtool_has_nothing_to_say_about_the_page)
