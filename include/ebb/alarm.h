/* alarm -- conditions that a person should hear of before a user does.
 *
 * Each is a row of an alarms.def:
 *     EBB_ALARM(id, KIND, threshold, window in seconds, floor, "what it means", "what to do")
 * fed once a second from read(), which gives up to two figures. Raised and over, it is told in the
 * log, as ebb_alarm{alarm="id"}, on /healthz and /debug/alarms.
 *
 *   LEVEL  a was at or above the threshold for the whole window
 *   RISE   a, a counter, rose by the threshold or more within the window
 *   RATIO  of the rises of a and b within the window; b must have risen by floor
 *   DROP   the same ratio of the window's last quarter is lower by the threshold than of the rest
 *   TREND  a, less what the load b costs, grows by the threshold per window or more: Theil and
 *          Sen's slope, the median over all pairs of samples; the window must be full, and most
 *          pairs agree */
#ifndef EBB_ALARM_H
#define EBB_ALARM_H

#include <ebb/err.h>
#include <ebb/metric.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

enum ebb_alarm_kind {
    EBB_ALARM_LEVEL,
    EBB_ALARM_RISE,
    EBB_ALARM_RATIO,
    EBB_ALARM_DROP,
    EBB_ALARM_TREND
};

#define EBB_ALARM_SAMPLES 64
#define EBB_ALARM_LABEL   64

struct ebb_alarm {
    const char *name;
    enum ebb_alarm_kind kind;
    double threshold;
    uint32_t window_seconds;
    double floor;
    const char *what, *advice;
    bool (*read)(double *a, double *b); /* false: nothing to say in this second */
    bool raised;
    double value;     /* as compared with the threshold */
    uint64_t times;   /* raised so far */
    uint64_t since_s; /* raised or over: the second given to ebb_alarm_step */
    /* private */
    struct {
        uint64_t second;
        double a, b;
    } sample[EBB_ALARM_SAMPLES];
    uint32_t first, count;
    struct ebb_metric metric;
    char label[EBB_ALARM_LABEL];
};

#define EBB_ALARM_DECLARE(id, ...) extern struct ebb_alarm ebb_alarm_##id;
#define EBB_ALARM_DEFINE(id, kind_, threshold_, window_, floor_, what_, advice_)                   \
    EBB_ROW(struct ebb_alarm ebb_alarm_##id = {.name = #id,                                        \
                                               .kind = EBB_ALARM_##kind_,                          \
                                               .threshold = threshold_,                            \
                                               .window_seconds = window_,                          \
                                               .floor = floor_,                                    \
                                               .what = what_,                                      \
                                               .advice = advice_};)
#define EBB_ALARM_ADDRESS(id, ...) &ebb_alarm_##id,

/* Makes the rows known. When: start. Twice for the same row does nothing. */
void ebb_alarms_add(struct ebb_alarm *const *rows, size_t count);
/* Calls see for each. */
void ebb_alarms_each(void (*see)(struct ebb_alarm *alarm, void *context), void *context);

/* Changes a row: "NAME=THRESHOLD" or "NAME=THRESHOLD/SECONDS". Fails: EBB_ERR_USAGE. */
enum ebb_err ebb_alarm_set(const char *text) EBB_MUST_CHECK;

/* Takes a sample of this second (never back) and decides anew. True when it was raised or is over.
 * Pure but for the alarm itself. */
bool ebb_alarm_step(struct ebb_alarm *alarm, uint64_t second, double a, double b);
/* Reads and steps every row that has a read function; tells what changed. When: once a second, one
 * thread. Returns how many are raised. */
int ebb_alarms_step(uint64_t second);

__END_DECLS

#endif
