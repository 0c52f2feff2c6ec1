/* send -- replies leave in one system call; what the peer does not take becomes its backlog.
 *
 * 1. iovecs are on the stack, which the collector scans; the kernel holds nothing once the call
 * returns.
 * 2. A backlog is at most one reply: REPLY_TEXT_SIZE bytes of text and REPLY_PIECES_MAX pinned
 * values. While there is one, nothing is read from the peer, so nothing is added to it. */
#include "conn.h"

#include "cmd/metrics.h"

#include <ebb/collector.h>
#include <ebb/fd.h>
#include <errno.h>
#include <sys/socket.h>

static enum send_result send_from(struct conn *conn, const struct reply *reply, size_t *sent) {
    struct iovec vectors[REPLY_VECTORS];
    struct msghdr message = {.msg_iov = vectors};
    message.msg_iovlen = (size_t)reply_vectors(reply, *sent, vectors);
    ssize_t took;
    int fd = ebb_fd_get(conn->fd);
    do
        took = message.msg_iovlen == 1
                   ? send(fd, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                   : sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (took < 0 && errno == EINTR);
    if (took < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? SEND_BACKLOG : SEND_FAILED;
    ebb_count(&ebb_metric_written_bytes, (uint64_t)took);
    *sent += (size_t)took;
    return *sent == reply_length(reply) ? SEND_ALL : SEND_BACKLOG;
}

/* Keeps what is unsent of the worker's reply. */
static enum send_result keep(struct conn *conn, const struct reply *reply, size_t sent) {
    struct server *server = conn->worker->server;
    size_t text = reply_text_left(reply, sent);
    if (!ebb_charge(sizeof(struct backlog) + text))
        return SEND_REFUSED;
    struct backlog *backlog = server_try(server, &ebb_type_backlog, sizeof(*backlog));
    char *copy = backlog ? server_try(server, &ebb_type_buffer, text + 1) : NULL;
    if (copy == NULL)
        return SEND_REFUSED;
    backlog->reply.text = copy;
    backlog->reply.size = text;
    reply_carry(&backlog->reply, reply, sent);
    conn->backlog = backlog;
    ebb_count(&ebb_metric_backlogs, 1);
    return SEND_BACKLOG;
}

enum send_result send_reply(struct conn *conn) {
    struct reply *reply = &conn->worker->reply;
    if (reply_length(reply) == 0)
        return SEND_ALL;
    size_t sent = 0;
    enum send_result result = send_from(conn, reply, &sent);
    if (result == SEND_BACKLOG)
        result = keep(conn, reply, sent);
    reply_clear(reply);
    return result;
}

enum send_result send_backlog(struct conn *conn) {
    enum send_result result = send_from(conn, &conn->backlog->reply, &conn->backlog->sent);
    if (result == SEND_ALL)
        conn->backlog = NULL;
    return result;
}
