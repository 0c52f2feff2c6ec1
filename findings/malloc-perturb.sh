#!/usr/bin/env bash
# Guess: with MALLOC_PERTURB_=85 malloc fills new memory with 0xaa and free fills old memory with 0x55, so that a test which
#        reads memory after free, or before it is set, sees rubbish instead of what happens to be there.
# Real:  blocks of up to about a kilobyte are filled once in their life. Their free leaves the content as it was, and the
#        next malloc of that size returns the old content untouched. Only larger blocks behave as the manual says.
# Where: glibc 2.36 (Debian's libc6 2.36-9+deb12u14). Freed small blocks go into the thread's cache, tcache, and come back from it, by
#        a path that does not look at the setting; glibc.malloc.tcache_count=0 brings the old behaviour back. Test runners
#        that set MALLOC_PERTURB_ check much less than they seem to.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >probe.c <<'END'
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static unsigned middle(unsigned char *volatile block, size_t bytes) { return block[bytes / 2]; }
int main(int count, char **words) {
    size_t bytes = (size_t)atol(words[1]);
    unsigned char *volatile block = malloc(bytes);
    unsigned char *volatile fence = malloc(16);
    (void)count, (void)fence;
    unsigned fresh = middle(block, bytes);
    memset(block, 'S', bytes);
    free(block);
    unsigned freed = middle(block, bytes);
    printf("glibc %s: %s bytes: new %02x, after free %02x, ", gnu_get_libc_version(), words[1], fresh, freed);
    printf("from the next malloc %02x\n", middle(malloc(bytes), bytes));
    return 0;
}
END
gcc -O0 -w probe.c -o probe
export MALLOC_PERTURB_=85
small=$(./probe 500)
large=$(./probe 2000)
uncached=$(GLIBC_TUNABLES=glibc.malloc.tcache_count=0 ./probe 500)
printf '%s\n%s\nwithout tcache: %s\n' "$small" "$large" "$uncached"
case $small in "glibc 2.36"*) ;; *) echo "this was seen with glibc 2.36" >&2; exit 2 ;; esac
[[ $small == *"new aa, after free 53, from the next malloc 53" && $large == *"after free 55, from the next malloc aa" &&
    $uncached == *"after free 55, from the next malloc aa" ]] || { echo "the behaviour has changed" >&2; exit 1; }
