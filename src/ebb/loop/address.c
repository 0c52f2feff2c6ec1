/* address -- names of TCP sockets, and listening at one.
 *
 * getaddrinfo's answer lives in libc's heap, which the collector neither sees nor counts. It is
 * copied to the caller's stack and freed at once. */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "res/res_internal.h"

#define PORT_TEXT 8
#define WHAT_TEXT 128

/* A hosts file may name the same address twice, which could not be listened on twice. */
static void add_once(struct ebbi_addresses *addresses, const struct addrinfo *found) {
    for (int i = 0; i < addresses->count; i++)
        if (memcmp(&addresses->at[i], found->ai_addr, found->ai_addrlen) == 0)
            return;
    if (addresses->count < EBBI_ADDRESSES_MAX)
        memcpy(&addresses->at[addresses->count++], found->ai_addr, found->ai_addrlen);
}

enum ebb_err ebbi_addresses_find(struct ebbi_addresses *addresses, const char *host, int port) {
    struct addrinfo hints = {
        .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char service[PORT_TEXT];
    snprintf(service, sizeof service, "%d", port);
    int refused =
        getaddrinfo(host != NULL && host[0] != '\0' ? host : NULL, service, &hints, &found);
    if (refused != 0)
        return ebb_err_set(EBB_ERR_USAGE,
                           "cannot listen on %s: %s; give an address of this machine",
                           host == NULL ? "every interface" : host,
                           refused == EAI_SYSTEM ? strerror(errno) : gai_strerror(refused));
    memset(addresses, 0, sizeof *addresses);
    for (struct addrinfo *at = found; at != NULL; at = at->ai_next)
        add_once(addresses, at);
    freeaddrinfo(found);
    return EBB_OK;
}

void ebbi_address_set_port(struct sockaddr_storage *address, int port) {
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
}

void ebbi_addresses_set_port(struct ebbi_addresses *addresses, int port) {
    for (int i = 0; i < addresses->count; i++)
        ebbi_address_set_port(&addresses->at[i], port);
}

void ebbi_address_text(const struct sockaddr_storage *address, char *out, size_t size) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%d", host, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%d", host, ntohs(in6->sin6_port));
    } else {
        snprintf(out, size, "unix");
    }
}

int ebbi_port_of(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family != AF_INET6)
        return 0;
    return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}

static enum ebb_err refused(int error, const char *name) {
    char what[WHAT_TEXT];
    snprintf(what, sizeof what, "listen on %s", name);
    switch (error) {
    case EADDRINUSE:
        return ebb_err_set(EBB_ERR_BUSY,
                           "cannot %s: address in use by another program; choose another --port "
                           "or stop it",
                           what);
    case EACCES:
        return ebb_err_set(EBB_ERR_SYSTEM,
                           "cannot %s: %s; ports below 1024 need root or CAP_NET_BIND_SERVICE",
                           what, strerror(error));
    case EADDRNOTAVAIL:
        return ebb_err_set(EBB_ERR_SYSTEM,
                           "cannot %s: no interface of this machine has the address", what);
    default:
        return ebbi_fd_refused(error, what);
    }
}

static bool option_on(int fd, int level, int option) {
    int one = 1;
    return setsockopt(fd, level, option, &one, sizeof one) == 0;
}

static bool bind_and_listen(int fd, const struct sockaddr_storage *address, int backlog) {
    bool is_ipv6 = address->ss_family == AF_INET6;
    socklen_t length = is_ipv6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    /* Accepted sockets inherit TCP_NODELAY and SO_KEEPALIVE, which saves two calls for each
     * connection. */
    return option_on(fd, SOL_SOCKET, SO_REUSEADDR) && option_on(fd, SOL_SOCKET, SO_KEEPALIVE) &&
           option_on(fd, IPPROTO_TCP, TCP_NODELAY) &&
           (!is_ipv6 || option_on(fd, IPPROTO_IPV6, IPV6_V6ONLY)) &&
           bind(fd, (const struct sockaddr *)address, length) == 0 && listen(fd, backlog) == 0;
}

enum ebb_err ebbi_tcp_listen(const struct sockaddr_storage *address, const char *name, int backlog,
                             int *out, int *error) {
    int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = socket(address->ss_family, type, 0);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = socket(address->ss_family, type, 0);
    if (fd >= 0 && bind_and_listen(fd, address, backlog)) {
        *out = fd;
        return EBB_OK;
    }
    *error = errno;
    if (fd >= 0)
        close(fd);
    return refused(*error, name);
}
