/* alarms -- what the daemon's own alarms look at; rows in ../tbl/alarms.def. */
#include "server.h"

#include "cmd/metrics.h"

#include <ebb/alarm.h>

#define EBB_ALARM EBB_ALARM_DECLARE
#include "tbl/alarms.def"
#define EBB_ALARM EBB_ALARM_DEFINE
#include "tbl/alarms.def"

struct ebb_alarm *const alarms_rows[] = {
#define EBB_ALARM EBB_ALARM_ADDRESS
#include "tbl/alarms.def"
};
const size_t alarms_rows_count = sizeof(alarms_rows) / sizeof(alarms_rows[0]);

/* How many times over the cache was evicted so far: each second's evictions as a share of it. */
static bool read_eviction_storm(double *a, double *b) {
    static uint64_t evictions_before;
    static double turnovers;
    (void)b;
    uint64_t items = ebb_metric_value(&ebb_metric_items);
    uint64_t evictions = ebb_metric_value(&ebb_metric_evictions);
    turnovers += (double)(evictions - evictions_before) / (double)(items > 0 ? items : 1);
    evictions_before = evictions;
    *a = turnovers;
    return true;
}

static bool read_hit_ratio_fell(double *a, double *b) {
    *a = (double)ebb_metric_value(&ebb_metric_get_hits);
    *b = *a + (double)ebb_metric_value(&ebb_metric_get_misses);
    return true;
}

static bool read_connections_near_limit(double *a, double *b) {
    (void)b;
    uint64_t most = ebb_metric_value(&ebb_metric_connections_max);
    *a = (double)ebb_metric_value(&ebb_metric_connections) / (double)(most > 0 ? most : 1);
    return most > 0;
}

static bool read_connections_refused(double *a, double *b) {
    (void)b;
    *a = (double)(ebb_metric_value(&ebb_metric_listener_disabled) +
                  ebb_metric_value(&ebb_metric_rejected));
    return true;
}

void alarms_prepare(void) {
#define EBB_ALARM(id, ...) ebb_alarm_##id.read = read_##id;
#include "tbl/alarms.def"
}
