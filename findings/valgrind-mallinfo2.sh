#!/usr/bin/env bash
# Guess: under Valgrind, which replaces malloc, mallinfo and mallinfo2 tell the same of the replaced heap.
# Real:  mallinfo, deprecated since glibc 2.33, counts Valgrind's blocks; mallinfo2, its successor, says that nothing is
#        allocated. A daemon that sheds load or reports memory by mallinfo2 takes its heap for empty under Valgrind.
# Where: valgrind 3.19.0 (Debian 1:3.19.0-1), glibc 2.36. The replacement knows the old name only, so that the new one asks
#        glibc's own heap, which nobody uses; every tool that replaces malloc does so (massif, dhat, memcheck).
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

unpack valgrind=1:3.19.0-1
cat >probe.c <<'END'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    char *volatile block = malloc(5000000);
    struct mallinfo2 now = mallinfo2();
    size_t by_new = now.uordblks + now.hblkhd;
    struct mallinfo old = mallinfo();
    size_t by_old = (size_t)old.uordblks + (size_t)old.hblkhd;
    printf("allocated 5 million bytes: by mallinfo %s, by mallinfo2 %s\n", by_old >= 5000000 ? "yes" : "no",
           by_new >= 5000000 ? "yes" : "no");
    return block == NULL;
}
END
gcc -O0 -w probe.c -o probe
native=$(./probe)
echo "natively: $native"
[[ $native == *"mallinfo yes, by mallinfo2 yes" ]] || { echo "the behaviour of glibc has changed" >&2; exit 1; }
export VALGRIND_LIB=$work/root/usr/libexec/valgrind LD_LIBRARY_PATH=
"$work/root/usr/bin/valgrind.bin" --version 2>/dev/null || "$work/root/usr/bin/valgrind" --version
for tool in massif dhat; do
    seen=$("$work/root/usr/bin/valgrind" --quiet --tool=$tool --$tool-out-file=out.$tool ./probe 2>tool.log)
    echo "under $tool: $seen"
    [[ $seen == *"mallinfo yes, by mallinfo2 no" ]] || { echo "the behaviour has changed" >&2; exit 1; }
done
