/* conn -- a client's connection, turn by slice.
 *
 * A slice: what was left of the last one and one recv go to the worker's input buffer; line after
 * line is carried out and answered into the worker's reply; the reply leaves in one send; what
 * could not be carried out is copied to the connection. So a get on a quiet connection costs one
 * recv and one send, a thousand pipelined ones cost no more, and an idle connection owns no buffer.
 *
 * A data block is read where it is stored: bytes that came with the line are copied there, the
 * others are received there, in one readv together with what follows the block.
 *
 * 1. A connection either reads or sends: while it has a backlog, nothing is read or carried out for
 * it. A peer that never reads costs one reply and what one slice reads, no more.
 * 2. Station buffers are empty between slices: rest, block and backlog are all that a connection
 * keeps.
 * 3. While a block is on its way, rest is empty.
 * 4. A slice is bounded: one recv (two when a long block is on its way), -R requests,
 * TURN_BYTES of answers. Who has more waits in the worker's list. */
#include "conn.h"

#include "cmd/events.h"
#include "cmd/metrics.h"
#include "cmd/watchers.h"

#include <ebb/assert.h>
#include <ebb/collector.h>
#include <ebb/log.h>
#include <ebb/scope.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define SLICE_LARGE_REQUESTS 64
#define SLICE_LARGE_BYTES    (64 * 1024)
#define SLICE_BYTES          (1024 * 1024)
#define REST_KEPT            512 /* bytes: a buffer for rest that is larger is let go of when empty */

#define STREAM_STEPS   32 /* of a long answer in one slice */
#define STREAM_WAIT_MS 20 /* until a stream that waits is asked again */

/* How a slice goes on. */
enum flow {
    FLOW_ON,
    FLOW_WAIT,    /* for more input */
    FLOW_STOP,    /* there is a backlog now */
    FLOW_LATER,   /* let others go first */
    FLOW_CLOSE,   /* after sending */
    FLOW_GONE,    /* at once */
    FLOW_REFUSED, /* the same, since there is no memory */
};

struct slice {
    struct conn *conn;
    struct worker *worker;
    size_t at, length; /* of the input: worker->in[at, length) is not yet carried out */
    bool read_full;    /* the latest read took all it had room for: there may be more */
    unsigned requests, steps;
    size_t sent, received;  /* bytes */
    enum request_verb verb; /* of the first request */
    const char *first;      /* its line, NULL: none yet */
};

bool conn_is_idle(const struct conn *conn) {
    return !conn->in_block && conn->backlog == NULL && conn->rest_used == 0 &&
           conn->later.next == NULL;
}

void conn_close(struct conn *conn) {
    struct server *server = conn->worker->server;
    if (conn->in_block)
        cmd_block_drop(&conn->worker->cmd, &conn->block);
    ebb_list_remove(&conn->link);
    ebb_list_remove(&conn->later);
    conn_list_remove(conn);
    ebb_log_event(disconnected, ebb_fd_get(conn->fd));
    if (watch_on(WATCH_CONNEVENTS))
        watch_disconnected(ebb_fd_get(conn->fd), &conn->peer,
                           conn->stream ? WATCH_ERROR : conn->reason); /* as memcached */
    cmd_stream_close(conn->stream);
    ebb_timer_close(conn->timer);
    ebb_watch_close(conn->watch);
    ebb_scope_close(conn->scope);
    size_t held = conn->rest_size + (conn->backlog ? conn->backlog->reply.size : 0);
    conn->rest = NULL;
    conn->backlog = NULL;
    ebb_gauge_add(conn->worker->metrics.conns, -1);
    ebb_done(conn);
    server_conn_gone(server);
    if (held > 0) /* who comes in a crowd leaves in one, and then nobody allocates */
        ebb_dropped(held);
}

static void count_dropped(const char *why) {
    ebb_count(&ebb_metric_conns_dropped, 1);
    ebb_log_event(conn_dropped, why);
}

/* The system has no memory for it, or watches no more descriptors. */
static void drop(struct conn *conn, const char *why) {
    count_dropped(why);
    conn->reason = WATCH_ERROR;
    conn_close(conn);
}

/* --- input --- */

/* Makes sure that the worker's input buffer has room for rest and one read. False: no memory. */
static bool in_reserve(struct worker *worker, size_t rest) {
    if (worker->in_size - rest >= STATION_READ_SIZE && worker->in_size > rest)
        return true;
    char *in = server_try(worker->server, &ebb_type_buffer, 2 * (rest + STATION_READ_SIZE));
    if (in == NULL)
        return false;
    worker->in = in;
    worker->in_size = 2 * (rest + STATION_READ_SIZE);
    return true;
}

static bool take_rest(struct slice *slice) {
    struct conn *conn = slice->conn;
    if (!in_reserve(slice->worker, conn->rest_used))
        return false;
    memcpy(slice->worker->in, conn->rest ? conn->rest : "", conn->rest_used);
    slice->length = conn->rest_used;
    conn->rest_used = 0;
    return true;
}

static bool keep_rest(struct slice *slice) {
    struct conn *conn = slice->conn;
    size_t left = slice->length - slice->at;
    if (left > conn->rest_size) {
        size_t size = REST_KEPT / 4;
        while (size < left)
            size *= 2;
        conn->rest =
            ebb_charge(size) ? server_try(conn->worker->server, &ebb_type_buffer, size) : NULL;
        conn->rest_size = conn->rest ? size : 0;
        if (conn->rest == NULL)
            return false;
    }
    if (left > 0)
        memcpy(conn->rest, slice->worker->in + slice->at, left);
    conn->rest_used = left;
    if (left == 0 && conn->rest_size > REST_KEPT) {
        conn->rest = NULL;
        conn->rest_size = 0;
    }
    return true;
}

/* How many more bytes of the block are wanted where they go; makes room for more once that is full.
 */
static size_t block_room(const struct conn *conn, struct cmd_block *block) {
    if (block->at && conn->block_got == block->here && block->here < block->length)
        cmd_block_more(&conn->worker->cmd, block, 0);
    return (block->at ? block->here : block->length) - conn->block_got;
}

/* One read: the missing bytes of a block go to their place, the others behind what the input buffer
 * holds. */
static enum flow receive(struct slice *slice) {
    struct conn *conn = slice->conn;
    struct iovec vectors[2];
    int count = 0;
    size_t missing = 0;
    if (conn->in_block && conn->block.at && conn->block_got < conn->block.length) {
        missing = block_room(conn, &conn->block);
        if (conn->block.at)
            vectors[count++] = (struct iovec){conn->block.at + conn->block_got, missing};
        else
            missing = 0; /* refused just now */
    }
    vectors[count++] = (struct iovec){slice->worker->in + slice->length, STATION_READ_SIZE};
    int fd = ebb_fd_get(conn->fd);
    ssize_t got = count == 1 ? recv(fd, vectors[0].iov_base, vectors[0].iov_len, MSG_DONTWAIT)
                             : readv(fd, vectors, count);
    if (got == 0)
        return FLOW_GONE;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return FLOW_WAIT;
    if (got < 0) {
        conn->reason = WATCH_ERROR;
        return FLOW_GONE;
    }
    ebb_count(&ebb_metric_read_bytes, (uint64_t)got);
    slice->read_full = (size_t)got == missing + STATION_READ_SIZE;
    slice->received += (size_t)got;
    size_t placed = (size_t)got < missing ? (size_t)got : missing;
    conn->block_got += placed;
    slice->length += (size_t)got - placed;
    return FLOW_ON;
}

/* --- blocks --- */

static void begin_block(struct conn *conn) {
    conn->in_block = true;
    conn->block_got = 0;
}

/* Gives the block its bytes out of the input, then (in text) its CRLF. */
static enum flow feed_block(struct slice *slice) {
    struct conn *conn = slice->conn;
    struct cmd_block *block = &conn->block;
    size_t left = slice->length - slice->at;
    size_t whole = block->length + (conn->protocol == CONN_BINARY ? 0 : 2);
    while (left > 0 && conn->block_got < block->length) {
        size_t missing = block_room(conn, block), bytes = left < missing ? left : missing;
        if (block->at)
            memcpy(block->at + conn->block_got, slice->worker->in + slice->at, bytes);
        conn->block_got += bytes;
        slice->at += bytes;
        left -= bytes;
    }
    for (; left > 0 && conn->block_got >= block->length && conn->block_got < whole; left--)
        conn->block_end[conn->block_got++ - block->length] = slice->worker->in[slice->at++];
    if (conn->block_got < whole)
        return FLOW_WAIT;
    conn->in_block = false;
    timing_carried_out(&slice->worker->timing, block->verb);
    cmd_block_done(&slice->worker->cmd, block,
                   conn->protocol == CONN_BINARY ||
                       (conn->block_end[0] == '\r' && conn->block_end[1] == '\n'));
    return FLOW_ON;
}

/* --- requests --- */

static enum flow flush(struct slice *slice) {
    slice->sent += reply_length(&slice->worker->reply);
    switch (send_reply(slice->conn)) {
    case SEND_ALL:
        return slice->sent > SLICE_BYTES ? FLOW_LATER : FLOW_ON;
    case SEND_BACKLOG:
        return FLOW_STOP;
    case SEND_REFUSED:
        return FLOW_REFUSED;
    default:
        return FLOW_GONE;
    }
}

static enum flow make_room(struct slice *slice) {
    enum flow flow = flush(slice);
    timing_sent(&slice->worker->timing);
    return flow;
}

static void log_request(const struct conn *conn, const char *request, size_t length) {
    char text[TIMING_TEXT];
    timing_text(text, request, length);
    ebb_log_event(asked, ebb_fd_get(conn->fd), text);
}

static enum flow one_request(struct slice *slice) {
    struct worker *worker = slice->worker;
    char *start = worker->in + slice->at;
    struct ebb_span line;
    struct request request;
    size_t taken;
    switch (request_find_line(start, slice->length - slice->at, &line, &taken)) {
    case REQUEST_MORE:
        return FLOW_WAIT;
    case REQUEST_LONG:
        ebb_count(&ebb_metric_hung_up, 1);
        slice->conn->reason = WATCH_ERROR;
        return FLOW_CLOSE;
    default:
        break;
    }
    request_parse(line, &request);
    struct request asked = request;
    slice->requests++;
    if (ebb_log_on(EBB_LOG_TRACE))
        log_request(slice->conn, start, taken);
    if (slice->first == NULL) {
        slice->verb = request.verb;
        slice->first = start;
    }
    switch (cmd_run(&worker->cmd, &request, &slice->conn->block)) {
    case CMD_BLOCK:
        begin_block(slice->conn);
        if (slice->length - slice->at - taken <
            slice->conn->block.length) /* not all of it is here */
            timing_text(slice->conn->block_line, start, taken);
        break;
    case CMD_AGAIN:
        slice->at += request_shorten(start, &asked, request.keys);
        return FLOW_ON;
    case CMD_STREAM:
        slice->conn->stream = worker->cmd.stream;
        worker->cmd.stream = NULL;
        break;
    case CMD_QUIT:
        if (request.verb != REQUEST_quit)
            slice->conn->reason = request.verb == REQUEST_shutdown ? WATCH_SHUTDOWN : WATCH_ERROR;
        return FLOW_CLOSE;
    case CMD_DONE:
        timing_carried_out(&worker->timing, request.verb);
        break;
    }
    slice->at += taken;
    return FLOW_ON;
}

static enum flow one_frame(struct slice *slice) {
    const char *start = slice->worker->in + slice->at;
    struct binary frame;
    size_t taken;
    switch (binary_find(start, slice->length - slice->at, &frame, &taken)) {
    case BINARY_MORE:
        return FLOW_WAIT;
    case BINARY_BAD:
        ebb_count(&ebb_metric_hung_up, 1);
        slice->conn->reason = WATCH_ERROR;
        return FLOW_CLOSE;
    default:
        break;
    }
    slice->requests++;
    if (ebb_log_on(EBB_LOG_TRACE))
        log_request(slice->conn, start, taken);
    if (slice->first == NULL) {
        slice->verb = frame.verb;
        slice->first = start;
    }
    switch (cmd_run_binary(&slice->worker->cmd, &frame, &slice->conn->block)) {
    case CMD_BLOCK:
        begin_block(slice->conn);
        if (slice->length - slice->at - taken < slice->conn->block.length)
            timing_text(slice->conn->block_line, start, taken);
        break;
    case CMD_QUIT:
        if (frame.verb != REQUEST_quit)
            slice->conn->reason = WATCH_ERROR;
        return FLOW_CLOSE;
    default:
        timing_carried_out(&slice->worker->timing, frame.verb);
        break;
    }
    slice->at += taken;
    return FLOW_ON;
}

static enum flow one_step(struct slice *slice) {
    struct conn *conn = slice->conn;
    if (conn->protocol == CONN_UNDECIDED) {
        bool binary = (unsigned char)slice->worker->in[slice->at] == BINARY_MAGIC;
        conn->protocol = binary ? CONN_BINARY : CONN_TEXT;
    }
    return conn->protocol == CONN_TEXT ? one_request(slice) : one_frame(slice);
}

static void on_stream_timer(void *arg);

/* A step of an answer that goes on. Who waits for something to tell reads nothing but the end. */
static enum flow step_stream(struct slice *slice) {
    struct conn *conn = slice->conn;
    struct worker *worker = slice->worker;
    enum flow flow = reply_full(&worker->reply) ? make_room(slice) : FLOW_ON;
    if (flow != FLOW_ON)
        return flow;
    slice->steps++;
    switch (cmd_stream_step(&worker->cmd, conn->stream)) {
    case CMD_STEP_WAIT:
        slice->at = slice->length = 0;
        if (conn->timer == NULL)
            conn->timer = ebb_timer_try(worker->loop, STREAM_WAIT_MS, true, on_stream_timer, conn);
        return conn->timer ? FLOW_WAIT : FLOW_REFUSED;
    case CMD_STEP_END:
        cmd_stream_close(conn->stream);
        conn->stream = NULL;
        return FLOW_ON;
    default:
        return slice->steps < STREAM_STEPS ? FLOW_ON : FLOW_LATER;
    }
}

/* Carries out what is in the input buffer. */
static enum flow carry_out(struct slice *slice) {
    enum flow flow = FLOW_ON;
    while (flow == FLOW_ON) {
        if (slice->conn->stream) {
            flow = step_stream(slice);
            continue;
        }
        if (slice->conn->in_block) {
            flow = feed_block(slice);
            continue;
        }
        if (slice->at == slice->length)
            return FLOW_WAIT;
        if (reply_full(&slice->worker->reply))
            flow = make_room(slice);
        else if (slice->requests >= slice->worker->server->shared.settings->requests_max)
            flow = FLOW_LATER;
        if (flow == FLOW_ON)
            flow = one_step(slice);
    }
    return flow;
}

/* --- slices --- */

static void run_later(void *arg);

static void put_later(struct conn *conn) {
    struct worker *worker = conn->worker;
    ebb_count(&ebb_metric_yields, 1);
    conn->waits_since_ns = worker->timing.ready_ns;
    ebb_list_append(&worker->later, &conn->later);
    if (!worker->later_posted) {
        worker->later_posted = true;
        ebb_loop_post(worker->loop, run_later, worker);
    }
}

/* Ends a slice: sends what was answered, keeps what was not carried out. */
static void finish(struct slice *slice, enum flow flow) {
    struct conn *conn = slice->conn;
    if (flow != FLOW_GONE && flow != FLOW_REFUSED && flow != FLOW_STOP) {
        enum flow sent = flush(slice);
        if (sent != FLOW_ON && sent != FLOW_LATER) {
            conn->closing = flow == FLOW_CLOSE;
            flow = sent;
        }
    }
    reply_clear(&slice->worker->reply);
    if (flow == FLOW_GONE || flow == FLOW_CLOSE)
        conn_close(conn);
    else if (flow == FLOW_REFUSED || !keep_rest(slice))
        drop(conn, "no memory for what it sent or asked for");
    else if (flow == FLOW_STOP && ebb_watch_set(conn->watch, EBB_WRITE) != EBB_OK)
        drop(conn, ebb_err_text());
    else if (flow == FLOW_LATER)
        put_later(conn);
    else if (flow != FLOW_STOP && slice->worker->draining && conn_is_idle(conn))
        conn_close(conn);
}

/* The rest of a long block may be there already: one more read, straight to its place. */
static enum flow run_block(struct slice *slice) {
    slice->at = slice->length = 0;
    enum flow flow = receive(slice);
    return flow == FLOW_ON ? carry_out(slice) : flow;
}

enum { SLICE_READS = true, SLICE_READS_NOT = false };

/* What the slice was about, for timing. A block that went on from an earlier slice comes first. */
static void tell_slice(const struct slice *slice, bool block_went_on) {
    const struct worker *worker = slice->worker;
    struct timing_slice told = {.verb = slice->verb,
                                .text = slice->first,
                                .bytes = slice->received + slice->sent,
                                .requests = slice->requests + block_went_on};
    if (slice->first == slice->conn->block_line)
        told.length = strlen(slice->first);
    else if (slice->first)
        told.length = (size_t)(worker->in + worker->in_size - slice->first);
    timing_end(&slice->worker->timing, &told);
    ebb_count(worker->metrics.turns, 1);
    ebb_count(worker->metrics.requests, slice->requests);
    if (worker->timing.sampled) /* stands for those that were not measured, too */
        ebb_count(worker->metrics.busy,
                  (worker->timing.end_ns - worker->timing.begin_ns) * worker->timing.sample_every);
}

/* So much that the slice may be slow. */
static bool is_large(const struct slice *slice) {
    const struct conn *conn = slice->conn;
    size_t bytes = slice->received + slice->sent + reply_length(&slice->worker->reply);
    return slice->requests >= SLICE_LARGE_REQUESTS || bytes >= SLICE_LARGE_BYTES ||
           (conn->in_block && conn->block.length >= SLICE_LARGE_BYTES);
}

static void run_slice(struct conn *conn, bool reads) {
    struct worker *worker = conn->worker;
    struct slice slice = {.conn = conn, .worker = worker};
    bool block_goes_on = conn->in_block;
    uint64_t now_ns = conn->used_ns = ebb_loop_now_ns(worker->loop);
    worker->cmd.now = exptime_now(&worker->server->shared.clock, now_ns);
    worker->cmd.fd = ebb_fd_get(conn->fd);
    timing_begin(&worker->timing, conn->waits_since_ns ? conn->waits_since_ns : now_ns);
    conn->waits_since_ns = 0;
    if (block_goes_on) {
        slice.verb = conn->block.verb;
        slice.first = conn->block_line;
    }
    enum flow flow = take_rest(&slice) ? FLOW_ON : FLOW_REFUSED;
    if (flow == FLOW_ON && reads)
        flow = receive(&slice);
    if (flow == FLOW_ON)
        flow = carry_out(&slice);
    if (flow == FLOW_WAIT && slice.read_full && conn->in_block) {
        slice.first = conn->block_line; /* the input buffer is used again */
        flow = run_block(&slice);
    }
    timing_done(&worker->timing, is_large(&slice));
    finish(&slice, flow);
    tell_slice(&slice, block_goes_on);
}

static void run_later(void *arg) {
    struct worker *worker = arg;
    struct ebb_list *last = worker->later.previous;
    worker->later_posted = false;
    /* Who comes back to the list in this round waits for the next. */
    for (bool more = !ebb_list_empty(&worker->later); more;) {
        struct ebb_list *first = worker->later.next;
        more = first != last;
        ebb_list_remove(first);
        run_slice(EBB_LIST_ENTRY(first, struct conn, later), SLICE_READS_NOT);
    }
}

static void on_event(int events, void *arg) {
    struct conn *conn = arg;
    (void)events;
    if (conn->later.next)
        return; /* its slice comes in this round anyway */
    if (conn->backlog == NULL) {
        run_slice(conn, SLICE_READS);
        return;
    }
    switch (send_backlog(conn)) {
    case SEND_BACKLOG:
        return;
    default:
        conn_close(conn);
        return;
    case SEND_ALL:
        break;
    }
    if (conn->closing) {
        conn_close(conn);
        return;
    }
    if (ebb_watch_set(conn->watch, EBB_READ) == EBB_OK)
        run_slice(conn, SLICE_READS_NOT);
    else
        drop(conn, ebb_err_text());
}

/* A stream waits: is there something to tell? */
static void on_stream_timer(void *arg) {
    struct conn *conn = arg;
    if (conn->backlog == NULL && conn->later.next == NULL)
        run_slice(conn, SLICE_READS_NOT);
}

/* --- from the listener to a worker --- */

static void begin(void *arg) {
    struct conn *conn = arg;
    conn_list_add(conn);
    ebb_list_append(&conn->worker->conns, &conn->link);
    ebb_gauge_add(conn->worker->metrics.conns, 1);
    conn->used_ns = ebb_loop_now_ns(conn->worker->loop);
    if (conn->worker->closing || conn->worker->draining)
        conn_close(conn);
    else if (ebb_watch_open(&conn->watch, conn->worker->loop, conn->fd, EBB_READ, on_event, conn) !=
             EBB_OK)
        drop(conn, ebb_err_text());
}

static enum conn_protocol first_protocol(const struct settings *settings) {
    switch (settings_protocol(settings)) {
    case SETTINGS_ASCII:
        return CONN_TEXT;
    case SETTINGS_BINARY:
        return CONN_BINARY;
    default:
        return CONN_UNDECIDED;
    }
}

/* The descriptor is its own from now on. NULL: there is no memory for it. */
static struct conn *conn_new(struct worker *worker, ebb_fd fd) {
    struct conn *conn = server_try(worker->server, &ebb_type_conn, sizeof(*conn));
    if (conn == NULL)
        return NULL;
    conn->scope = ebb_scope_try("connection");
    if (conn->scope == NULL) {
        ebb_done(conn);
        return NULL;
    }
    conn->worker = worker;
    conn->fd = fd;
    conn->protocol = first_protocol(worker->server->shared.settings);
    ebb_fd_give(fd, conn->scope);
    return conn;
}

bool conn_accept(struct worker *worker, ebb_fd fd) {
    struct conn *conn = conn_new(worker, fd);
    if (conn == NULL) {
        count_dropped("no memory for a connection");
        ebb_fd_close(fd);
        return false;
    }
    int on = 1;
    setsockopt(ebb_fd_get(fd), IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof(on)); /* a unix socket refuses; no harm */
    setsockopt(ebb_fd_get(fd), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    socklen_t length = sizeof(conn->peer);
    getpeername(ebb_fd_get(fd), &conn->peer.any, &length);
    if (watch_on(WATCH_CONNEVENTS))
        watch_connected(ebb_fd_get(fd), &conn->peer);
    if (ebb_loop_post_try(worker->loop, begin, conn))
        return true;
    count_dropped("no memory to hand a connection to its worker");
    ebb_scope_close(conn->scope);
    ebb_done(conn);
    return false;
}

void conn_close_all(struct worker *worker) {
    worker->closing = true;
    EBB_LIST_EACH (&worker->conns, link)
        conn_close(EBB_LIST_ENTRY(link, struct conn, link));
}
