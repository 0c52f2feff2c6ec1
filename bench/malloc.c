/* malloc -- CPU time of a malloc and its free, some calls deep: prints two numbers of nanoseconds,
 * for one thread, and for each of two. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TIMES = 3000000, DEPTH = 6 };

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

__attribute__((noinline)) static void one(size_t bytes) {
    void *volatile at = malloc(bytes);
    free(at);
}

__attribute__((noinline)) static void deep(int depth) {
    if (depth > 0)
        deep(depth - 1);
    else
        for (size_t i = 0; i < TIMES; i++)
            one(16 + i % 8 * 32);
    __asm__ volatile(""); /* no tail call: each level is a frame */
}

static void *run(void *arg) {
    deep(DEPTH);
    return arg;
}

int main(void) {
    pthread_t thread[2];
    double begin = cpu_ns();
    run(NULL);
    double alone = cpu_ns() - begin;
    begin = cpu_ns();
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread[i], NULL, run, NULL) != 0)
            return EXIT_FAILURE;
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    printf("%.2f %.2f\n", alone / TIMES, (cpu_ns() - begin) / (2.0 * TIMES));
    return EXIT_SUCCESS;
}
