/* watchers -- what happens, as lines to those who asked.
 *
 * Each watcher has a ring of cells. Any worker puts a finished line into it; the watcher's own
 * worker takes the lines out when it is stepped, every few milliseconds. The ring is a bounded
 * queue of many writers and one reader (D. Vyukov's): a writer claims a cell by its number and
 * publishes it by the cell's own sequence number, so nobody waits for anybody.
 *
 * 1. A full ring loses the line: it is counted, and "skipped=N" tells the watcher before its next
 * line. A slow peer stops the taking, so it only loses more.
 * 2. watches[] holds the rings; who is writing into one that is just being closed holds it by its
 * stack.
 * 3. A line fits a cell: a key of 250 bytes is 750 when encoded. */
#include "watchers.h"

#include "metrics.h"
#include "stream.h"

#include <arpa/inet.h>
#include <ebb/clock.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#define WATCHERS_MAX 20  /* as memcached */
#define CELLS        256 /* of a ring; a power of two */
#define CELL_TEXT    1014
#define KEY_TEXT     (3 * REQUEST_KEY_MAX + 1)
#define PEER_TEXT    INET6_ADDRSTRLEN
#define NS_PER_US    1000

struct cell {
    _Atomic uint64_t sequence; /* its number: free; its number + 1: full */
    uint16_t length;
    char text[CELL_TEXT];
};

struct watcher {
    unsigned kinds;
    bool greeted;
    _Atomic uint64_t tail; /* next to be claimed */
    uint64_t head;         /* next to be taken; the reader's */
    _Atomic uint64_t skipped;
    struct cell cell[CELLS];
};

#define EBB_TYPE EBB_TYPE_DECLARE
#include "tbl/types.def"

_Atomic unsigned watch_wanted;
static struct watcher *_Atomic watches[WATCHERS_MAX];
static pthread_mutex_t watches_lock = PTHREAD_MUTEX_INITIALIZER; /* who comes and who goes */
static _Atomic uint64_t last_gid;

unsigned watch_watchers(void) {
    unsigned count = 0;
    for (int i = 0; i < WATCHERS_MAX; i++)
        count += atomic_load(&watches[i]) != NULL;
    return count;
}

/* --- the ring --- */

static bool put(struct watcher *watch, const char *text, size_t length) {
    uint64_t number = atomic_load_explicit(&watch->tail, memory_order_relaxed);
    struct cell *cell;
    for (;;) {
        cell = &watch->cell[number % CELLS];
        uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);
        if (sequence == number) {
            if (atomic_compare_exchange_weak(&watch->tail, &number, number + 1))
                break;
        } else if (sequence < number) {
            return false; /* full */
        } else {
            number = atomic_load_explicit(&watch->tail, memory_order_relaxed);
        }
    }
    cell->length = (uint16_t)length;
    memcpy(cell->text, text, length);
    atomic_store_explicit(&cell->sequence, number + 1, memory_order_release);
    return true;
}

static void tell(unsigned kind, const char *text, size_t length) {
    for (int i = 0; i < WATCHERS_MAX; i++) {
        struct watcher *watch = atomic_load_explicit(&watches[i], memory_order_acquire);
        if (watch == NULL || !(watch->kinds & kind))
            continue;
        if (put(watch, text, length)) {
            ebb_count(&ebb_metric_watch_lines, 1);
        } else {
            atomic_fetch_add_explicit(&watch->skipped, 1, memory_order_relaxed);
            ebb_count(&ebb_metric_watch_skipped, 1);
        }
    }
}

/* --- lines --- */

__attribute__((format(printf, 2, 3))) static void tell_line(unsigned kind, const char *format,
                                                            ...) {
    char line[CELL_TEXT];
    uint64_t now_ns = ebb_clock_unix_ns();
    int head =
        snprintf(line, sizeof(line),
                 "ts=%llu.%llu gid=%llu type=", (unsigned long long)(now_ns / EBB_NS_PER_SECOND),
                 (unsigned long long)(now_ns % EBB_NS_PER_SECOND / NS_PER_US),
                 (unsigned long long)atomic_fetch_add(&last_gid, 1) + 1);
    va_list arguments;
    va_start(arguments, format);
    int rest = vsnprintf(line + head, sizeof(line) - (size_t)head, format, arguments);
    va_end(arguments);
    size_t length = (size_t)head + (size_t)rest;
    tell(kind, line, length < sizeof(line) ? length : sizeof(line) - 1);
}

static const char *encoded(char text[KEY_TEXT], struct ebb_span key) {
    *stream_write_uri(text, key) = '\0';
    return text;
}

void watch_fetched(const struct cmd_context *cmd, struct ebb_span key, bool found, size_t length) {
    char text[KEY_TEXT];
    tell_line(WATCH_FETCHERS, "item_get key=%s status=%s clsid=%u cfd=%d size=%zu\n",
              encoded(text, key), found ? "found" : "not_found", found ? 1u : 0u, cmd->fd, length);
}

void watch_looked_up(const struct cmd_context *cmd, struct ebb_span key) {
    struct store_read read;
    bool found = store_find(cmd->worker, key, cmd->now, &read);
    watch_fetched(cmd, key, found, found ? read.item.value_length : 0);
}

void watch_stored(const struct cmd_context *cmd, enum request_verb verb, struct ebb_span key,
                  enum store_verdict verdict, uint32_t expires, size_t length) {
    static const char *const status[] = {
        [STORE_STORED] = "stored",       [STORE_NOT_STORED] = "not_stored",
        [STORE_EXISTS] = "exists",       [STORE_NOT_FOUND] = "not_found",
        [STORE_TOO_LARGE] = "too_large", [STORE_NO_MEMORY] = "no_memory",
        [STORE_AGAIN] = "not_stored",
    };
    char text[KEY_TEXT];
    tell_line(WATCH_MUTATIONS,
              "item_store key=%s status=%s cmd=%s ttl=%u clsid=%u cfd=%d size=%zu\n",
              encoded(text, key), status[verdict], request_verb_name(verb),
              expires ? expires - cmd->now : 0, 1u, cmd->fd, length);
}

void watch_deleted(enum request_verb verb, struct ebb_span key, size_t length) {
    char text[KEY_TEXT];
    tell_line(WATCH_DELETIONS, "deleted key=%s cmd=%s clsid=%u size=%zu\n", encoded(text, key),
              request_verb_name(verb), 1u, length);
}

void watch_evicted(struct ebb_span key, const struct store_item *item, uint32_t now) {
    char text[KEY_TEXT];
    ebb_count(&ebb_metric_slab_evicted_nonzero, item->expires != 0);
    ebb_gauge_set(&ebb_metric_slab_evicted_seconds, now - item->last_access);
    if (!watch_on(WATCH_EVICTIONS))
        return;
    tell_line(WATCH_EVICTIONS, "eviction key=%s fetch=%s ttl=%lld la=%u clsid=%u size=%zu\n",
              encoded(text, key), item->item_flags & STORE_FETCHED ? "yes" : "no",
              item->expires ? (long long)item->expires - now : -1LL, now - item->last_access, 1u,
              item->value_length);
}

static const char *peer_text(const union watch_peer *peer, char text[PEER_TEXT], unsigned *port) {
    bool four = peer->any.sa_family == AF_INET;
    *port = 0;
    if (!four && peer->any.sa_family != AF_INET6)
        return "unix";
    *port = ntohs(four ? peer->in4.sin_port : peer->in6.sin6_port);
    return inet_ntop(peer->any.sa_family,
                     four ? (const void *)&peer->in4.sin_addr : (const void *)&peer->in6.sin6_addr,
                     text, PEER_TEXT);
}

void watch_connected(int fd, const union watch_peer *peer) {
    char text[PEER_TEXT];
    unsigned port;
    const char *address = peer_text(peer, text, &port);
    tell_line(WATCH_CONNEVENTS, "conn_new rip=%s rport=%u transport=%s cfd=%d\n", address, port,
              port ? "tcp" : "local", fd);
}

void watch_disconnected(int fd, const union watch_peer *peer, enum watch_reason reason) {
    static const char *const reasons[] = {"normal", "error", "idle_timeout", "shutdown"};
    char text[PEER_TEXT];
    unsigned port;
    const char *address = peer_text(peer, text, &port);
    tell_line(WATCH_CONNEVENTS, "conn_close rip=%s rport=%u transport=%s reason=%s cfd=%d\n",
              address, port, port ? "tcp" : "local", reasons[reason], fd);
}

/* --- the command --- */

static void want_again(void) {
    unsigned wanted = 0;
    for (int i = 0; i < WATCHERS_MAX; i++) {
        struct watcher *watch = atomic_load(&watches[i]);
        wanted |= watch ? watch->kinds : 0;
    }
    atomic_store(&watch_wanted, wanted);
}

static enum cmd_step step_watch(struct cmd_context *cmd, struct cmd_stream *stream) {
    struct watcher *watch = stream->watch;
    if (!watch->greeted)
        reply_line(cmd->reply, EBB_SPAN("OK"));
    watch->greeted = true;
    while (!reply_full(cmd->reply)) {
        struct cell *cell = &watch->cell[watch->head % CELLS];
        if (atomic_load_explicit(&cell->sequence, memory_order_acquire) != watch->head + 1)
            break;
        uint64_t skipped = atomic_exchange_explicit(&watch->skipped, 0, memory_order_relaxed);
        if (skipped > 0) {
            reply_bytes(cmd->reply, "skipped=", 8);
            reply_number(cmd->reply, skipped);
            reply_bytes(cmd->reply, "\n", 1);
        }
        reply_bytes(cmd->reply, cell->text, cell->length);
        atomic_store_explicit(&cell->sequence, watch->head + CELLS, memory_order_release);
        watch->head++;
    }
    return CMD_STEP_WAIT;
}

static void close_watch(struct cmd_stream *stream) {
    pthread_mutex_lock(&watches_lock);
    for (int i = 0; i < WATCHERS_MAX; i++)
        if (atomic_load(&watches[i]) == stream->watch)
            atomic_store(&watches[i], NULL);
    want_again();
    pthread_mutex_unlock(&watches_lock);
    stream->watch = NULL;
}

/* False: there are too many. */
static bool add(struct watcher *watch) {
    bool added = false;
    pthread_mutex_lock(&watches_lock);
    for (int i = 0; i < WATCHERS_MAX && !added; i++)
        if (atomic_load(&watches[i]) == NULL) {
            atomic_store(&watches[i], watch);
            added = true;
        }
    want_again();
    pthread_mutex_unlock(&watches_lock);
    return added;
}

static struct watcher *watch_new(unsigned kinds) {
    struct watcher *watch = ebb_try_sized(&ebb_type_watcher, sizeof(*watch));
    if (watch == NULL)
        return NULL;
    memset(watch, 0, sizeof(*watch));
    watch->kinds = kinds;
    for (uint64_t i = 0; i < CELLS; i++)
        atomic_store_explicit(&watch->cell[i].sequence, i, memory_order_relaxed);
    return watch;
}

/* 0: a word that is no kind. */
static unsigned kind_of(struct ebb_span word) {
    static const struct {
        const char *name;
        unsigned kind;
    } kinds[] = {
        {"fetchers", WATCH_FETCHERS},   {"mutations", WATCH_MUTATIONS},
        {"evictions", WATCH_EVICTIONS}, {"connevents", WATCH_CONNEVENTS},
        {"deletions", WATCH_DELETIONS}, {"rawcmds", WATCH_SILENT},
        {"sysevents", WATCH_SILENT},    {"proxyreqs", WATCH_SILENT},
        {"proxyevents", WATCH_SILENT},  {"proxyuser", WATCH_SILENT},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (ebb_span_equal(word, ebb_span_of(kinds[i].name)))
            return kinds[i].kind;
    return 0;
}

static enum cmd_result say(struct cmd_context *cmd, const struct request *request,
                           struct ebb_span sentence) {
    cmd_answer(cmd, request->noreply, sentence);
    return CMD_DONE;
}

enum cmd_result cmd_watch(struct cmd_context *cmd, struct request *request,
                          struct cmd_block *block) {
    (void)block;
    unsigned kinds = request->words == 1 ? WATCH_FETCHERS : 0;
    if (cmd->shared->settings->disable_watch)
        return say(cmd, request, EBB_SPAN("CLIENT_ERROR watch commands not allowed"));
    struct ebb_span word;
    for (unsigned i = 1; i < request->words && request_next_key(&request->keys, &word); i++) {
        unsigned kind = kind_of(word);
        if (kind == 0)
            return say(cmd, request, EBB_SPAN("ERROR"));
        kinds |= kind;
    }
    struct watcher *watch = watch_new(kinds);
    if (watch == NULL)
        return say(cmd, request, EBB_SPAN("WATCHER_FAILED failed to add log watcher"));
    struct cmd_stream *stream = stream_try(cmd);
    if (stream == NULL)
        return CMD_DONE;
    if (!add(watch)) {
        cmd_stream_close(stream);
        return say(cmd, request, EBB_SPAN("WATCHER_TOO_MANY log watcher limit reached"));
    }
    stream->step = step_watch;
    stream->close = close_watch;
    stream->watch = watch;
    return stream_begin(cmd, stream);
}
