#!/usr/bin/env bash
# Guess: tcmalloc gives free memory back slowly at its rate of 1, and a higher TCMALLOC_RELEASE_RATE, up to "as fast as it
#        comes" at 1,000, makes it give back at each large free.
# Real:  whatever the rate, nothing is given back until about 2 GiB have been freed in the life of the process. A program
#        that frees 100 MiB once, after its start or at night, keeps them resident for ever.
# Where: gperftools 2.10 (Debian's libtcmalloc-minimal4 2.10-1). The rate only sets how far apart two releases are; the
#        countdown to the first one starts at 262,144 pages of 8 KiB. TCMALLOC_AGGRESSIVE_DECOMMIT=true and a call of
#        MallocExtension_ReleaseFreeMemory are not bound by it.
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

unpack libtcmalloc-minimal4=2.10-1
cat >probe.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
enum { BLOCK_MIB = 64, ROUNDS = 60 };
static long resident_mib(void) {
    long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &all, &resident) != 2) exit(2);
    fclose(file);
    return resident / 256;
}
int main(void) {
    for (int i = 1; i <= ROUNDS; i++) {
        char *volatile block = malloc(BLOCK_MIB << 20);
        memset(block, 1, BLOCK_MIB << 20);
        free(block);
        if (resident_mib() < BLOCK_MIB / 2) return printf("%d\n", i * BLOCK_MIB), 0;
    }
    return puts("never"), 0;
}
END
gcc -O0 -w probe.c -o probe
changed=0
while read -r setting low high; do
    seen=$(env "$setting" LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu LD_PRELOAD=libtcmalloc_minimal.so.4 ./probe)
    echo "gperftools 2.10, $setting: 64 MiB at a time, memory came back after so many MiB freed: $seen"
    [ "$seen" != never ] && ((seen >= low && seen <= high)) || changed=1
done <<'END'
TCMALLOC_RELEASE_RATE=1 1900 2200
TCMALLOC_RELEASE_RATE=10 1900 2200
TCMALLOC_RELEASE_RATE=1000 1900 2200
TCMALLOC_AGGRESSIVE_DECOMMIT=true 64 64
END
((changed == 0)) || { echo "the behaviour has changed" >&2; exit 1; }
