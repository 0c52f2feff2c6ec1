/* alarm -- decides, out of a few samples each, whether something is wrong.
 *
 * A window holds at most WINDOW_SAMPLES samples: the longer it is, the further they lie apart. So
 * an alarm costs the same whether it looks back a minute or an hour, and a step is pure: the tests
 * feed it an hour in a moment.
 *
 * 1. sample[first] is the oldest; no sample is older than the window, but one that lies just beyond
 * it, so that a rise over the whole window is seen.
 * 2. LEVEL and TREND speak only when the window is full; the others as soon as there is something
 * to compare. An alarm is over when its condition has not been met for LINGER_SECONDS or the
 * window, whichever is shorter: it does not flicker. */
#include <ebb/alarm.h>

#include "events.h"

#include <ebb/assert.h>
#include <stdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ALARMS_MAX      64
#define WINDOW_SAMPLES  48  /* fewer than EBB_ALARM_SAMPLES */
#define TREND_SAMPLES   8   /* without so many there is no trend */
#define TREND_AGREE     0.8 /* one step up in the middle of the window gives 0.75 */
#define LIKE_LOAD       8.0 /* loads that differ by no more, or by a tenth, say nothing of its cost */
#define LINGER_SECONDS  30
#define FULL_SHARE      0.9
#define TREND_PAIRS_MAX (EBB_ALARM_SAMPLES * (EBB_ALARM_SAMPLES - 1) / 2)

static struct ebb_alarm *alarms[ALARMS_MAX];
static size_t alarms_count;

/* --- rows --- */

void ebb_alarms_add(struct ebb_alarm *const *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct ebb_alarm *alarm = rows[i], *metric_of = alarm;
        if (alarm->metric.name)
            continue;
        ebb_assert(alarms_count < ALARMS_MAX, "no room for alarm %s", alarm->name);
        snprintf(alarm->label, sizeof(alarm->label), "alarm=\"%s\"", alarm->name);
        alarm->metric = (struct ebb_metric){.name = "ebb_alarm",
                                            .labels = alarm->label,
                                            .help = "1 while the alarm is raised; /debug/alarms "
                                                    "says what it means and what to do.",
                                            .kind = EBB_GAUGE};
        struct ebb_metric *metric = &metric_of->metric;
        ebb_metrics_add(&metric, 1);
        alarms[alarms_count++] = alarm;
    }
}

void ebb_alarms_each(void (*see)(struct ebb_alarm *, void *), void *context) {
    for (size_t i = 0; i < alarms_count; i++)
        see(alarms[i], context);
}

static enum ebb_err refuse(const char *text) {
    return ebb_err_set(EBB_ERR_USAGE,
                       "alarm \"%s\" cannot be read; allowed: NAME=THRESHOLD or "
                       "NAME=THRESHOLD/SECONDS, with a NAME from /debug/alarms",
                       text);
}

enum ebb_err ebb_alarm_set(const char *text) {
    const char *equals = strchr(text, '=');
    if (equals == NULL)
        return refuse(text);
    char *end;
    double threshold = strtod(equals + 1, &end);
    uint64_t window = 0;
    bool has_window = *end == '/';
    if (end == equals + 1 || !isfinite(threshold) || (has_window && (end[1] < '0' || end[1] > '9')))
        return refuse(text);
    if (has_window)
        window = strtoull(end + 1, &end, 10);
    if (*end != 0 || window > 86400)
        return refuse(text);
    for (size_t i = 0; i < alarms_count; i++)
        if (strlen(alarms[i]->name) == (size_t)(equals - text) &&
            strncmp(alarms[i]->name, text, (size_t)(equals - text)) == 0) {
            alarms[i]->threshold = threshold;
            if (has_window)
                alarms[i]->window_seconds = (uint32_t)window;
            return EBB_OK;
        }
    return refuse(text);
}

/* --- samples --- */

#define AT(alarm, i) ((alarm)->sample[((alarm)->first + (i)) % EBB_ALARM_SAMPLES])

static void take_sample(struct ebb_alarm *alarm, uint64_t second, double a, double b) {
    uint64_t spacing = alarm->window_seconds / WINDOW_SAMPLES;
    /* The newest sample is replaced until the next one is due, so it is always of now. A late timer
     * makes up for it: two may come in one second. */
    bool replace = alarm->count >= 1 && AT(alarm, alarm->count - 1).second == second;
    replace |= alarm->count >= 2 && second - AT(alarm, alarm->count - 2).second < spacing;
    if (!replace && alarm->count == EBB_ALARM_SAMPLES) {
        alarm->first = (alarm->first + 1) % EBB_ALARM_SAMPLES;
        alarm->count--;
    }
    if (!replace)
        alarm->count++;
    AT(alarm, alarm->count - 1).second = second;
    AT(alarm, alarm->count - 1).a = a;
    AT(alarm, alarm->count - 1).b = b;
    while (alarm->count > 2 && second - AT(alarm, 1).second >= alarm->window_seconds) {
        alarm->first = (alarm->first + 1) % EBB_ALARM_SAMPLES;
        alarm->count--;
    }
}

static bool window_is_full(const struct ebb_alarm *alarm) {
    uint64_t age = AT(alarm, alarm->count - 1).second - AT(alarm, 0).second;
    return (double)age >= FULL_SHARE * (double)alarm->window_seconds;
}

/* --- conditions: each sets value and says whether it is met --- */

static bool level_is_high(struct ebb_alarm *alarm) {
    double least = AT(alarm, 0).a;
    for (uint32_t i = 0; i < alarm->count; i++)
        least = AT(alarm, i).a < least ? AT(alarm, i).a : least;
    if (alarm->window_seconds == 0)
        least = AT(alarm, alarm->count - 1).a;
    alarm->value = AT(alarm, alarm->count - 1).a;
    return window_is_full(alarm) && least >= alarm->threshold;
}

static bool counter_rose(struct ebb_alarm *alarm) {
    alarm->value = AT(alarm, alarm->count - 1).a - AT(alarm, 0).a;
    return alarm->value >= alarm->threshold;
}

/* Rise of a by rise of b between two samples; false: b rose too little to say. */
static bool ratio(const struct ebb_alarm *alarm, uint32_t from, uint32_t to, double *value) {
    double b = AT(alarm, to).b - AT(alarm, from).b;
    if (b <= 0 || b < alarm->floor)
        return false;
    *value = (AT(alarm, to).a - AT(alarm, from).a) / b;
    return true;
}

static bool ratio_is_high(struct ebb_alarm *alarm) {
    alarm->value = 0;
    return ratio(alarm, 0, alarm->count - 1, &alarm->value) && alarm->value >= alarm->threshold;
}

static bool ratio_fell(struct ebb_alarm *alarm) {
    uint32_t last = alarm->count - 1, quarter = last;
    uint64_t begin = AT(alarm, last).second - alarm->window_seconds / 4;
    while (quarter > 0 && AT(alarm, quarter).second > begin)
        quarter--;
    double before, recently;
    alarm->value = 0;
    if (!ratio(alarm, 0, quarter, &before) || !ratio(alarm, quarter, last, &recently))
        return false;
    alarm->value = before - recently;
    return alarm->value >= alarm->threshold;
}

static bool alike(double a, double b) {
    double more = a > b ? a : b, less = a > b ? b : a;
    return more - less <= LIKE_LOAD || more - less <= more / 10;
}

/* The k-th smallest, by partitioning around the middle again and again. */
static double select_kth(double *values, size_t count, size_t k) {
    size_t low = 0, high = count - 1;
    while (low < high) {
        double pivot = values[low + (high - low) / 2];
        size_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                double swapped = values[i];
                values[i++] = values[j];
                values[j] = swapped;
                if (j-- == 0)
                    break;
            }
        }
        if (k >= i)
            low = i;
        else if (j != SIZE_MAX && k <= j)
            high = j;
        else
            return values[k];
    }
    return values[k];
}

/* What one more of the load costs: the median over pairs whose loads differ. */
static double cost_of_load(const struct ebb_alarm *alarm, double *values) {
    size_t pairs = 0;
    for (uint32_t i = 0; i < alarm->count; i++)
        for (uint32_t j = i + 1; j < alarm->count; j++)
            if (!alike(AT(alarm, i).b, AT(alarm, j).b))
                values[pairs++] =
                    (AT(alarm, j).a - AT(alarm, i).a) / (AT(alarm, j).b - AT(alarm, i).b);
    double cost = pairs > 0 ? select_kth(values, pairs, pairs / 2) : 0;
    return cost > 0 ? cost : 0;
}

static bool grows(struct ebb_alarm *alarm) {
    static double values[TREND_PAIRS_MAX]; /* one thread steps */
    size_t pairs = 0, rising = 0;
    alarm->value = 0;
    if (alarm->count < TREND_SAMPLES || !window_is_full(alarm))
        return false;
    double cost = cost_of_load(alarm, values);
    for (uint32_t i = 0; i < alarm->count; i++)
        for (uint32_t j = i + 1; j < alarm->count; j++) {
            double rise = AT(alarm, j).a - AT(alarm, i).a;
            rise -= cost * (AT(alarm, j).b - AT(alarm, i).b);
            values[pairs] = rise / (double)(AT(alarm, j).second - AT(alarm, i).second);
            rising += values[pairs++] > 0;
        }
    alarm->value = select_kth(values, pairs, pairs / 2) * alarm->window_seconds;
    return alarm->value >= alarm->threshold && (double)rising >= TREND_AGREE * (double)pairs;
}

bool ebb_alarm_step(struct ebb_alarm *alarm, uint64_t second, double a, double b) {
    static bool (*const conditions[])(struct ebb_alarm *) = {[EBB_ALARM_LEVEL] = level_is_high,
                                                             [EBB_ALARM_RISE] = counter_rose,
                                                             [EBB_ALARM_RATIO] = ratio_is_high,
                                                             [EBB_ALARM_DROP] = ratio_fell,
                                                             [EBB_ALARM_TREND] = grows};
    take_sample(alarm, second, a, b);
    if (conditions[alarm->kind](alarm)) {
        alarm->since_s = second;
        if (alarm->raised)
            return false;
        alarm->raised = true;
        alarm->times++;
        return true;
    }
    uint32_t linger =
        alarm->window_seconds < LINGER_SECONDS ? alarm->window_seconds : LINGER_SECONDS;
    if (!alarm->raised || second - alarm->since_s < linger)
        return false;
    alarm->raised = false;
    alarm->since_s = second;
    return true;
}

/* --- all of them --- */

static void tell_change(const struct ebb_alarm *alarm) {
    if (alarm->raised)
        ebb_log_event(alarm_raised, alarm->name, alarm->what, alarm->value, alarm->threshold,
                      alarm->window_seconds);
    else
        ebb_log_event(alarm_over, alarm->name, alarm->value);
}

int ebb_alarms_step(uint64_t second) {
    int raised = 0;
    for (size_t i = 0; i < alarms_count; i++) {
        struct ebb_alarm *alarm = alarms[i];
        double a = 0, b = 0;
        if (alarm->read && alarm->read(&a, &b) && ebb_alarm_step(alarm, second, a, b))
            tell_change(alarm);
        ebb_gauge_set(&alarm->metric, alarm->raised);
        raised += alarm->raised;
    }
    return raised;
}
