/* log: the shape of a line, levels, and what is held back. */
#include "harness.h"

#include <ebb/clock.h>
#include <ebb/log.h>
#include <fcntl.h>
#include <regex.h>
#include <string.h>
#include <telemetry/metrics.h>
#include <unistd.h>

static char text[64 * 1024];

/* Runs write_lines with the log going to a pipe and leaves what came in text. */
static void capture(void (*write_lines)(void)) {
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    ebb_log_fd_set(pipes[1]);
    write_lines();
    ebb_log_fd_set(STDERR_FILENO);
    close(pipes[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(pipes[0], text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = 0;
    close(pipes[0]);
}

static int lines_in_text(void) {
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    return lines;
}

static void one_info(void) {
    ebb_log_info("gc", "collected %d", 5);
}

START_TEST(a_line_has_time_level_module_and_message) {
    capture(one_info);
    regex_t shape;
    ck_assert_int_eq(regcomp(&shape,
                             "^20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
                             "\\.[0-9]{3}Z INFO  gc: collected 5\n$",
                             REG_EXTENDED),
                     0);
    ck_assert_msg(regexec(&shape, text, 0, NULL, 0) == 0, "%s", text);
    regfree(&shape);
}
END_TEST

static void debug_and_error(void) {
    ebb_log_debug("test", "hidden");
    ebb_log_error("test", "shown");
}

START_TEST(lines_above_the_level_are_not_written) {
    ebbi_metrics_add_library();
    uint64_t errors = ebb_metric_value(&ebb_metric_log_error);
    capture(debug_and_error);
    ck_assert_ptr_null(strstr(text, "hidden"));
    ck_assert_ptr_nonnull(strstr(text, "ERROR test: shown\n"));
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_log_error), errors + 1);
    ebb_log_level_set(EBB_LOG_DEBUG);
    capture(debug_and_error);
    ebb_log_level_set(EBB_LOG_INFO);
    ck_assert_ptr_nonnull(strstr(text, "DEBUG test: hidden\n"));
}
END_TEST

static void from_a_peer(void) {
    ebb_log_warn("conn", "key \"%s\"", "a\nERROR forged\x1b[31m");
}

START_TEST(a_peer_cannot_begin_a_line_of_its_own) {
    capture(from_a_peer);
    ck_assert_int_eq(lines_in_text(), 1);
    ck_assert_ptr_null(strchr(text, '\x1b'));
    ck_assert_ptr_nonnull(strstr(text, "key \"a?ERROR forged?[31m\"\n"));
}
END_TEST

static struct ebb_log_site busy;

static void many_lines(void) {
    for (int i = 0; i < 25; i++)
        ebb_log_line(&busy, EBB_LOG_INFO, "test", "line %d", i);
}

static void one_later(void) {
    busy.window_ns = 1; /* its second is long over */
    ebb_log_line(&busy, EBB_LOG_INFO, "test", "later");
}

START_TEST(a_busy_site_is_held_back_and_says_so_in_its_next_line) {
    busy.window_ns = ebb_clock_ns() + 3600 * EBB_NS_PER_SECOND; /* not over, however slow we are */
    capture(many_lines);
    ck_assert_int_eq(lines_in_text(), 10);
    capture(one_later);
    ck_assert_ptr_nonnull(strstr(text, "later (15 more like it held back)\n"));
}
END_TEST

static void long_line(void) {
    static char words[5000];
    memset(words, 'w', sizeof(words) - 1);
    ebb_log_info("test", "%s", words);
}

START_TEST(a_long_message_is_cut_at_2047_bytes_and_still_ends_its_line) {
    capture(long_line);
    ck_assert_int_eq(lines_in_text(), 1);
    ck_assert_uint_eq(strspn(strstr(text, "www"), "w"), 2047);
}
END_TEST

HARNESS_MAIN("log", a_line_has_time_level_module_and_message, lines_above_the_level_are_not_written,
             a_peer_cannot_begin_a_line_of_its_own,
             a_busy_site_is_held_back_and_says_so_in_its_next_line,
             a_long_message_is_cut_at_2047_bytes_and_still_ends_its_line)
