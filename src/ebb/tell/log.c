/* log -- a line for a person, out in one write.
 *
 * 1. A line is made on the caller's stack and leaves in one write(2): lines of two threads never
 * mix.
 * 2. No allocation, and no libc call that allocates: gmtime may read the zone file, so the date is
 * computed here.
 * 3. What a peer sent may stand in a line, but cannot begin a new one: control characters become
 * '?'.
 * 4. A call site writes LINES_PER_SECOND lines a second at most; its next line says how many it
 * held back. */
#include <ebb/log.h>

#include "metrics.h"

#include <ebb/clock.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINES_PER_SECOND 10
#define MESSAGE_MAX      2048
#define LINE_MAX_BYTES   (MESSAGE_MAX + 192) /* date, level, module, colours, held back */
#define SECONDS_PER_DAY  86400

_Atomic int ebb_log_level_now = EBB_LOG_INFO;

static _Atomic int log_fd = STDERR_FILENO;
static _Atomic int log_coloured = -1; /* -1: not looked yet */

static const struct {
    const char *word, *colour;
    struct ebb_metric *lines;
} levels[] = {
    [EBB_LOG_ERROR] = {"ERROR", "\033[31m", &ebb_metric_log_error},
    [EBB_LOG_WARN] = {"WARN ", "\033[33m", &ebb_metric_log_warn},
    [EBB_LOG_INFO] = {"INFO ", "\033[32m", &ebb_metric_log_info},
    [EBB_LOG_DEBUG] = {"DEBUG", "\033[36m", &ebb_metric_log_debug},
    [EBB_LOG_TRACE] = {"TRACE", "\033[90m", &ebb_metric_log_trace},
};

void ebb_log_level_set(enum ebb_log_level level) {
    atomic_store_explicit(&ebb_log_level_now, (int)level, memory_order_relaxed);
}

void ebb_log_fd_set(int fd) {
    atomic_store(&log_coloured, isatty(fd));
    atomic_store(&log_fd, fd);
}

static bool coloured(void) {
    int known = atomic_load_explicit(&log_coloured, memory_order_relaxed);
    if (known >= 0)
        return known;
    known = isatty(atomic_load(&log_fd));
    atomic_store(&log_coloured, known);
    return known;
}

/* The date of a day since 1970, by the era method: a year that begins in March has its leap day
 * last. */
static void civil_date(int64_t days, int *year, int *month, int *day) {
    const int64_t days_per_era = 146097,
                  days_to_epoch = 719468; /* eras of 400 years from 0000-03-01 */
    int64_t shifted = days + days_to_epoch, era = shifted / days_per_era;
    int64_t of_era = shifted - era * days_per_era;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * month_from_march + 2) / 5 + 1);
    *month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

/* "2026-11-23T10:11:12.345Z" */
static int format_time(char *out, size_t size, uint64_t unix_ns) {
    uint64_t seconds = unix_ns / EBB_NS_PER_SECOND;
    int year, month, day, of_day = (int)(seconds % SECONDS_PER_DAY);
    civil_date((int64_t)(seconds / SECONDS_PER_DAY), &year, &month, &day);
    return snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month, day,
                    of_day / 3600, of_day / 60 % 60, of_day % 60,
                    (int)(unix_ns % EBB_NS_PER_SECOND / EBB_NS_PER_MS));
}

/* Takes one of the site's lines of this second; false when they are used up. */
static bool site_may_write(struct ebb_log_site *site) {
    uint64_t now = ebb_clock_ns();
    uint64_t window = atomic_load_explicit(&site->window_ns, memory_order_relaxed);
    /* Signed: a window that another thread just began may lie ahead of this thread's now. */
    if (window == 0 || (int64_t)(now - window) >= (int64_t)EBB_NS_PER_SECOND)
        if (atomic_compare_exchange_strong(&site->window_ns, &window, now))
            atomic_store(&site->lines, 0);
    if (atomic_fetch_add(&site->lines, 1) < LINES_PER_SECOND)
        return true;
    atomic_fetch_add(&site->held_back, 1);
    ebb_count(&ebb_metric_log_held_back, 1);
    return false;
}

static void replace_control(char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

static void write_line(const char *line, size_t length) {
    /* A log that cannot be written is no reason to stop, and there is nobody to tell. */
    ssize_t ignored = write(atomic_load_explicit(&log_fd, memory_order_relaxed), line, length);
    (void)ignored;
}

void ebb_log_line(struct ebb_log_site *site, enum ebb_log_level level, const char *module,
                  const char *format, ...) {
    if (!site_may_write(site))
        return;
    char message[MESSAGE_MAX] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    replace_control(message, strlen(message));

    char when[40], held[64] = "", line[LINE_MAX_BYTES];
    format_time(when, sizeof(when), ebb_clock_unix_ns());
    uint32_t held_back = atomic_exchange(&site->held_back, 0);
    if (held_back > 0)
        snprintf(held, sizeof(held), " (%u more like it held back)", held_back);
    bool colour = coloured();
    int length = snprintf(line, sizeof(line), "%s %s%s%s %.32s: %s%s\n", when,
                          colour ? levels[level].colour : "", levels[level].word,
                          colour ? "\033[0m" : "", module, message, held);
    if (length <= 0)
        return;
    size_t bytes = (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1;
    line[bytes - 1] = '\n';
    write_line(line, bytes);
    ebb_count(levels[level].lines, 1);
}
