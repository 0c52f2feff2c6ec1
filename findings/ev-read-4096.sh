#!/usr/bin/env bash
# Guess: a bufferevent reads up to bufferevent_get_max_single_read bytes a time, 16,384, or what was set; evbuffer_read
#        reads up to the number of bytes that it was asked for.
# Real:  each read brings 4,096 bytes at most, whatever was asked for, set or waiting: a megabyte takes 256 reads, as many
#        callbacks and as many rounds of epoll_wait.
# Where: libevent 2.1.12 (Debian 2.1.12-stable-8+deb12u1). evbuffer_read cuts each request to a constant of 4,096 and asks
#        the kernel how much there is besides; the bounds of the bufferevent only ever lower that. A daemon that moves
#        large values reads into a buffer of its own.
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
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static int calls;
static size_t largest, total;
static void take(struct bufferevent *stream, void *data) {
    struct evbuffer *input = bufferevent_get_input(stream);
    size_t length = evbuffer_get_length(input);
    (void)data;
    calls++, total += length, largest = length > largest ? length : largest;
    evbuffer_drain(input, length);
}
int main(void) {
    static char bytes[100000];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || write(pair[1], bytes, 40000) != 40000) return 2;
    struct evbuffer *buffer = evbuffer_new();
    int read_at_once = evbuffer_read(buffer, pair[0], 32768);
    printf("libevent %s; 40000 bytes wait\nevbuffer_read of 32768: %d\n", event_get_version(), read_at_once);

    struct event_base *base = event_base_new();
    evutil_make_socket_nonblocking(pair[0]);
    struct bufferevent *stream = bufferevent_socket_new(base, pair[0], 0);
    ev_ssize_t given = bufferevent_get_max_single_read(stream);
    bufferevent_set_max_single_read(stream, 65536);
    bufferevent_setcb(stream, take, NULL, NULL, NULL);
    bufferevent_enable(stream, EV_READ);
    while (total + (size_t)read_at_once < 40000) event_base_loop(base, EVLOOP_ONCE);
    printf("bufferevent, max_single_read %zd, then set to %zd: %d callbacks for the rest, the largest with %zu bytes\n", given,
           bufferevent_get_max_single_read(stream), calls, largest);
    return !(read_at_once == 4096 && given == 16384 && largest == 4096);
}
END
gcc -O1 -Iroot/usr/include -Iroot/usr/include/x86_64-linux-gnu probe.c -o probe root/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
