/* udp -- requests in datagrams.
 *
 * A datagram is a header of 8 bytes (request id, number in its sequence, how many there are, 0) and
 * what a connection would carry. A request must fit into one; answers take as many as they need,
 * each with the request's id. A socket belongs to one worker, which lends it what it lends
 * connections.
 *
 * 1. Nothing is kept from one datagram to the next: what is incomplete is dropped.
 * 2. Nobody waits: what the system does not take at once is lost, as datagrams are.
 * 3. There is no answer to what is no request: a datagram without header, or one of several.
 * 4. An answer is at most one reply buffer (and the values that are sent from where they lie). */
#include "server.h"

#include "cmd/events.h"
#include "cmd/metrics.h"

#include <ebb/datagram.h>
#include <ebb/scope.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define DATAGRAM_MAX  65536
#define UDP_HEADER    8
#define UDP_DATA      1392 /* bytes of an answer in one datagram, as memcached's */
#define UDP_PARTS_MAX UINT16_MAX
#define UDP_BURST     32 /* datagrams for one slice */
#define UDP_AGAIN_MS  1000

struct udp {
    struct worker *worker;
    struct ebb_watch *watch;
    struct ebb_timer *again; /* until it can be watched */
    ebb_fd fd;
    char *in;         /* pointer-free, DATAGRAM_MAX bytes */
    uint64_t used_ns; /* when the latest request came; others look */
};

/* What is left of a datagram. */
struct rest {
    char *at;
    size_t length;
    enum request_verb verb; /* of the latest request */
};

static void advance(struct rest *rest, size_t bytes) {
    rest->at += bytes;
    rest->length -= bytes;
}

/* --- answering --- */

static void write_u16(unsigned char *at, unsigned number) {
    at[0] = (unsigned char)(number >> 8);
    at[1] = (unsigned char)number;
}

/* Cuts the vectors to UDP_DATA bytes; returns how many are left. */
static int clip(struct iovec *vectors, int count, size_t *bytes) {
    *bytes = 0;
    for (int i = 0; i < count; i++) {
        if (*bytes + vectors[i].iov_len >= UDP_DATA) {
            vectors[i].iov_len = UDP_DATA - *bytes;
            *bytes = UDP_DATA;
            return i + 1;
        }
        *bytes += vectors[i].iov_len;
    }
    return count;
}

static void send_reply_to(struct udp *udp, const char *id, struct msghdr *message) {
    struct reply *reply = &udp->worker->reply;
    size_t length = reply_length(reply), sent = 0, bytes;
    size_t parts = (length + UDP_DATA - 1) / UDP_DATA;
    if (parts > UDP_PARTS_MAX)
        parts = UDP_PARTS_MAX;
    unsigned char head[UDP_HEADER] = {(unsigned char)id[0], (unsigned char)id[1]};
    write_u16(head + 4, (unsigned)parts);
    for (size_t part = 0; part < parts; part++) {
        struct iovec vectors[1 + REPLY_VECTORS] = {{head, sizeof(head)}};
        write_u16(head + 2, (unsigned)part);
        int count = clip(vectors + 1, reply_vectors(reply, sent, vectors + 1), &bytes);
        message->msg_iov = vectors;
        message->msg_iovlen = (size_t)count + 1;
        ssize_t took = sendmsg(ebb_fd_get(udp->fd), message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (took < 0) {
            ebb_count(&ebb_metric_udp_lost, parts - part);
            return;
        }
        ebb_count(&ebb_metric_written_bytes, (uint64_t)took);
        sent += bytes;
    }
}

/* --- requests --- */

/* The block's bytes are in the datagram, or it is dropped. */
static bool take_block(struct worker *worker, struct cmd_block *block, struct rest *rest,
                       bool binary) {
    size_t end = binary ? 0 : 2;
    if (rest->length < block->length + end) {
        cmd_block_drop(&worker->cmd, block);
        return false;
    }
    if (block->at && block->here < block->length)
        cmd_block_more(&worker->cmd, block, block->length);
    if (block->at)
        memcpy(block->at, rest->at, block->length);
    const char *tail = rest->at + block->length;
    bool crlf = binary || (tail[0] == '\r' && tail[1] == '\n');
    advance(rest, block->length + end);
    timing_carried_out(&worker->timing, block->verb);
    cmd_block_done(&worker->cmd, block, crlf);
    return true;
}

/* Instead of everything: there is no answer of many slices, nor one larger than the buffer. */
static bool give_up(struct worker *worker, struct ebb_span sentence) {
    if (worker->cmd.stream)
        cmd_stream_close(worker->cmd.stream);
    worker->cmd.stream = NULL;
    reply_clear(&worker->reply);
    reply_line(&worker->reply, sentence);
    return false;
}

/* False: nothing more of this datagram. */
static bool one_line(struct worker *worker, struct rest *rest) {
    struct cmd_block block = {0};
    struct ebb_span line;
    struct request request;
    size_t taken;
    if (request_find_line(rest->at, rest->length, &line, &taken) != REQUEST_LINE)
        return false;
    request_parse(line, &request);
    rest->verb = request.verb;
    advance(rest, taken);
    switch (cmd_run(&worker->cmd, &request, &block)) {
    case CMD_DONE:
        timing_carried_out(&worker->timing, request.verb);
        return true;
    case CMD_BLOCK:
        return take_block(worker, &block, rest, false);
    case CMD_AGAIN:
        return give_up(worker, EBB_SPAN("SERVER_ERROR the answer is too large for UDP"));
    case CMD_STREAM:
        return give_up(worker, EBB_SPAN("CLIENT_ERROR not over UDP"));
    default:
        return false;
    }
}

static bool one_frame(struct worker *worker, struct rest *rest) {
    struct cmd_block block = {0};
    struct binary frame;
    size_t taken;
    if (binary_find(rest->at, rest->length, &frame, &taken) != BINARY_FRAME)
        return false;
    rest->verb = frame.verb;
    advance(rest, taken);
    switch (cmd_run_binary(&worker->cmd, &frame, &block)) {
    case CMD_DONE:
        timing_carried_out(&worker->timing, frame.verb);
        return true;
    case CMD_BLOCK:
        return take_block(worker, &block, rest, true);
    default:
        return false;
    }
}

static void carry_out(struct worker *worker, struct rest rest, struct timing_slice *told) {
    bool binary = (unsigned char)rest.at[0] == BINARY_MAGIC, more = true;
    for (; more && rest.length > 0 && !reply_full(&worker->reply); told->requests++) {
        more = binary ? one_frame(worker, &rest) : one_line(worker, &rest);
        if (told->requests == 0)
            told->verb = rest.verb;
    }
}

/* A datagram is a slice. */
static void run_slice(struct udp *udp, size_t length, struct msghdr *message) {
    struct worker *worker = udp->worker;
    uint64_t now_ns = ebb_loop_now_ns(worker->loop);
    worker->cmd.now = exptime_now(&worker->server->shared.clock, now_ns);
    worker->cmd.fd = ebb_fd_get(udp->fd);
    __atomic_store_n(&udp->used_ns, now_ns, __ATOMIC_RELAXED);
    timing_begin(&worker->timing, now_ns);
    struct timing_slice told = {.text = udp->in + UDP_HEADER, .length = length - UDP_HEADER};
    carry_out(worker, (struct rest){udp->in + UDP_HEADER, length - UDP_HEADER, REQUEST_NONE},
              &told);
    told.bytes = length + reply_length(&worker->reply);
    timing_done(&worker->timing, told.bytes > DATAGRAM_MAX);
    send_reply_to(udp, udp->in, message);
    reply_clear(&worker->reply);
    timing_end(&worker->timing, &told);
    ebb_count(worker->metrics.turns, 1);
    ebb_count(worker->metrics.requests, told.requests);
}

static void on_datagram(int events, void *arg) {
    struct udp *udp = arg;
    (void)events;
    for (int i = 0; i < UDP_BURST; i++) {
        struct sockaddr_storage peer;
        struct msghdr message = {.msg_name = &peer, .msg_namelen = sizeof(peer)};
        struct iovec vector = {udp->in, DATAGRAM_MAX};
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        ssize_t got = recvmsg(ebb_fd_get(udp->fd), &message, MSG_DONTWAIT);
        if (got < 0)
            return;
        ebb_count(&ebb_metric_read_bytes, (uint64_t)got);
        if (got <= UDP_HEADER || udp->in[4] != 0 || udp->in[5] != 1)
            continue;
        message.msg_flags = 0;
        run_slice(udp, (size_t)got, &message);
    }
}

/* --- opening and closing --- */

static void begin(void *arg) {
    struct udp *udp = arg;
    struct ebb_loop *loop = udp->worker->loop;
    ebb_timer_close(udp->again);
    udp->again = NULL;
    if (udp->worker->closing ||
        ebb_watch_open(&udp->watch, loop, udp->fd, EBB_READ, on_datagram, udp) == EBB_OK)
        return;
    ebb_log_event(udp_waits, ebb_err_text(), UDP_AGAIN_MS);
    udp->again = ebb_timer_open(loop, UDP_AGAIN_MS, false, begin, udp);
}

enum ebb_err udp_open(struct server *server, const char *host, int port) {
    ebb_fd sockets[SERVER_LISTENERS_MAX];
    size_t count = (size_t)(SERVER_LISTENERS_MAX - server->udp_count);
    if (server->udp_scope == NULL)
        server->udp_scope = ebb_scope_new("udp");
    enum ebb_err error = ebb_datagram_open(sockets, &count, server->udp_scope, host, port);
    for (size_t i = 0; error == EBB_OK && i < count; i++) {
        struct udp *udp = ebb_new(udp);
        udp->worker = server->worker_list[server->udp_count % server->workers_count];
        udp->fd = sockets[i];
        udp->in = ebb_bytes(DATAGRAM_MAX);
        server->udp[server->udp_count++] = udp;
        ebb_loop_post(udp->worker->loop, begin, udp);
    }
    return error;
}

void udp_add_to_conn_list(const struct server *server) {
    for (int i = 0; i < server->udp_count; i++)
        conn_list_add_socket(ebb_fd_get(server->udp[i]->fd), &server->udp[i]->used_ns);
}

int udp_port(const struct server *server) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    if (server->udp_count == 0 ||
        getsockname(ebb_fd_get(server->udp[0]->fd), (struct sockaddr *)&address, &length) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6
                     ? ((const struct sockaddr_in6 *)(const void *)&address)->sin6_port
                     : ((const struct sockaddr_in *)(const void *)&address)->sin_port);
}

void udp_stop(struct worker *worker) {
    for (int i = 0; i < worker->server->udp_count; i++)
        if (worker->server->udp[i]->worker == worker) {
            ebb_watch_close(worker->server->udp[i]->watch);
            ebb_timer_close(worker->server->udp[i]->again);
        }
}

void udp_close(struct server *server) {
    for (int i = 0; i < server->udp_count; i++)
        ebb_done(server->udp[i]);
    server->udp_count = 0;
    if (server->udp_scope)
        ebb_scope_close(server->udp_scope);
}
