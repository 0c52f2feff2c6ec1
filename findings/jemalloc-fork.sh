#!/usr/bin/env bash
# Guess: MALLOC_CONF=background_thread:true holds for the process, also when it becomes a daemon: the child of a fork starts a
#        thread of its own, as it does for jemalloc's locks and arenas, or at its first allocation.
# Real:  a child has no such thread and never gets one; mallctl says that the feature is off. What it frees stays resident
#        until it allocates again: 100 MiB after a second and for as long as it is idle, where the parent gives most of it back.
#        Writing true to "background_thread" in the child, after the fork, brings it back.
# Where: jemalloc 5.3.0 (Debian's libjemalloc2 5.3.0-1). The handler that runs in the child after fork clears the count of
#        threads and the switch. A daemon that forks into the background at its start always runs without.
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

unpack libjemalloc2=5.3.0-1
cat >probe.c <<'END'
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);
enum { BLOCKS = 100000, BYTES = 1000 };
static char *blocks[BLOCKS];
static long resident_mib(void) {
    long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld %ld", &all, &resident) != 2) exit(2);
    fclose(file);
    return resident / 256;
}
static int returned(const char *who) { /* whether freed memory goes back to the kernel within 10 s of idleness */
    bool on = false;
    size_t size = sizeof on;
    struct timespec moment = {0, 100000000};
    mallctl("background_thread", &on, &size, NULL, 0);
    for (int i = 0; i < BLOCKS; i++) blocks[i] = memset(malloc(BYTES), 1, BYTES);
    for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
    long before = resident_mib(), after = before;
    for (int i = 0; i < 100 && after > before / 2; i++) nanosleep(&moment, NULL), after = resident_mib();
    printf("%s: background_thread %s, resident after free %ld MiB, then %ld MiB\n", who, on ? "on" : "off", before, after);
    fflush(stdout);
    return on && after <= before / 2;
}
static int in_child(int enable) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        bool on = true;
        if (enable) mallctl("background_thread", NULL, NULL, &on, sizeof on);
        _exit(returned(enable ? "child that switches it on" : "child"));
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
int main(void) {
    int parent = returned("parent"), child = in_child(0), enabled = in_child(1);
    return !(parent == 1 && child == 0 && enabled == 1);
}
END
gcc -O1 probe.c -o probe root/usr/lib/x86_64-linux-gnu/libjemalloc.so.2
MALLOC_CONF=background_thread:true,dirty_decay_ms:200,muzzy_decay_ms:0 \
    LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
