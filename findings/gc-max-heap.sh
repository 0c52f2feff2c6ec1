#!/usr/bin/env bash
# Guess: GC_set_max_heap_size bounds what lives. At the bound an allocation collects first, and fails only when too much
#        is still reachable.
# Real:  a heap that is at its bound and holds nothing but garbage refuses memory: GC_malloc returns NULL without a
#        collection. The same request after GC_gcollect, or from GC_set_oom_fn after a collection, succeeds.
# Where: libgc 8.2.2 (Debian 1:8.2.2-3). When an allocation finds no free block the collector chooses between collecting
#        and growing by how much was allocated since the last collection; once growing is chosen and the bound forbids it,
#        nothing falls back to a collection.
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
#include <gc.h>
#include <stdio.h>
#include <string.h>
enum { MEBIBYTES = 64 };
static void *values[2 * MEBIBYTES];
static void *quiet(size_t bytes) { (void)bytes; return NULL; }
static void *collect_and_retry(size_t bytes) {
    GC_set_oom_fn(quiet);
    GC_gcollect();
    return GC_malloc(bytes);
}
static __attribute__((noinline)) int fill(void) {
    int n = 0;
    while (n < 2 * MEBIBYTES && (values[n] = GC_malloc((1 << 20) - 64)) != NULL) n++;
    memset(values, 0, sizeof values);
    return n;
}
int main(void) {
    GC_set_warn_proc(GC_ignore_warn_proc);
    GC_INIT();
    GC_set_oom_fn(quiet);
    GC_set_max_heap_size((size_t)MEBIBYTES << 20);
    printf("libgc %u.%u.%u\n", GC_get_version() >> 16, GC_get_version() >> 8 & 255, GC_get_version() & 255);
    int filled = fill();
    GC_word collections = GC_get_gc_no();
    int refused = GC_malloc((1 << 20) - 64) == NULL, collected = GC_get_gc_no() != collections;
    GC_set_oom_fn(collect_and_retry);
    int rescued = GC_malloc((1 << 20) - 64) != NULL;
    printf("bound %d MiB, filled with %d values of 1 MiB, then all of them dropped\n", MEBIBYTES, filled);
    printf("next value: %s, %s; with a GC_set_oom_fn that collects: %s\n", refused ? "NULL" : "given",
           collected ? "after a collection" : "without a collection", rescued ? "given" : "NULL");
    return !(refused && !collected && rescued);
}
END
gcc -O1 -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libgc.so.1 -pthread
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
