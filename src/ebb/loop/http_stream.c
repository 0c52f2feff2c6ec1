/* http_stream -- a reply whose body is still being made, by somebody at the other end of a pipe.
 *
 * A piece is read and sent; the next one is read when libevent has written that one. So never more
 * than a piece is held here, and a slow peer slows down whoever writes the pipe.
 *
 * 1. The stream is held by libevent's connection (its close callback) and by the watch.
 * 2. When the connection has ended, the request is not touched any more. */
#include "gc/types.h"
#include "http_internal.h"

#include <errno.h>
#include <event2/buffer.h>

#include <ebb/assert.h>
#include <ebb/fd.h>
#include <ebb/mem.h>

#define PIECE_BYTES (64 * 1024)

struct stream {
    struct evhttp_request *evhttp;
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
    if (stream_end(stream, complete))
        evhttp_send_reply_end(evhttp);
    else
        evhttp_connection_free(connection); /* and the request */
}

static void on_sent(struct evhttp_connection *connection, void *arg) {
    (void)connection;
    struct stream *stream = arg;
    if (ebb_watch_set(stream->watch, EBB_READ) != EBB_OK)
        reply_end(stream, false);
}

static void on_readable(int events, void *arg) {
    (void)events;
    struct stream *stream = arg;
    struct evbuffer *piece = evbuffer_new();
    if (piece == NULL) {
        reply_end(stream, false);
        return;
    }
    int got = evbuffer_read(piece, ebb_fd_get(stream->from), PIECE_BYTES);
    if (got > 0) {
        ebb_watch_pause(stream->watch);
        evhttp_send_reply_chunk_with_cb(stream->evhttp, piece, on_sent, stream);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        reply_end(stream, got == 0);
    }
    evbuffer_free(piece);
}

void ebb_http_reply_from(struct ebb_http_request *request, int status, const char *content_type,
                         ebb_fd from, bool (*ended)(bool complete, void *arg), void *arg) {
    ebb_assert(!request->answered, "a second answer to %s", request->path);
    if (evhttp_request_get_command(request->evhttp) == EVHTTP_REQ_HEAD) {
        ebb_http_reply(request, status, content_type);
        ended(false, arg);
        return;
    }
    struct stream *stream = ebb_new_sized(&ebb_type_http_stream, sizeof *stream);
    *stream = (struct stream){.evhttp = request->evhttp, .from = from, .ended = ended, .arg = arg};
    if (ebb_watch_open(&stream->watch, request->loop, from, EBB_READ, on_readable, stream) !=
        EBB_OK) {
        stream_end(stream, false);
        ebb_writef(ebb_http_body(request), "503: %s\n", ebb_err_text());
        ebb_http_reply(request, 503, "text/plain; charset=utf-8");
        return;
    }
    request->answered = true;
    evhttp_connection_set_closecb(evhttp_request_get_connection(request->evhttp), on_peer_gone,
                                  stream);
    ebbi_http_headers(request->evhttp, content_type);
    evhttp_send_reply_start(request->evhttp, status, NULL);
    ebbi_http_may_be_silent(evhttp_request_get_connection(request->evhttp));
    ebbi_http_close_unwatched(evhttp_request_get_connection(request->evhttp));
}
