/* trace_page -- /debug/trace?seconds=N: traces for N seconds, then answers.
 *
 * One trace at a time. Its memory is collected, so nothing is kept of it when it is over. It is
 * over early when who asked for it hangs up. */
#include "trace_page.h"

#include "admin.h"
#include "gc/types.h"
#include "telemetry/metrics.h"

#include <ebb/trace.h>
#include <stdlib.h>

#define SECONDS_DEFAULT   5
#define SECONDS_MAX       60
#define TRACE_BYTES       (6 * 1024 * 1024)
#define COUNTERS_EVERY_MS 50

static struct {
    struct ebb_loop *loop;
    struct ebb_http_later *answer;
    struct ebb_timer *end, *counters;
} tracing; /* static: what it holds is reachable */

static void take_counters(void *arg) {
    (void)arg;
    ebb_trace_counter("heap", ebb_metric_value(&ebb_metric_heap_size));
    ebb_trace_counter("live heap", ebb_metric_value(&ebb_metric_heap_live));
    ebb_trace_counter("resident", ebbi_process_resident());
}

static struct ebb_trace *stop(void) {
    struct ebb_trace *trace = ebb_trace_end();
    ebb_timer_close(tracing.end);
    ebb_timer_close(tracing.counters);
    tracing.end = tracing.counters = NULL;
    return trace;
}

static void finish(void *arg) {
    (void)arg;
    take_counters(NULL);
    struct ebb_trace *trace = stop();
    struct ebb_http_later *answer = tracing.answer;
    tracing.answer = NULL;
    ebb_trace_write_json(trace, ebb_http_later_body(answer));
    ebb_http_later_reply(answer, 200, "application/json");
}

static void give_up(const char *why) {
    struct ebb_http_later *answer = tracing.answer;
    stop();
    tracing.answer = NULL;
    ebb_writef(ebb_http_later_body(answer), "503: %s\n", why);
    ebb_http_later_reply(answer, 503, "text/plain; charset=utf-8");
}

static void asker_gone(void *arg) {
    (void)arg;
    give_up("nobody waits for it any more");
}

static void trace_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    const char *text = ebb_http_query(request, "seconds");
    char *rest = NULL;
    double seconds = text ? strtod(text, &rest) : SECONDS_DEFAULT;
    if ((rest && *rest) || !(seconds > 0 && seconds <= SECONDS_MAX)) {
        ebb_writef(ebb_http_body(request), "400: seconds: more than 0, at most %d\n", SECONDS_MAX);
        ebb_http_reply(request, 400, "text/plain; charset=utf-8");
        return;
    }
    void *memory = tracing.answer ? NULL : ebb_try_sized(&ebbi_type_trace, TRACE_BYTES);
    if (memory == NULL || !ebb_trace_begin(memory, TRACE_BYTES)) {
        ebb_write(ebb_http_body(request), "503: a trace is running already, or memory is short\n");
        ebb_http_reply(request, 503, "text/plain; charset=utf-8");
        return;
    }
    tracing.answer = ebb_http_keep(request, asker_gone, NULL);
    tracing.end = ebb_timer_open(tracing.loop, (uint64_t)(seconds * 1000), false, finish, NULL);
    tracing.counters = ebb_timer_open(tracing.loop, COUNTERS_EVERY_MS, true, take_counters, NULL);
    take_counters(NULL);
}

void ebbi_trace_page_add_page(struct ebb_loop *loop) {
    tracing.loop = loop;
    ebb_admin_page("/debug/trace", "a trace of the next ?seconds=5, for Perfetto", "seconds",
                   trace_page, NULL);
}

void ebbi_trace_page_stop(void) {
    if (tracing.answer)
        give_up("the daemon stops");
}
