/* allocation -- what an OWNED object costs, from birth to goodbye and collection: ebb-allocation
 * PROFILE ROUNDS.
 *
 * Prints nanoseconds an object. The profile says whether the leak watch is on; run it once with and
 * once without. The call depth is that of a daemon: the stack that the watch walks has eight frames
 * and more. */
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEPTH = 8, BATCH = 1000 };

struct thing {
    void *links[4];
    char room[32];
};

EBB_TYPE_DEFINE(thing, EBB_POINTERS, EBB_OWNED, "what is measured")

static struct thing *things[BATCH];

static __attribute__((noinline)) void batch(int depth) {
    if (depth > 0) {
        batch(depth - 1);
        __asm__ volatile("");
        return;
    }
    for (int i = 0; i < BATCH; i++)
        things[i] = ebb_new(thing);
    for (int i = 0; i < BATCH; i++)
        ebb_done(things[i]);
}

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    static struct ebb_type *const types[] = {&ebb_type_thing};
    static struct ebb_profile profile;
    if (argc != 3 || ebb_profile_read(&profile, argv[1]) != EBB_OK) {
        fprintf(stderr, "usage: ebb-allocation PROFILE ROUNDS %s\n", ebb_err_text());
        return EXIT_FAILURE;
    }
    ebb_collector_start(&profile);
    ebb_types_add(types, 1);
    for (int i = 0; i < 200; i++)
        batch(DEPTH);
    int rounds = atoi(argv[2]);
    double start = cpu_ns();
    for (int i = 0; i < rounds; i++)
        batch(DEPTH);
    printf("%.2f\n", (cpu_ns() - start) / rounds / BATCH);
    return EXIT_SUCCESS;
}
