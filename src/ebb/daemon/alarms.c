/* alarms -- what the library's alarms look at, and where they are shown.
 *
 * /healthz stays 200 while an alarm is raised: the daemon serves, a person should look. Only
 * /readyz says 503, before it serves and while it stops. */
#include "alarms.h"

#include "admin.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#include <ebb/alarm.h>
#include <ebb/clock.h>
#include <ebb/fd.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <string.h>
#include <sys/resource.h>

#define EBB_ALARM EBB_ALARM_DECLARE
#include "../tbl/alarms.def"
#define EBB_ALARM EBB_ALARM_DEFINE
#include "../tbl/alarms.def"

static struct ebb_alarm *const library[] = {
#define EBB_ALARM EBB_ALARM_ADDRESS
#include "../tbl/alarms.def"
};

static const struct ebb_daemon_plan *the_plan;
static bool is_ready;

static double seconds(uint64_t ns) {
    return (double)ns / (double)EBB_NS_PER_SECOND;
}

static double load(void) {
    return the_plan->load ? (double)the_plan->load() : 0;
}

static bool is_cache(const struct ebb_type *type) {
    for (size_t i = 0; i < the_plan->cache_types_count; i++)
        if (the_plan->cache_types[i] == type)
            return true;
    return false;
}

/* Only when a collection has run since: before it, garbage counts as held. */
static bool read_heap_grows(double *a, double *b) {
    static uint64_t collections_before;
    uint64_t collections = ebb_metric_value(&ebb_metric_gc_pause), bytes = 0;
    if (collections == collections_before)
        return false;
    collections_before = collections;
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next)
        if (!is_cache(type))
            bytes += ebb_type_bytes_held(type);
    *a = (double)bytes;
    *b = load();
    return true;
}

static bool read_descriptors_grow(double *a, double *b) {
    (void)b;
    *a = (double)ebbi_process_open_fds() - load();
    return true;
}

static bool read_leaks_found(double *a, double *b) {
    (void)b;
    *a = (double)(ebb_leaks_inexcusable() + ebb_resources_forgotten());
    return true;
}

static bool read_pauses_long(double *a, double *b) {
    *a = seconds(ebb_metric_sum_ns(&ebb_metric_gc_pause));
    *b = (double)ebb_metric_value(&ebb_metric_gc_pause);
    return true;
}

static bool read_gc_share_high(double *a, double *b) {
    *a = seconds(ebb_metric_value(&ebb_metric_gc_cpu));
    *b = seconds(ebb_clock_cpu_ns());
    return true;
}

/* It rises by each stall, so that none between two looks is missed, and by each look at one that
 * lasts, so that the alarm does too. */
static bool read_loop_stalled(double *a, double *b) {
    static double looks;
    (void)b;
    looks += (double)ebb_metric_value(&ebb_metric_loops_stalled);
    *a = looks + (double)ebb_metric_value(&ebb_metric_loop_stalls);
    return true;
}

static bool read_descriptors_near_limit(double *a, double *b) {
    (void)b;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    *a = (double)ebbi_process_open_fds() / (double)limit.rlim_cur;
    return true;
}

static bool read_accept_refused(double *a, double *b) {
    (void)b;
    *a = (double)ebb_metric_value(&ebb_metric_accept_rests);
    return true;
}

static bool read_memory_pressure(double *a, double *b) {
    (void)b;
    const struct ebb_metric *steps = ebb_metric_find("ebb_memory_pressure_steps_total", "");
    *a = steps ? (double)ebb_metric_value(steps) : 0;
    return steps != NULL;
}

static bool read_log_lossy(double *a, double *b) {
    (void)b;
    *a = (double)(ebb_metric_value(&ebb_metric_log_dropped_full) +
                  ebb_metric_value(&ebb_metric_log_dropped_error));
    return true;
}

enum ebb_err ebbi_alarms_start(const struct ebb_daemon_plan *plan) {
    the_plan = plan;
#define EBB_ALARM(id, ...) ebb_alarm_##id.read = read_##id;
#include "../tbl/alarms.def"
    ebb_alarms_add(library, sizeof(library) / sizeof(library[0]));
    ebb_alarms_add(plan->alarms, plan->alarms_count);
    enum ebb_err error = EBB_OK;
    for (size_t i = 0; plan->alarm_changes && error == EBB_OK && i < plan->alarm_changes->count;
         i++)
        error = ebb_alarm_set(plan->alarm_changes->value[i]);
    ebbi_alarms_tick(); /* what happens from here on is a rise */
    return error;
}

void ebbi_alarms_tick(void) {
    ebb_alarms_step(ebb_clock_ns() / EBB_NS_PER_SECOND);
}

void ebbi_alarms_ready(bool ready) {
    is_ready = ready;
}

/* --- pages --- */

struct health {
    struct ebb_writer *body;
    int raised;
};

static void write_reason(struct ebb_alarm *alarm, void *context) {
    struct health *health = context;
    if (!alarm->raised)
        return;
    ebb_writef(health->body, "%s%s: %s (%.6g; threshold %.6g over %u s). %s\n",
               health->raised++ ? "" : "degraded\n", alarm->name, alarm->what, alarm->value,
               alarm->threshold, alarm->window_seconds, alarm->advice);
}

static void health_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct health health = {ebb_http_body(request), 0};
    ebb_alarms_each(write_reason, &health);
    if (health.raised == 0)
        ebb_write(health.body, "ok\n");
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

static void ready_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    ebb_write(ebb_http_body(request), is_ready ? "ready\n" : "not ready\n");
    ebb_http_reply(request, is_ready ? 200 : 503, "text/plain; charset=utf-8");
}

static void write_alarm(struct ebb_alarm *alarm, void *context) {
    static const char *const kinds[] = {[EBB_ALARM_LEVEL] = "level",
                                        [EBB_ALARM_RISE] = "rise",
                                        [EBB_ALARM_RATIO] = "ratio",
                                        [EBB_ALARM_DROP] = "drop",
                                        [EBB_ALARM_TREND] = "trend"};
    struct health *list = context;
    ebb_writef(
        list->body,
        "%s\n{\"alarm\":\"%s\",\"kind\":\"%s\",\"raised\":%s,\"value\":%.9g,\"threshold\":%.9g,"
        "\"window_seconds\":%u,\"times\":%llu,\"what\":\"",
        list->raised++ ? "," : "", alarm->name, kinds[alarm->kind],
        alarm->raised ? "true" : "false", alarm->value, alarm->threshold, alarm->window_seconds,
        (unsigned long long)alarm->times);
    ebb_write_json_string(list->body, alarm->what, strlen(alarm->what));
    ebb_write(list->body, "\",\"advice\":\"");
    ebb_write_json_string(list->body, alarm->advice, strlen(alarm->advice));
    ebb_write(list->body, "\"}");
}

void ebbi_alarms_write_status(struct ebb_writer *body) {
    struct health list = {body, 0};
    ebb_write(body, ",\n\"alarms\":[");
    ebb_alarms_each(write_alarm, &list);
    ebb_write(body, "]");
}

static void alarms_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct health list = {ebb_http_body(request), 0};
    ebb_write(list.body, "{\"alarms\":[");
    ebb_alarms_each(write_alarm, &list);
    ebb_write(list.body, "]}\n");
    ebb_http_reply(request, 200, "application/json");
}

void ebbi_alarms_add_pages(void) {
    ebbi_admin_page_read_only("/healthz", "\"ok\", or \"degraded\" and which alarms are raised",
                              NULL, health_page);
    ebbi_admin_page_read_only("/readyz", "200 while it serves, else 503", NULL, ready_page);
    ebbi_admin_page_read_only("/debug/alarms", "every alarm, its threshold and advice, as JSON",
                              NULL, alarms_page);
}
