/* client -- a blocking HTTP client in a few lines: sends bytes, reads to the end. For tests of a
 * running server. */
#ifndef EBB_TEST_CLIENT_H
#define EBB_TEST_CLIENT_H

#include <errno.h>
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CLIENT_PATIENCE_SECONDS                                                                    \
    60 /* a server that hangs fails the test instead of the whole run                              \
        */

static inline int client_connect(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = CLIENT_PATIENCE_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_msg(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0,
                  "connect to port %d", port);
    return fd;
}

/* Reads until the other side closes. Returns the length; answer ends in NUL. */
/* read(2), again when the collector's signal interrupted it: with a receive timeout the kernel does
 * not restart it. */
static inline ssize_t client_read(int fd, char *at, size_t size) {
    ssize_t got;
    do {
        got = read(fd, at, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

static inline size_t client_read_all(int fd, char *answer, size_t size) {
    size_t used = 0;
    ssize_t got;
    while (used + 1 < size && (got = client_read(fd, answer + used, size - 1 - used)) > 0)
        used += (size_t)got;
    answer[used] = 0;
    return used;
}

/* One request on a connection of its own; returns the status. */
static inline int client_request(int port, const char *method, const char *path, char *answer,
                                 size_t size) {
    char request[4096];
    int length = snprintf(request, sizeof(request),
                          "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
                          method, path, strcmp(method, "POST") == 0 ? "Content-Length: 0\r\n" : "");
    int fd = client_connect(port), status = 0;
    ck_assert_int_eq(send(fd, request, (size_t)length, MSG_NOSIGNAL), length);
    client_read_all(fd, answer, size);
    close(fd);
    sscanf(answer, "HTTP/1.1 %d", &status);
    return status;
}

static inline const char *client_body(const char *answer) {
    const char *end = strstr(answer, "\r\n\r\n");
    return end ? end + 4 : "";
}

#endif
