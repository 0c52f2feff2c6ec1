#!/usr/bin/env bash
# Guess: talloc passes sizes on to malloc: what malloc can give, talloc_size gives. A limit set by talloc_set_memlimit counts
#        the bytes that were asked for.
# Real:  no object of 256 MiB or more can be had: talloc_size, talloc_realloc and talloc_array return NULL, though malloc
#        would serve them. Under a limit of 1,000 bytes nine objects of one byte fit.
# Where: talloc 2.4.0 (Debian 2.4.0-f2). The library refuses from a constant on, so that sizes which came from negative or
#        overflown numbers are caught; it says so nowhere in its interface. The limit counts the header of each object,
#        96 bytes, as well. Samba's memory pools and those that use them, SSSD and FreeRADIUS, inherit both.
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

unpack libtalloc2=2.4.0-f2 libtalloc-dev=2.4.0-f2
cat >probe.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <talloc.h>
int main(void) {
    const size_t edge = (size_t)256 << 20;
    void *context = talloc_new(NULL);
    void *below = talloc_size(context, edge - 1), *at = talloc_size(context, edge), *plain = malloc(edge);
    int *array = talloc_array(context, int, 64 << 20);
    void *grown = talloc_realloc_size(context, talloc_size(context, 1), edge);
    printf("talloc %d.%d; 256 MiB less one byte: %s; 256 MiB: %s; by malloc: %s\n", talloc_version_major(),
           talloc_version_minor(), below ? "given" : "NULL", at ? "given" : "NULL", plain ? "given" : "NULL");
    printf("an array of 64 Mi ints: %s; one byte grown to 256 MiB: %s\n", array ? "given" : "NULL", grown ? "given" : "NULL");
    void *limited = talloc_new(context);
    int objects = 0;
    talloc_set_memlimit(limited, 1000);
    while (talloc_size(limited, 1)) objects++;
    printf("objects of one byte under a limit of 1000 bytes: %d\n", objects);
    return !(below && !at && plain && !array && !grown && objects == 9);
}
END
gcc -O1 -Wno-deprecated-declarations -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libtalloc.so.2
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
