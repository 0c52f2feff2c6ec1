/* status -- the daemon's part of /debug/status, and /debug/slow.
 *
 * The memory split adds up to what the process holds: what the collected heap is used for, and the
 * rest of the resident memory as `unmanaged`. Live bytes of segments are those of live items; dead
 * ones are what their segments hold besides; dropped ones wait for the collector. */
#include "server.h"

#include "cmd/metrics.h"

#include <ebb/admin.h>
#include <ebb/collector.h>

static struct ebb_type *const connection_types[] = {&ebb_type_conn, &ebb_type_buffer,
                                                    &ebb_type_backlog, &ebb_type_worker};

static uint64_t connection_bytes(void) {
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(connection_types) / sizeof(connection_types[0]); i++)
        sum += ebb_type_bytes_held(connection_types[i]);
    return sum;
}

static uint64_t less(uint64_t from, uint64_t what) {
    return from > what ? from - what : 0;
}

static void write_memory(struct ebb_writer *writer, const struct store_stats *stats) {
    struct ebb_heap_record heap;
    ebb_heap_now(&heap);
    uint64_t connections = connection_bytes();
    uint64_t known = stats->segment_bytes + stats->dropped_bytes + stats->index_bytes + connections;
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {
        {"limit_bytes", stats->limit_bytes},
        {"segments_live_bytes", stats->bytes},
        {"segments_dead_bytes", less(stats->segment_bytes, stats->bytes)},
        {"segments_dropped_bytes", stats->dropped_bytes},
        {"index_bytes", stats->index_bytes},
        {"connections_bytes", connections},
        {"other_heap_bytes", less(heap.heap - heap.free, known)},
        {"free_heap_bytes", heap.free},
        {"unmanaged_bytes", heap.unmanaged},
        {"resident_bytes", heap.rss},
    };
    ebb_write(writer, ",\n\"memory\":{");
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        ebb_writef(writer, "%s\"%s\":%llu", i ? "," : "", parts[i].name,
                   (unsigned long long)parts[i].bytes);
    ebb_write(writer, "}");
}

static void write_cache(struct ebb_writer *writer, const struct store_stats *stats) {
    const struct {
        const char *name;
        uint64_t value;
    } figures[] = {
        {"items", stats->items},
        {"items_stored_total", stats->items_total},
        {"item_bytes", stats->bytes},
        {"evicted_total", stats->evictions},
        {"evicted_unfetched_total", stats->evicted_unfetched},
        {"expired_total", stats->reclaimed + stats->expired_lookups},
        {"expired_unfetched_total", stats->expired_unfetched},
        {"segments", stats->segments},
        {"segment_bytes", stats->segment_bytes},
        {"probation_bytes", stats->probation_bytes},
        {"huge_values", stats->huge},
        {"segments_cleaned_total", stats->cleaned_segments},
        {"ghost_hits_total", stats->ghost_hits},
        {"written_bytes_total", stats->written_bytes},
        {"copied_bytes_total", stats->copied_bytes},
    };
    ebb_write(writer, ",\n\"cache\":{");
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
        ebb_writef(writer, "%s\"%s\":%llu", i ? "," : "", figures[i].name,
                   (unsigned long long)figures[i].value);
    ebb_write(writer, "}");
}

static void write_requests(struct ebb_writer *writer) {
    static const struct {
        const char *name;
        struct ebb_metric *metric;
    } commands[] = {
#define EBB_COMMAND(id, name, ...) {name, &ebb_metric_request_##id},
#include "tbl/commands.def"
    };
    uint64_t hits = ebb_metric_value(&ebb_metric_get_hits);
    uint64_t misses = ebb_metric_value(&ebb_metric_get_misses), total = 0;
    ebb_write(writer, ",\n\"requests\":{\"by_command\":{");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        uint64_t count = ebb_metric_value(commands[i].metric);
        total += count;
        ebb_writef(writer, "%s\"%s\":%llu", i ? "," : "", commands[i].name,
                   (unsigned long long)count);
    }
    ebb_writef(writer, "},\"total\":%llu,\"get_hits_total\":%llu,\"get_misses_total\":%llu",
               (unsigned long long)total, (unsigned long long)hits, (unsigned long long)misses);
    ebb_writef(writer, ",\"hit_ratio\":%.6f}",
               hits + misses > 0 ? (double)hits / (double)(hits + misses) : 0);
}

static void write_latency(struct ebb_writer *writer) {
    static const struct {
        const char *name;
        struct ebb_metric *metric;
    } classes[] = {
#define EBB_CLASS(id) {#id, &ebb_metric_latency_##id},
#include "tbl/classes.def"
    };
    ebb_write(writer, ",\n\"latency\":{");
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        ebb_writef(writer, "%s\"%s\":", i ? ",\n" : "", classes[i].name);
        ebb_metric_write_json(writer, classes[i].metric);
    }
    ebb_write(writer, "}");
}

static void write_connections(struct ebb_writer *writer, const struct server *server) {
    ebb_writef(writer, ",\n\"connections\":{\"open\":%llu,\"limit\":%llu,\"accepted_total\":%llu",
               (unsigned long long)ebb_metric_value(&ebb_metric_connections),
               (unsigned long long)server->shared.settings->connections,
               (unsigned long long)ebb_metric_value(&ebb_metric_connections_total));
    ebb_writef(writer, ",\"read_bytes_total\":%llu,\"written_bytes_total\":%llu}",
               (unsigned long long)ebb_metric_value(&ebb_metric_read_bytes),
               (unsigned long long)ebb_metric_value(&ebb_metric_written_bytes));
    ebb_write(writer, ",\n\"workers\":[");
    for (int i = 0; i < server->workers_count; i++) {
        const struct metrics_worker *worker = &server->worker_list[i]->metrics;
        ebb_writef(writer,
                   "%s{\"turns_total\":%llu,\"requests_total\":%llu,\"busy_seconds_total\":%.9f,"
                   "\"connections\":%lld}",
                   i ? "," : "", (unsigned long long)ebb_metric_value(worker->turns),
                   (unsigned long long)ebb_metric_value(worker->requests),
                   (double)ebb_metric_value(worker->busy) / 1e9,
                   (long long)ebb_metric_value(worker->conns));
    }
    ebb_write(writer, "]");
}

void status_write(const struct server *server, struct ebb_writer *writer) {
    struct store_stats stats;
    store_stats_read(server->shared.store, &stats);
    write_memory(writer, &stats);
    write_cache(writer, &stats);
    write_requests(writer);
    write_latency(writer);
    write_connections(writer, server);
}

static void slow_page(struct ebb_http_request *request, void *arg) {
    struct server *const *server = arg;
    struct ebb_writer *body = ebb_http_body(request);
    struct timing *timings[SETTINGS_THREADS_MAX];
    int count = *server ? (*server)->workers_count : 0;
    for (int i = 0; i < count; i++)
        timings[i] = &(*server)->worker_list[i]->timing;
    ebb_write(body, "{\"slowest\":");
    timing_write_slowest(timings, count, body);
    ebb_write(body, "}\n");
    ebb_http_reply(request, 200, "application/json");
}

void status_pages_add(struct server **server) {
    ebb_admin_page("/debug/slow", "the slowest requests of the last hour, as JSON", NULL, slow_page,
                   server);
}
