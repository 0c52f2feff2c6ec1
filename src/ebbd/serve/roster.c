/* roster -- all connections of all workers, for `stats conns`.
 *
 * A connection is touched by its worker alone; here it only has a place in one list under one lock,
 * which is taken when it comes and when it goes, never for a request.
 *
 * 1. Numbers rise and the list is in their order, so a list that is told in pieces goes on behind
 * the last number told.
 * 2. A connection leaves the list before its descriptor is closed. */
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

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ebb_list roster = EBB_LIST_INIT(roster); /* of struct conn, by .roster */
static uint64_t numbers;

void roster_add(struct conn *conn) {
    pthread_mutex_lock(&lock);
    conn->number = ++numbers;
    ebb_list_append(&roster, &conn->roster);
    pthread_mutex_unlock(&lock);
}

void roster_remove(struct conn *conn) {
    pthread_mutex_lock(&lock);
    ebb_list_remove(&conn->roster);
    pthread_mutex_unlock(&lock);
}

/* "tcp:127.0.0.1:11211", "tcp6:[::1]:11211", "unix:/path". */
static void describe(const struct sockaddr_storage *address, char text[ADDRESS_TEXT]) {
    char host[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *in4 = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT, "tcp:%s:%u", host, ntohs(in4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT, "tcp6:[%s]:%u", host, ntohs(in6->sin6_port));
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

static void tell(const struct cmd_turn *turn, const struct conn *conn) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address);
    char text[ADDRESS_TEXT];
    int fd = ebb_fd_get(conn->fd);
    bool mine = fd == turn->fd;
    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0) {
        describe(&address, text);
        line(turn->reply, fd, "addr", "%s", text);
    }
    memset(&address, 0, sizeof(address));
    length = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) == 0) {
        describe(&address, text);
        line(turn->reply, fd, "listen_addr", "%s", text);
    }
    uint64_t used_ns = __atomic_load_n(&conn->used_ns, __ATOMIC_RELAXED), now_ns = ebb_clock_ns();
    line(turn->reply, fd, "state", "%s", mine ? "conn_parse_cmd" : "conn_read");
    line(turn->reply, fd, "secs_since_last_cmd", "%llu",
         used_ns && now_ns > used_ns ? (unsigned long long)((now_ns - used_ns) / EBB_NS_PER_SECOND)
                                     : 0ULL);
}

uint64_t roster_list(struct cmd_turn *turn, uint64_t after) {
    uint64_t last = after;
    bool more = false;
    pthread_mutex_lock(&lock);
    EBB_LIST_EACH (&roster, link) {
        const struct conn *conn = EBB_LIST_ENTRY(link, struct conn, roster);
        if (conn->number <= after)
            continue;
        more = reply_full(turn->reply);
        if (more)
            break;
        tell(turn, conn);
        last = conn->number;
    }
    pthread_mutex_unlock(&lock);
    return more ? last : 0;
}
