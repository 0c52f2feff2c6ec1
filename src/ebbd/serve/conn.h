/* conn -- one client's connection, for conn.c and send.c. */
#ifndef EBBD_SERVE_CONN_H
#define EBBD_SERVE_CONN_H

#include "cmd/watchers.h"
#include "server.h"

/* A reply that the peer has not taken. Lies in scanned memory: it holds what it sends. */
struct backlog {
    struct reply reply;
    size_t sent; /* bytes of its stream */
};

/* Settled by the first byte, unless -B settles it. */
enum conn_protocol { CONN_UNDECIDED, CONN_TEXT, CONN_BINARY };

struct conn {
    struct ebb_list link, later; /* in its worker's lists */
    struct ebb_list conn_list;   /* see conn_list.c */
    uint64_t number;
    struct worker *worker;
    struct ebb_scope *scope;
    ebb_fd fd;
    struct ebb_watch *watch;
    char *rest; /* pointer-free: input that could not be carried out yet */
    size_t rest_used, rest_size;
    struct cmd_block block;
    size_t block_got; /* bytes of the block and its CRLF that came */
    char block_end[2];
    char block_line[TIMING_TEXT]; /* its line, when the block did not come in one piece with it */
    enum conn_protocol protocol;
    bool in_block;
    struct cmd_stream *stream; /* an answer that goes on */
    struct ebb_timer *timer;   /* looks after a stream that waits */
    bool closing;              /* close when the backlog is sent */
    enum watch_reason reason;  /* why it will be closed */
    union watch_peer peer;
    struct backlog *backlog;
    uint64_t used_ns;        /* when its latest slice began */
    uint64_t waits_since_ns; /* in the worker's list: when its bytes were seen; else 0 */
};

/* Nothing is begun for it: it may be closed and nobody is cut off. When: its thread, as the next.
 */
bool conn_is_idle(const struct conn *conn);
void conn_close(struct conn *conn);

enum send_result {
    SEND_ALL,     /* the reply is empty again */
    SEND_BACKLOG, /* the peer takes no more now; the rest is the connection's backlog */
    SEND_FAILED,  /* close */
    SEND_REFUSED, /* the same, since there is no memory for the backlog */
};

/* Sends the worker's reply. */
enum send_result send_reply(struct conn *conn);
/* Goes on with the backlog. */
enum send_result send_backlog(struct conn *conn);

/* conn_list.c: the list of all connections. Any thread. */
void conn_list_add(struct conn *conn);
void conn_list_remove(struct conn *conn);
/* For cmd_shared.list_conns. */
uint64_t conn_list_list(struct cmd_context *slice, uint64_t after);

#endif
