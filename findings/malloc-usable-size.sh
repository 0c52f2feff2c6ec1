#!/usr/bin/env bash
# Guess: a heap tool that is preloaded in place of malloc answers malloc_usable_size for its own blocks: 100, or a bit more,
#        for a block of 100 bytes.
# Real:  memusage says 4,276,993,688, DUMA 12,297,829,382,473,034,392, Electric Fence and dmalloc 0. A program that grows
#        into the size which it was told, or that sums these sizes to keep a memory limit, goes wrong under the tool only.
# Where: memusage of libc6 2.36-9+deb12u14, duma 2.5.21-6, electric-fence 2.2.6+b1, libdmalloc5 5.5.2-14 of Debian 12. None
#        of them defines malloc_usable_size; glibc's own is called with a foreign block and reads the word before it: the
#        tool's magic number. libc_malloc_debug and Valgrind do answer.
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

unpack duma=2.5.21-6 electric-fence=2.2.6+b1 libdmalloc5=5.5.2-14
cat >probe.c <<'END'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    printf("usable %zu\n", malloc_usable_size(malloc(100)));
    return 0;
}
END
gcc -O0 -w probe.c -o probe
libc=$(dirname "$(ldd ./probe | sed -n 's/.*=> \(.*libc\.so\.6\) .*/\1/p')")
changed=0
while read -r name library expected; do
    seen=$({ LD_PRELOAD=$library ./probe 2>/dev/null || true; } | sed -n 's/^usable //p')
    echo "$name: malloc_usable_size of a block of 100 bytes: $seen"
    [ "$seen" = "$expected" ] || changed=1
done <<END
glibc-2.36 $libc/libc.so.6 104
libc_malloc_debug-2.36 $libc/libc_malloc_debug.so.0 104
memusage-2.36 $libc/libmemusage.so 4276993688
duma-2.5.21 root/usr/lib/libduma.so.0 12297829382473034392
electric-fence-2.2.6 root/usr/lib/libefence.so.0 0
dmalloc-5.5.2 root/usr/lib/x86_64-linux-gnu/libdmalloc.so.5 0
END
((changed == 0)) || { echo "the behaviour has changed" >&2; exit 1; }
