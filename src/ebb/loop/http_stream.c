/* http_stream -- a reply whose body is still being made, by somebody at the other end of a pipe,
 * which may not know yet whether it can.
 *
 * A piece is read and sent; the next one is read when libevent has written that one. So never more
 * than a piece is held here, and a slow peer slows down whoever writes the pipe.
 *
 * 1. The stream is held by libevent's connection (its close callback) and by the watch.
 * 2. When the connection has ended, the request is not touched any more. */
#include "gc/types.h"
#include "http_internal.h"
#include "loop_internal.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http_struct.h>
#include <string.h>
#include <unistd.h>

#include <ebb/assert.h>
#include <ebb/fd.h>
#include <ebb/mem.h>

#define PIECE_BYTES   (64 * 1024)
#define REASON_BYTES  256
#define RETRY_SECONDS "10"

struct stream {
    struct evhttp_request *evhttp;
    const char *content_type; /* NULL: the reply has begun */
    struct ebb_watch *watch;
    ebb_fd from;
    bool (*ended)(bool complete, void *arg);
    void *arg;
};

/* Whether all that was to be sent came. */
static bool stream_end(struct stream *stream, bool complete) {
    ebb_watch_close(stream->watch);
    bool whole = stream->ended(complete, stream->arg);
    ebb_done(stream);
    return whole;
}

static void on_peer_gone(struct evhttp_connection *connection, void *arg) {
    (void)connection;
    struct stream *stream = arg;
    ebbi_http_gone(stream->evhttp);
    stream_end(stream, false);
}

/* There is no more to come. */
static void reply_end(struct stream *stream, bool complete) {
    struct evhttp_request *evhttp = stream->evhttp;
    struct evhttp_connection *connection = evhttp_request_get_connection(evhttp);
    evhttp_connection_set_closecb(connection, NULL, NULL);
    evhttp_connection_set_timeout(connection, HTTP_TIMEOUT_SECONDS);
    if (!stream_end(stream, complete)) {
        evhttp_connection_free(connection); /* and the request */
        return;
    }
    bool chunked = evhttp->chunked; /* else it may be over with this call */
    evhttp_send_reply_end(evhttp);
    if (chunked)
        ebbi_http_outlive_end(connection);
}

static void on_sent(struct evhttp_connection *connection, void *arg) {
    (void)connection;
    struct stream *stream = arg;
    if (ebb_watch_set(stream->watch, EBB_READ) != EBB_OK)
        reply_end(stream, false);
}

static void begin(struct stream *stream, int status, const char *content_type) {
    struct evhttp_connection *connection = evhttp_request_get_connection(stream->evhttp);
    uint64_t refused = ebbi_library_refused();
    stream->content_type = NULL;
    ebbi_http_headers(stream->evhttp, content_type);
    evhttp_send_reply_start(stream->evhttp, status, NULL);
    ebbi_http_outlive_end(connection);
    ebbi_http_may_be_silent(connection);
    ebbi_http_cut_if_refused(connection, refused);
    ebbi_http_close_unwatched(connection);
}

/* Nothing more is to come out: an answer as others are. */
static void answer(struct stream *stream, int status, const char *content_type,
                   const char *reason) {
    struct evhttp_request *evhttp = stream->evhttp;
    struct evhttp_connection *connection = evhttp_request_get_connection(evhttp);
    evhttp_connection_set_closecb(connection, NULL, NULL);
    evhttp_connection_set_timeout(connection, HTTP_TIMEOUT_SECONDS);
    stream_end(stream, status != 200);
    if (status != 200) {
        evhttp_add_header(evhttp_request_get_output_headers(evhttp), "Retry-After", RETRY_SECONDS);
        evbuffer_add_printf(evhttp_request_get_output_buffer(evhttp), "%d: %s\n", status, reason);
    }
    ebbi_http_reply(evhttp, status, content_type);
}

static void on_verdict(struct stream *stream) {
    char verdict = 0, reason[REASON_BYTES] = "";
    int fd = ebb_fd_get(stream->from);
    ssize_t got = read(fd, &verdict, 1);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got == 1 && verdict == '+') {
        if (evhttp_request_get_command(stream->evhttp) == EVHTTP_REQ_HEAD)
            answer(stream, 200, stream->content_type, "");
        else
            begin(stream, 200, stream->content_type);
        return;
    }
    bool given = got == 1 && read(fd, reason, sizeof reason - 1) > 0;
    answer(stream, 503, "text/plain; charset=utf-8", given ? reason : "it came to nothing");
}

static void on_readable(int events, void *arg) {
    (void)events;
    struct stream *stream = arg;
    if (stream->content_type) {
        on_verdict(stream);
        return;
    }
    struct evhttp_connection *connection = evhttp_request_get_connection(stream->evhttp);
    uint64_t refused = ebbi_library_refused();
    struct evbuffer *piece = evbuffer_new();
    if (piece == NULL) {
        reply_end(stream, false);
        return;
    }
    int got = evbuffer_read(piece, ebb_fd_get(stream->from), PIECE_BYTES);
    if (got > 0) {
        ebb_watch_pause(stream->watch);
        evhttp_send_reply_chunk_with_cb(stream->evhttp, piece, on_sent, stream);
        ebbi_http_outlive_end(connection);
        ebbi_http_cut_if_refused(connection, refused);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        reply_end(stream, got == 0);
    }
    evbuffer_free(piece);
}

/* NULL: the system could not watch it; that was the answer. */
static struct stream *stream_open(struct ebb_http_request *request, ebb_fd from,
                                  bool (*ended)(bool complete, void *arg), void *arg) {
    ebb_assert(!request->answered, "a second answer to %s", request->path);
    struct stream *stream = ebb_new_sized(&ebbi_type_http_stream, sizeof *stream);
    *stream = (struct stream){.evhttp = request->evhttp, .from = from, .ended = ended, .arg = arg};
    if (ebb_watch_open(&stream->watch, request->loop, from, EBB_READ, on_readable, stream) !=
        EBB_OK) {
        stream_end(stream, false);
        ebb_writef(ebb_http_body(request), "503: %s\n", ebb_err_text());
        ebb_http_reply(request, 503, "text/plain; charset=utf-8");
        return NULL;
    }
    request->answered = true;
    evhttp_connection_set_closecb(evhttp_request_get_connection(request->evhttp), on_peer_gone,
                                  stream);
    return stream;
}

void ebb_http_reply_from(struct ebb_http_request *request, int status, const char *content_type,
                         ebb_fd from, bool (*ended)(bool complete, void *arg), void *arg) {
    if (evhttp_request_get_command(request->evhttp) == EVHTTP_REQ_HEAD) {
        ebb_http_reply(request, status, content_type);
        ended(false, arg);
        return;
    }
    struct stream *stream = stream_open(request, from, ended, arg);
    if (stream)
        begin(stream, status, content_type);
}

void ebb_http_reply_judged(struct ebb_http_request *request, const char *content_type, ebb_fd from,
                           bool (*ended)(bool complete, void *arg), void *arg) {
    struct stream *stream = stream_open(request, from, ended, arg);
    if (stream == NULL)
        return;
    stream->content_type = content_type;
    struct evhttp_connection *connection = evhttp_request_get_connection(request->evhttp);
    ebbi_http_hear_of_end(connection);
    ebbi_http_close_unwatched(connection);
}
