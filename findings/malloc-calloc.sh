#!/usr/bin/env bash
# Guess: calloc of a hundred mebibytes costs nothing until the memory is used: fresh pages of the kernel are zero already, so
#        every allocator leaves them alone. And calloc of a product that overflows sets errno to ENOMEM.
# Real:  so it is in glibc and jemalloc. mimalloc, tcmalloc and TBB's allocator write zeros over all of it at once: resident
#        memory grows by 100 MiB. After an overflow mimalloc and tcmalloc return NULL with errno 0.
# Where: mimalloc 2.0.9+ds-2, gperftools 2.10-1, oneTBB 2021.8.0-2+deb12u1, jemalloc 5.3.0-1 of Debian 12, glibc 2.36. The
#        three write zeros over what they got, though it came straight from the kernel. A program that reserves large sparse tables by
#        calloc grows by their full size when one of these is preloaded.
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

unpack libmimalloc2.0=2.0.9+ds-2 libtcmalloc-minimal4=2.10-1 libtbbmalloc2=2021.8.0-2+deb12u1 libjemalloc2=5.3.0-1
cat >probe.c <<'END'
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static long resident_mib(void) {
    long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &all, &resident) != 2) exit(2);
    fclose(file);
    return resident / 256;
}
int main(void) {
    long before = resident_mib();
    char *volatile table = calloc(1, 100 << 20);
    long after = resident_mib();
    volatile size_t many = SIZE_MAX / 2;
    errno = 0;
    char *volatile none = calloc(many, 4);
    int saved = errno;
    printf("%s %s\n", after - before > 90 ? "all" : after - before < 10 && table ? "none" : "some",
           none ? "given" : saved == ENOMEM ? "ENOMEM" : saved == 0 ? "NULL-and-errno-0" : "other");
    return 0;
}
END
gcc -O0 -w probe.c -o probe
lib=root/usr/lib/x86_64-linux-gnu
changed=0
while read -r name library resident overflow; do
    seen=$(LD_LIBRARY_PATH=$lib LD_PRELOAD=$library ./probe)
    echo "$name: of 100 MiB from calloc resident, and calloc that overflows: $seen"
    [ "$seen" = "$resident $overflow" ] || changed=1
done <<END
glibc-2.36 libc.so.6 none ENOMEM
jemalloc-5.3.0 libjemalloc.so.2 none ENOMEM
mimalloc-2.0.9 libmimalloc.so.2.0 all NULL-and-errno-0
gperftools-2.10 libtcmalloc_minimal.so.4 all NULL-and-errno-0
oneTBB-2021.8.0 libtbbmalloc_proxy.so.2 all ENOMEM
END
((changed == 0)) || { echo "the behaviour has changed" >&2; exit 1; }
