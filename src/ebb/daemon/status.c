/* status -- /debug/status: the figures that a page or a person wants first, as one JSON object.
 *
 * Here stands what every daemon has (heap, collections, resources, leaks); the program adds its own
 * members. Counters are since the start: who wants rates asks twice. */
#include "admin.h"
#include "alarms.h"
#include "telemetry/metrics.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/daemon.h>
#include <ebb/leak.h>
#include <string.h>
#include <unistd.h>

static struct {
    struct ebb_daemon *daemon;
    const struct ebb_daemon_plan *plan;
    uint64_t started_ns;
} status;

static void write_number(struct ebb_writer *body, const char *name, uint64_t value) {
    ebb_writef(body, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void write_process(struct ebb_writer *body) {
    ebb_write(body, "{\"name\":\"");
    ebb_write_json_string(body, status.plan->name, strlen(status.plan->name));
    ebb_write(body, "\",\"version\":\"");
    ebb_write_json_string(body, status.plan->version, strlen(status.plan->version));
    ebb_writef(body, "\",\"pid\":%d,\"time\":%.3f,\"uptime_seconds\":%.3f,\"cpu_seconds\":%.6f",
               (int)getpid(), (double)ebb_clock_unix_ns() / 1e9,
               (double)(ebb_clock_ns() - status.started_ns) / 1e9,
               (double)ebb_clock_cpu_ns() / 1e9);
}

static void write_heap(struct ebb_writer *body) {
    struct ebb_heap_record now;
    ebb_heap_now(&now);
    ebb_writef(body, ",\n\"heap\":{\"size_bytes\":%llu", (unsigned long long)now.heap);
    write_number(body, "live_bytes", now.live);
    write_number(body, "free_bytes", now.free);
    write_number(body, "dropped_bytes", ebb_dropped_now());
    write_number(body, "unmapped_bytes", now.unmapped);
    write_number(body, "unmanaged_bytes", now.unmanaged);
    write_number(body, "resident_bytes", now.rss);
    write_number(body, "allocated_bytes_total", ebb_metric_value(&ebb_metric_allocated_bytes));
    ebb_write(body, "}");
}

static void write_collections(struct ebb_writer *body) {
    ebb_write(body, ",\n\"collections\":{\"by_cause\":{");
    for (int cause = 0; cause < EBB_CAUSES; cause++)
        ebb_writef(body, "%s\"%s\":%llu", cause ? "," : "", ebb_cause_name((enum ebb_cause)cause),
                   (unsigned long long)ebb_metric_value(ebbi_metric_collections[cause]));
    ebb_write(body, "},\"pause\":");
    ebb_metric_write_json(body, &ebb_metric_gc_pause);
    ebb_writef(body, ",\"cpu_seconds\":%.9f,\"finalizers_run\":%llu}",
               (double)ebb_metric_value(&ebb_metric_gc_cpu) / 1e9,
               (unsigned long long)ebb_metric_value(&ebb_metric_finalizers_run));
}

static void write_resources(struct ebb_writer *body) {
    ebb_write(body, ",\n\"resources\":{");
    for (int kind = 0; kind < EBB_RESOURCE_CLASSES; kind++)
        ebb_writef(body, "%s\"%s\":%zu", kind ? "," : "",
                   ebb_resource_class_name((enum ebb_resource_class)kind),
                   ebb_resources_count((enum ebb_resource_class)kind));
    ebb_writef(body, "},\"open_descriptors\":%llu,\"leaked_objects\":%llu,\"forgotten\":%llu",
               (unsigned long long)ebbi_process_open_fds(), (unsigned long long)ebb_leaks_count(),
               (unsigned long long)ebb_resources_forgotten());
}

static void status_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct ebb_writer *body = ebb_http_body(request);
    write_process(body);
    write_heap(body);
    write_collections(body);
    write_resources(body);
    ebbi_alarms_write_status(body);
    ebb_write(body, ",\n\"bucket_bounds_seconds\":");
    ebb_metric_write_bounds_json(body);
    if (status.plan->status)
        status.plan->status(status.daemon, body, status.plan->arg);
    ebb_write(body, "}\n");
    ebb_http_reply(request, 200, "application/json");
}

void ebbi_status_add(struct ebb_daemon *daemon, const struct ebb_daemon_plan *plan) {
    status.daemon = daemon;
    status.plan = plan;
    status.started_ns = ebb_clock_ns();
    ebb_admin_page("/debug/status", "figures of now, as JSON", NULL, status_page, NULL);
}
