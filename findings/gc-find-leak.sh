#!/usr/bin/env bash
# Guess: with GC_set_find_leak each object that became unreachable without GC_free is reported, sooner or later, and the
#        exit status tells that there were leaks, as other leak checkers do.
# Real:  at most 40 objects a collection are reported. The others are freed in silence, so that no later collection finds
#        them: of 100 leaks 40 are told, nothing says that there were more, and the exit status stays 0.
# Where: libgc 8.2.2 (Debian 1:8.2.2-3). What a collection finds goes into a table of 40 places; what does not fit is
#        reclaimed like any garbage.
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

unpack libgc1=1:8.2.2-3 libgc-dev=1:8.2.2-3
cat >probe.c <<'END'
#define GC_DEBUG
#include <gc.h>
#include <stdio.h>
#include <stdlib.h>
static void *keep[100];
static __attribute__((noinline)) void leak(void) {
    for (int i = 0; i < 100; i++) keep[i] = GC_MALLOC(48);
    for (int i = 0; i < 100; i++) keep[i] = NULL;
}
static __attribute__((noinline)) void scrub(void) {
    volatile char stack[65536];
    for (unsigned i = 0; i < sizeof stack; i++) stack[i] = 0;
}
int main(void) {
    GC_set_find_leak(1);
    GC_INIT();
    printf("libgc %u.%u.%u\n", GC_get_version() >> 16, GC_get_version() >> 8 & 255, GC_get_version() & 255);
    leak(), scrub();
    for (int i = 0; i < 6; i++) {
        GC_gcollect();
        if (GC_MALLOC(16) == NULL) return 1;
        fputs("-- next collection\n", stderr);
    }
    return 0;
}
END
gcc -O1 -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libgc.so.1 -pthread
status=0
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe 2>reports || status=$?
all=$(grep -c 'sz= 48' reports || true)
first=$(sed '/next collection/q' reports | grep -c 'sz= 48' || true)
echo "100 objects of 48 bytes leaked: reported by the first collection $first, by all six $all; exit status $status"
[ "$first $all $status" = "40 40 0" ] || { echo "the behaviour has changed" >&2; exit 1; }
