#!/usr/bin/env bash
# Guess: evhttp sends no body in reply to HEAD; what the handler gave to evhttp_send_reply serves for Content-Length only.
# Real:  the body is sent, and without a Content-Length: the headers of the reply end at Date, and the bytes that follow
#        are, to a client that keeps the connection, the beginning of its next reply.
# Where: libevent 2.1.12 (Debian 2.1.12-stable-8+deb12u1). HEAD is among the methods that evhttp lets through by itself, and
#        the function that adds Content-Length asks whether the reply may have a body, but the one that writes does not.
#        A handler has to look at the method itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

unpack() { # the packages, and those of their needs that this system lacks, below root/
    apt-get install -s --no-install-recommends "$@" 2>apt.log |
        sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+).*/\1=\3/p' | xargs apt-get download "$@" >apt.log 2>&1 ||
        { echo "not served any more (or apt-get update is due): $*" >&2; exit 2; }
    for package in *.deb; do dpkg -x "$package" root; done
}

unpack libevent-2.1-7=2.1.12-stable-8+deb12u1 libevent-dev=2.1.12-stable-8+deb12u1
cat >probe.c <<'END'
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void answer(struct evhttp_request *request, void *data) {
    struct evbuffer *body = evbuffer_new();
    (void)data;
    evbuffer_add_printf(body, "body of the page");
    evhttp_send_reply(request, 200, "OK", body);
    evbuffer_free(body);
}
int main(void) {
    static char reply[4096];
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    evhttp_set_gencb(http, answer, NULL);
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
    if (bound == NULL || getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &size) != 0) return 2;
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&address, size) != 0) return 2;
    const char *request = "HEAD / HTTP/1.1\r\nHost: probe\r\n\r\n";
    if (write(client, request, strlen(request)) < 0 || shutdown(client, SHUT_WR) != 0) return 2;
    size_t have = 0;
    for (ssize_t got = 1; got != 0;) {
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        got = recv(client, reply + have, sizeof reply - 1 - have, MSG_DONTWAIT);
        if (got > 0) have += (size_t)got;
    }
    printf("libevent %s; reply to HEAD:\n%s\n", event_get_version(), reply);
    char *end = strstr(reply, "\r\n\r\n");
    return !(end && strcmp(end + 4, "body of the page") == 0 && strstr(reply, "Content-Length") == NULL);
}
END
gcc -O1 -Iroot/usr/include -Iroot/usr/include/x86_64-linux-gnu probe.c -o probe root/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
