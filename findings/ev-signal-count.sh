#!/usr/bin/env bash
# Guess: signals of one kind that come while a loop is busy are one event, as they are one pending signal to the kernel: the
#        callback of a signal event runs once in the next iteration.
# Real:  the callback runs as often as the signal came: 5,000 raises before the loop looks are 5,000 calls, in one
#        iteration, all of them before the one of a SIGTERM that came with them.
# Where: libevent 2.1.12 (Debian 2.1.12-stable-8+deb12u1). The handler writes a byte for each signal into a socket pair, the
#        loop counts the bytes and calls that often. A daemon that dumps its state on SIGUSR1 is kept from its work, and
#        from SIGTERM, by whoever sends many; a signal that blocks (signalfd) would have been one.
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
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
static int runs[2], runs_before_end;
static void dump(evutil_socket_t number, short what, void *data) { (void)number, (void)what, (void)data, runs[0]++; }
static void end(evutil_socket_t number, short what, void *data) {
    (void)number, (void)what, (void)data;
    runs_before_end = runs[0], runs[1]++;
}
int main(void) {
    struct event_base *base = event_base_new();
    struct event *usr1 = evsignal_new(base, SIGUSR1, dump, NULL), *term = evsignal_new(base, SIGTERM, end, NULL);
    event_add(usr1, NULL), event_add(term, NULL);
    for (int i = 0; i < 5000; i++)
        raise(SIGUSR1);
    raise(SIGTERM);
    event_base_loop(base, EVLOOP_ONCE);
    printf("libevent %s: 5000 SIGUSR1 and a SIGTERM, one iteration: %d and %d calls, %d of them before SIGTERM's\n",
           event_get_version(), runs[0], runs[1], runs_before_end);
    return !(runs[0] > 1000 && runs[1] == 1);
}
END
gcc -O1 -Iroot/usr/include -Iroot/usr/include/x86_64-linux-gnu probe.c -o probe root/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
