/* watchers -- tells clients what happens, as memcached's watch command.
 *
 * When nobody watches, each place costs a load and a branch that is predicted. */
#ifndef EBBD_CMD_WATCHERS_H
#define EBBD_CMD_WATCHERS_H

#include "cmd.h"

#include <netinet/in.h>
#include <stdatomic.h>

enum watch_kind {
    WATCH_FETCHERS = 1,
    WATCH_MUTATIONS = 2,
    WATCH_EVICTIONS = 4,
    WATCH_CONNEVENTS = 8,
    WATCH_DELETIONS = 16,
    WATCH_SILENT = 32, /* kinds that memcached has and that do not happen here */
};

/* Why a connection was closed. */
enum watch_reason { WATCH_NORMAL, WATCH_ERROR, WATCH_IDLE_TIMEOUT, WATCH_SHUTDOWN };

/* Who is at the other end of a connection; any other family: a unix socket. */
union watch_peer {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};

extern _Atomic unsigned watch_wanted; /* kinds that somebody watches */

static inline bool watch_on(unsigned kinds) {
    return __builtin_expect(
        (atomic_load_explicit(&watch_wanted, memory_order_relaxed) & kinds) != 0, 0);
}

/* When watch_on. Never waits: a watcher that is behind loses lines, and is told how many. */
void watch_fetched(const struct cmd_context *cmd, struct ebb_span key, bool found, size_t length);
/* The same of a key that is about to be looked up, for commands that change the item. */
void watch_looked_up(const struct cmd_context *cmd, struct ebb_span key);
void watch_stored(const struct cmd_context *cmd, enum request_verb verb, struct ebb_span key,
                  enum store_verdict verdict, uint32_t expires, size_t length);
/* length: bytes of the value that is gone. */
void watch_deleted(enum request_verb verb, struct ebb_span key, size_t length);
void watch_connected(int fd, const union watch_peer *peer);
void watch_disconnected(int fd, const union watch_peer *peer, enum watch_reason reason);
/* For store_config.evicted. */
void watch_evicted(struct ebb_span key, const struct store_item *item, uint32_t now);

unsigned watch_watchers(void);

#endif
