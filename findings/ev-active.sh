#!/usr/bin/env bash
# Guess: event_active runs the callback of an event once, besides whatever the event waits for: a timer that is due in a
#        minute is still due in a minute, a reader still reads.
# Real:  event_active takes an event without EV_PERSIST out of the loop: its timer never fires, its descriptor is no longer
#        watched. A persistent timer stays.
# Where: libevent 2.1.12 (Debian 2.1.12-stable-8+deb12u1). Before a callback runs, an event that is not persistent is
#        deleted, however it came to run. A connection that is woken by hand loses its idle timer unless that is added anew.
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
#include <stdio.h>
#include <unistd.h>
static int runs;
static void note(evutil_socket_t socket, short what, void *data) { (void)socket, (void)what, (void)data, runs++; }
int main(void) {
    struct timeval minute = {60, 0};
    int ends[2];
    if (pipe(ends) != 0) return 2;
    struct event_base *base = event_base_new();
    struct event *timer = event_new(base, -1, EV_TIMEOUT, note, NULL);
    struct event *reader = event_new(base, ends[0], EV_READ, note, NULL);
    struct event *persistent = event_new(base, -1, EV_TIMEOUT | EV_PERSIST, note, NULL);
    event_add(timer, &minute), event_add(reader, NULL), event_add(persistent, &minute);
    event_active(timer, EV_READ, 1), event_active(reader, EV_WRITE, 1), event_active(persistent, EV_READ, 1);
    event_base_loop(base, EVLOOP_NONBLOCK);
    int timer_waits = event_pending(timer, EV_TIMEOUT, NULL) != 0, reader_waits = event_pending(reader, EV_READ, NULL) != 0;
    int persistent_waits = event_pending(persistent, EV_TIMEOUT, NULL) != 0;
    printf("libevent %s; event_active ran %d callbacks\n", event_get_version(), runs);
    printf("afterwards: timer of a minute %s, reader %s, persistent timer %s\n", timer_waits ? "pending" : "gone",
           reader_waits ? "pending" : "gone", persistent_waits ? "pending" : "gone");
    return !(runs == 3 && !timer_waits && !reader_waits && persistent_waits);
}
END
gcc -O1 -Iroot/usr/include -Iroot/usr/include/x86_64-linux-gnu probe.c -o probe root/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
