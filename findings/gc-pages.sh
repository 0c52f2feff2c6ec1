#!/usr/bin/env bash
# Guess: an object of a page takes a page: GC_malloc(4096) costs 4,096 bytes of heap, or a header more. GC_memalign serves
#        any power of two, as posix_memalign does.
# Real:  GC_malloc(4096) takes 4,112 bytes and so two blocks of 4 KiB: each object of a page costs two, 4,095 bytes cost
#        one. GC_memalign serves an alignment of 4,096 and returns NULL for 8,192; GC_posix_memalign says ENOMEM then,
#        however much memory there is.
# Where: libgc 8.2.2 (Debian 1:8.2.2-3). Each request grows by one byte for a pointer one past the end, and is rounded up to
#        granules of 16; an alignment above the block size of 4 KiB is left to the out-of-memory function.
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
#include <errno.h>
#include <stdio.h>
enum { OBJECTS = 10000 };
static void *kept[2][OBJECTS];
static size_t cost(int row, size_t bytes) {
    size_t before = GC_get_heap_size() - GC_get_free_bytes();
    for (int i = 0; i < OBJECTS; i++) kept[row][i] = GC_malloc_atomic(bytes);
    return (GC_get_heap_size() - GC_get_free_bytes() - before) / OBJECTS;
}
int main(void) {
    GC_set_warn_proc(GC_ignore_warn_proc);
    GC_INIT();
    printf("libgc %u.%u.%u\n", GC_get_version() >> 16, GC_get_version() >> 8 & 255, GC_get_version() & 255);
    size_t page = cost(0, 4096), less = cost(1, 4095);
    printf("bytes of heap an object: of 4096 bytes %zu (GC_size %zu), of 4095 bytes %zu (GC_size %zu)\n", page,
           GC_size(kept[0][0]), less, GC_size(kept[1][0]));
    void *block = NULL;
    int small = GC_memalign(4096, 100) != NULL, large = GC_memalign(8192, 100) != NULL;
    int status = GC_posix_memalign(&block, 8192, 100);
    printf("GC_memalign(4096, 100) %s, GC_memalign(8192, 100) %s, GC_posix_memalign(8192, 100) %s\n",
           small ? "given" : "NULL", large ? "given" : "NULL", status == ENOMEM ? "ENOMEM" : "another status");
    return !(page > 8000 && less < 4300 && small && !large && status == ENOMEM);
}
END
gcc -O1 -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libgc.so.1 -pthread
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
