/* server -- opens and closes the whole in order.
 *
 * Up: store, workers, listeners. Down: listeners, workers (each closes its connections), store. A
 * connection is accepted on the main loop, counted, and posted to the workers in turn.
 *
 * 1. the_server is static: it is what the collector reaches everything by.
 * 2. conns counts from accept to close, so the limit holds for connections that are still on their
 * way, too. */
#include "conn.h"

#include "cmd/events.h"
#include "cmd/metrics.h"
#include "cmd/prefix.h"
#include "cmd/watchers.h"

#include <ebb/clock.h>
#include <ebb/inventory.h>
#include <stdio.h>

#define IDLE_LOOK_MS       1000 /* between looks for idle connections */
#define SPARE_DESCRIPTORS  64   /* for listeners, files, the admin address */
#define WORKER_DESCRIPTORS 4    /* eventfd, epoll set, libevent's own */

#define EBB_TYPE EBB_TYPE_DEFINE
#include "tbl/types.def"

enum {
    HOUSE_NS = 2000000,
    RELIEF_BYTES = 512 << 10, /* of items, at once */
    RELIEF_TRIES = 4,
};

static struct server *the_server;

static void close_idle(void *arg) {
    conn_close_idle(arg);
}

static void worker_start(int index, struct ebb_loop *loop, void *arg) {
    struct server *server = arg;
    struct worker *worker = server->worker_list[index];
    if (server->shared.settings->idle_seconds_max > 0)
        worker->idle_timer = ebb_timer_open(loop, IDLE_LOOK_MS, true, close_idle, worker);
}

static void worker_stop(int index, void *arg) {
    struct server *server = arg;
    ebb_timer_close(server->worker_list[index]->idle_timer);
    udp_stop(server->worker_list[index]);
    conn_close_all(server->worker_list[index]);
}

static struct worker *worker_new(struct server *server, int index) {
    struct worker *worker = ebb_new(worker);
    worker->server = server;
    worker->cmd.shared = &server->shared;
    worker->cmd.worker = store_worker_at(server->shared.store, index);
    worker->cmd.reply = &worker->reply;
    timing_init(&worker->timing, (uint32_t)server->shared.settings->latency_sample, index);
    metrics_worker_add(&worker->metrics, index);
    worker->reply.text = ebb_bytes(REPLY_TEXT_SIZE);
    worker->reply.size = REPLY_TEXT_SIZE;
    ebb_list_init(&worker->conns);
    ebb_list_init(&worker->later);
    return worker;
}

/* As many descriptors as connections are allowed, and what the workers need, if the system lets us;
 * else there are fewer connections. */
static enum ebb_err raise_descriptors(struct settings *settings) {
    char who[64];
    snprintf(who, sizeof(who), "--conn-limit (-c) %llu", (unsigned long long)settings->connections);
    uint64_t beside = SPARE_DESCRIPTORS + settings->threads * WORKER_DESCRIPTORS;
    uint64_t wanted = settings->connections + beside;
    uint64_t allowed = ebb_descriptors_reserve_most(wanted, who);
    if (allowed <= beside)
        return ebb_descriptors_reserve(wanted, who);
    if (allowed == wanted)
        return EBB_OK;
    ebb_log_event(fewer_connections, allowed - beside, settings->connections, allowed);
    settings->connections = allowed - beside;
    return EBB_OK;
}

static void store_open(struct server *server, const struct settings *settings, size_t limit_bytes) {
    struct ebb_memory_limits limits;
    ebb_memory_limits_read(&limits, "");
    struct store_config config = {
        .limit_bytes = limit_bytes,
        .limit_most = limits.machine,
        .value_size_max = settings->item_size_max,
        .workers = (int)settings->threads,
        .evict = !settings->no_evictions,
        .evicted = watch_evicted,
    };
    server->shared.store = store_new(&config);
    metrics_store_set(server->shared.store, &server->shared.clock);
}

/* Each worker knows its loop before anything is posted there, whether or not its thread has begun.
 */
static enum ebb_err start_workers(struct server *server) {
    enum ebb_err error =
        ebb_workers_start(&server->workers, "worker", server->workers_count, worker_start, server);
    for (int i = 0; error == EBB_OK && i < server->workers_count; i++)
        server->worker_list[i]->loop = ebb_worker_loop(server->workers, i);
    return error;
}

enum ebb_err server_open(struct settings *settings, size_t limit_bytes, struct ebb_loop *loop) {
    enum ebb_err error = raise_descriptors(settings);
    if (error)
        return error;
    struct server *server = the_server = ebb_new(server);
    server->loop = loop;
    pthread_mutex_init(&server->shed.mutex, NULL);
    server->shared.settings = settings;
    server->shared.list_conns = conn_list_list;
    if (settings->prefix_delimiter)
        prefix_delimiter_set(settings->prefix_delimiter);
    exptime_clock_init(&server->shared.clock, ebb_clock_ns(), ebb_clock_unix_ns());
    store_open(server, settings, limit_bytes);
    server->workers_count = (int)settings->threads;
    server->worker_list =
        ebb_new_sized(&ebb_type_worker_list, settings->threads * sizeof(struct worker *));
    for (int i = 0; i < server->workers_count; i++)
        server->worker_list[i] = worker_new(server, i);
    ebb_gauge_set(&ebb_metric_up, 1);
    ebb_gauge_set(&ebb_metric_version, 1);
    ebb_gauge_set(&ebb_metric_build_info, 1);
    ebb_gauge_set(&ebb_metric_accepting, 1);
    ebb_gauge_set(&ebb_metric_threads, (int64_t)settings->threads);
    ebb_gauge_set(&ebb_metric_connections_max, (int64_t)settings->connections);
    status_pages_add(&the_server);
    error = start_workers(server);
    if (error == EBB_OK)
        error = listen_open(server);
    if (error)
        server_close();
    return error;
}

void server_close(void) {
    struct server *server = the_server;
    listen_close(server);
    if (server->workers)
        ebb_workers_stop(server->workers, worker_stop, server);
    udp_close(server);
    for (int i = 0; i < server->workers_count; i++)
        ebb_done(server->worker_list[i]);
    metrics_store_set(NULL, NULL);
    store_close(server->shared.store);
    the_server = NULL;
    ebb_done(server);
}

void server_status(struct ebb_writer *writer) {
    if (the_server)
        status_write(the_server, writer);
}

bool server_drain(void) {
    return leave_all(the_server);
}

static uint32_t second_now(const struct server *server) {
    return exptime_now(&server->shared.clock, ebb_loop_now_ns(server->loop));
}

void server_memory_read(size_t *target, size_t *used) {
    struct store_stats stats;
    store_stats_read(the_server->shared.store, &stats);
    *target = stats.limit_bytes;
    *used = stats.segment_bytes + stats.dropped_bytes + stats.index_bytes;
}

bool server_memory_set(size_t target) {
    return store_limit_set(the_server->shared.store, target, second_now(the_server));
}

/* In slices of a few milliseconds, so that the loop goes on meanwhile. */
static void keep_house(void *arg) {
    struct server *server = arg;
    if (server != the_server)
        return;
    uint64_t until = ebb_clock_ns() + HOUSE_NS;
    do
        server->house_is_on = store_tick(server->shared.store, second_now(server));
    while (server->house_is_on && ebb_clock_ns() < until);
    if (server->house_is_on)
        ebb_loop_post(server->loop, keep_house, server);
}

static bool let_go(struct server *server, size_t bytes) {
    return store_give(server->shared.store, bytes,
                      exptime_now(&server->shared.clock, ebb_clock_ns()));
}

/* A few times, since what leaves need not be where it helps. */
void server_relieve(struct server *server) {
    for (int i = 0; i < RELIEF_TRIES && ebb_memory_short(); i++)
        if (!let_go(server, RELIEF_BYTES))
            return;
}

void *server_try(struct server *server, struct ebb_type *type, size_t size) {
    void *object = ebb_try_sized(type, size);
    if (object == NULL) {
        let_go(server, size + RELIEF_BYTES);
        server_relieve(server);
        object = ebb_try_sized(type, size);
    }
    return object;
}

void server_tick(void) {
    server_relieve(the_server);
    if (!the_server->house_is_on)
        keep_house(the_server);
}

static void resume(void *arg) {
    struct server *server = arg;
    atomic_store(&server->resuming, false);
    if (server == the_server && atomic_load(&server->paused))
        listen_pause(server, false);
}

void server_conn_gone(struct server *server) {
    uint64_t open = atomic_fetch_sub(&server->conns, 1) - 1;
    ebb_gauge_set(&ebb_metric_connections, (int64_t)open);
    if (atomic_load(&server->paused) && !atomic_exchange(&server->resuming, true))
        ebb_loop_post(server->loop, resume, server);
}

void server_tell(const struct ebb_daemon *daemon) {
    struct server *server = the_server;
    const struct settings *settings = server->shared.settings;
    char where[512];
    struct ebb_array_writer writer;
    ebb_array_writer_init(&writer, where, sizeof(where));
    listen_describe(server, &writer.writer);
    ebb_log_event(serves, where, settings->memory_mib, settings->item_size_max, settings->threads);
    if (settings->admin) { /* HOST:PORT, where the port may be 0: any */
        int host = (int)(strrchr(settings->admin, ':') - settings->admin);
        snprintf(where, sizeof(where), "%.*s:%d", host, settings->admin,
                 ebb_daemon_admin_port(daemon));
        ebb_log_event(admin_at, where);
    }
    int port = server->listeners_count > 0 ? ebb_listener_port(server->listeners[0]) : 0;
    if (port > 0)
        ebb_log_event(try_it, port);
}
