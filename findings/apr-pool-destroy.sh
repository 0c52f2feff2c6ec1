#!/usr/bin/env bash
# Guess: apr_pool_destroy gives a pool's memory back, as free does: to malloc, or to the system when the pool was large. What
#        apr_pool_clear keeps is bounded.
# Real:  100 MiB of a destroyed pool stay with the process, invisible to malloc: resident memory does not fall, and 100 MiB
#        from malloc come on top. Only another pool can have them. With an allocator of its own whose apr_allocator_max_free
#        was set, the pool returns nearly all.
# Where: APR 1.7.2 (Debian's libapr1 1.7.2-3+deb12u1). All pools without an allocator of their own share that of the global
#        pool, whose list of free blocks has no bound; destroying a pool only moves its blocks there.
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

unpack libapr1=1.7.2-3+deb12u1 libapr1-dev=1.7.2-3+deb12u1
cat >probe.c <<'END'
#include <apr_allocator.h>
#include <apr_general.h>
#include <apr_pools.h>
#include <apr_version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static long resident_mib(void) {
    long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &all, &resident) != 2) exit(2);
    fclose(file);
    return resident / 256;
}
static long left_behind(apr_allocator_t *allocator) {
    apr_pool_t *pool;
    long before = resident_mib();
    if (apr_pool_create_ex(&pool, NULL, NULL, allocator) != APR_SUCCESS) exit(2);
    if (allocator) apr_allocator_owner_set(allocator, pool);
    for (int i = 0; i < 100000; i++) memset(apr_palloc(pool, 1000), 1, 1000);
    apr_pool_clear(pool);
    long cleared = resident_mib() - before;
    if (!allocator) apr_pool_destroy(pool);
    printf("%s: MiB that stay after apr_pool_clear %ld", allocator ? "own allocator with a bound" : "plain pool", cleared);
    printf(allocator ? "\n" : ", after apr_pool_destroy %ld\n", resident_mib() - before);
    return resident_mib() - before;
}
int main(void) {
    apr_allocator_t *allocator;
    apr_initialize();
    printf("APR %s\n", apr_version_string());
    if (apr_allocator_create(&allocator) != APR_SUCCESS) return 2;
    apr_allocator_max_free_set(allocator, 1 << 20);
    long bounded = left_behind(allocator), plain = left_behind(NULL), before = resident_mib();
    char *volatile block = malloc(100 << 20);
    memset(block, 1, 100 << 20);
    long more = resident_mib() - before;
    printf("100 MiB from malloc then: %ld MiB on top\n", more);
    return !(bounded < 10 && plain > 90 && more > 90);
}
END
gcc -O0 -D_GNU_SOURCE -Iroot/usr/include/apr-1.0 probe.c -o probe root/usr/lib/x86_64-linux-gnu/libapr-1.so.0
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
