/* conn_list -- what listens, and all connections of all workers, for `stats conns`.
 *
 * A connection is touched by its worker alone; here it only has a place in one list under one lock,
 * which is taken when it comes and when it goes, never for a request. What is told of others'
 * connections is a look at single words; it may be that of a moment ago.
 *
 * 1. Numbers rise and the list is in their order, so a list that is told in pieces goes on behind
 * the last number told. Sockets that listen have the numbers up to SOCKETS_MAX.
 * 2. Who is told of is open: a connection leaves the list before its descriptor is closed, and so
 * do the sockets. */
#include "conn.h"

#include <arpa/inet.h>
#include <ebb/clock.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ADDRESS_TEXT 160
#define LINE_MAX     256
#define SOCKETS_MAX  256 /* more listen than are told of */

struct conn_list_socket {
    int fd;
    const uint64_t *used_ns; /* of one for datagrams */
    uint64_t opened_ns;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ebb_list conn_list = EBB_LIST_INIT(conn_list); /* of struct conn, by .conn_list */
static uint64_t numbers = SOCKETS_MAX;
static struct conn_list_socket sockets[SOCKETS_MAX];
static size_t sockets_count;

void conn_list_add_socket(int fd, const uint64_t *used_ns) {
    pthread_mutex_lock(&lock);
    if (sockets_count < SOCKETS_MAX)
        sockets[sockets_count++] = (struct conn_list_socket){fd, used_ns, ebb_clock_ns()};
    pthread_mutex_unlock(&lock);
}

void conn_list_forget_sockets(void) {
    pthread_mutex_lock(&lock);
    memset(sockets, 0, sizeof(sockets));
    sockets_count = 0;
    pthread_mutex_unlock(&lock);
}

void conn_list_each_socket(void (*see)(int fd, void *context), void *context) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < sockets_count; i++)
        see(sockets[i].fd, context);
    pthread_mutex_unlock(&lock);
}

void conn_list_add(struct conn *conn) {
    pthread_mutex_lock(&lock);
    conn->number = ++numbers;
    ebb_list_append(&conn_list, &conn->conn_list);
    pthread_mutex_unlock(&lock);
}

void conn_list_remove(struct conn *conn) {
    pthread_mutex_lock(&lock);
    ebb_list_remove(&conn->conn_list);
    pthread_mutex_unlock(&lock);
}

/* "tcp:127.0.0.1:11211", "udp6:[::1]:11211", "unix:/path". */
static void describe(const struct sockaddr_storage *address, const char *transport,
                     char text[ADDRESS_TEXT]) {
    char host[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *in4 = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT, "%s:%s:%u", transport, host, ntohs(in4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT, "%s6:[%s]:%u", transport, host, ntohs(in6->sin6_port));
    } else {
        snprintf(text, ADDRESS_TEXT, "unix:%s", ((const struct sockaddr_un *)address)->sun_path);
    }
}

__attribute__((format(printf, 4, 5))) static void line(struct reply *reply, int fd,
                                                       const char *name, const char *format, ...) {
    char text[LINE_MAX];
    int head = snprintf(text, sizeof(text), "STAT %d:%s ", fd, name);
    va_list arguments;
    va_start(arguments, format);
    int rest = vsnprintf(text + head, sizeof(text) - (size_t)head, format, arguments);
    va_end(arguments);
    size_t length = (size_t)head + (size_t)rest;
    reply_line(reply, (struct ebb_span){text, length < LINE_MAX ? length : LINE_MAX - 1});
}

typedef int name_of(int fd, struct sockaddr *address, socklen_t *length);

static void tell_address(struct reply *reply, int fd, const char *name, name_of *find,
                         const char *transport) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    char text[ADDRESS_TEXT];
    if (find(fd, (struct sockaddr *)&address, &length) != 0)
        return;
    describe(&address, transport, text);
    line(reply, fd, name, "%s", text);
}

static void tell_state(struct reply *reply, int fd, const char *state, uint64_t used_ns) {
    uint64_t now_ns = ebb_clock_ns(), since_ns = now_ns > used_ns ? now_ns - used_ns : 0;
    line(reply, fd, "state", "%s", state);
    line(reply, fd, "secs_since_last_cmd", "%llu",
         (unsigned long long)(since_ns / EBB_NS_PER_SECOND));
}

static void tell_socket(struct reply *reply, const struct conn_list_socket *socket) {
    bool datagrams = socket->used_ns != NULL;
    uint64_t used_ns = datagrams ? __atomic_load_n(socket->used_ns, __ATOMIC_RELAXED) : 0;
    if (datagrams)
        line(reply, socket->fd, "UDP", "UDP");
    tell_address(reply, socket->fd, "addr", getsockname, datagrams ? "udp" : "tcp");
    tell_state(reply, socket->fd, datagrams ? "conn_read" : "conn_listening",
               used_ns ? used_ns : socket->opened_ns);
}

/* In memcached's words. */
static const char *state_of(const struct conn *conn, bool mine) {
    if (mine)
        return "conn_parse_cmd";
    if (__atomic_load_n(&conn->backlog, __ATOMIC_RELAXED))
        return "conn_mwrite";
    if (__atomic_load_n(&conn->stream, __ATOMIC_RELAXED))
        return "conn_watch";
    if (__atomic_load_n(&conn->in_block, __ATOMIC_RELAXED))
        return "conn_nread";
    return "conn_read";
}

static void tell_conn(const struct cmd_context *slice, const struct conn *conn) {
    int fd = ebb_fd_get(conn->fd);
    tell_address(slice->reply, fd, "addr", getpeername, "tcp");
    tell_address(slice->reply, fd, "listen_addr", getsockname, "tcp");
    tell_state(slice->reply, fd, state_of(conn, fd == slice->fd),
               __atomic_load_n(&conn->used_ns, __ATOMIC_RELAXED));
}

uint64_t conn_list_list(struct cmd_context *slice, uint64_t after) {
    uint64_t last = after;
    bool more = false;
    pthread_mutex_lock(&lock);
    for (size_t i = after; i < sockets_count && !(more = reply_full(slice->reply)); last = ++i)
        tell_socket(slice->reply, &sockets[i]);
    EBB_LIST_EACH (&conn_list, link) {
        const struct conn *conn = EBB_LIST_ENTRY(link, struct conn, conn_list);
        if (conn->number <= after)
            continue;
        more = more || reply_full(slice->reply);
        if (more)
            break;
        tell_conn(slice, conn);
        last = conn->number;
    }
    pthread_mutex_unlock(&lock);
    return more ? last : 0;
}
