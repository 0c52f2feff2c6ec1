#!/usr/bin/env bash
# Guess: thread-local variables are roots: glibc keeps a thread's static TLS at the top of the thread's stack, and the
#        collector scans stacks. A pointer in a __thread variable holds its object.
# Real:  an object that only a __thread variable or pthread_setspecific holds is reclaimed, in the main thread and in
#        threads that the collector itself started.
# Where: libgc 8.2.2 (Debian 1:8.2.2-3), glibc 2.36. The collector takes the frame of its own start routine for the stack's
#        end, and TLS lies above that; the main thread's TLS lies outside of the stack altogether.
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
#define GC_THREADS
#include <gc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
static int reclaimed;
static pthread_key_t keys[20];
static __thread void *variables[20];
static void note(void *object, void *data) { (void)object, (void)data, reclaimed++; }
static __attribute__((noinline)) void fill(void **places) {
    for (int i = 0; i < 20; i++)
        places[i] = GC_malloc(32), GC_register_finalizer(places[i], note, NULL, NULL, NULL);
}
static __attribute__((noinline)) void scrub(void) {
    volatile char stack[65536];
    for (unsigned i = 0; i < sizeof stack; i++) stack[i] = 0;
}
static int collect(void) {
    scrub(), reclaimed = 0;
    for (int i = 0; i < 3; i++) GC_gcollect(), GC_invoke_finalizers();
    return reclaimed;
}
static __attribute__((noinline)) void fill_keys(void) {
    void *places[20];
    fill(places);
    for (int i = 0; i < 20; i++) pthread_setspecific(keys[i], places[i]);
}
static void *measure(void *name) {
    static void *ordinary[20];
    memset(ordinary, 0, sizeof ordinary), collect();
    fill(ordinary);
    int control = collect();
    fill(variables);
    int in_tls = collect();
    fill_keys();
    int in_keys = collect();
    printf("%s: reclaimed of 20 held by a static variable %d, by __thread %d, by pthread_setspecific %d\n", (char *)name,
           control, in_tls, in_keys);
    return control == 0 && in_tls >= 18 && in_keys >= 18 ? name : NULL;
}
int main(void) {
    pthread_t thread;
    void *as_described;
    GC_INIT();
    for (int i = 0; i < 20; i++) pthread_key_create(&keys[i], NULL);
    printf("libgc %u.%u.%u\n", GC_get_version() >> 16, GC_get_version() >> 8 & 255, GC_get_version() & 255);
    int ok = measure("main thread") != NULL;
    pthread_create(&thread, NULL, measure, "second thread");
    pthread_join(thread, &as_described);
    return !(ok && as_described);
}
END
gcc -O1 -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libgc.so.1 -pthread
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
