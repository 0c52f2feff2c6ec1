/* gaps -- when the machine itself stood still.
 * ebb-gaps, until it is killed: a line `end,seconds,processor` for each time a processor did not
 * let the most urgent thread there can be run within a quarter of a millisecond of its timer. On a
 * machine of one's own these are the kernel's longest sections; on a rented one mostly the host,
 * which runs something else meanwhile. No server on the machine can be quicker. */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { NS = 1000000000, EVERY_NS = 500000, GAP_NS = 250000 };

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS + now.tv_nsec;
}

static void *watch(void *arg) {
    int processor = (int)(intptr_t)arg;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(processor, &own);
    struct sched_param urgent = {.sched_priority = sched_get_priority_max(SCHED_FIFO)};
    if (pthread_setaffinity_np(pthread_self(), sizeof own, &own) != 0 ||
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &urgent) != 0) {
        fprintf(stderr, "ebb-gaps: SCHED_FIFO needs CAP_SYS_NICE\n");
        exit(EXIT_FAILURE);
    }
    int64_t due = now_ns(CLOCK_MONOTONIC);
    for (;;) {
        due += EVERY_NS;
        struct timespec at = {.tv_sec = due / NS, .tv_nsec = due % NS};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        int64_t now = now_ns(CLOCK_MONOTONIC), gap = now - due;
        if (gap < GAP_NS)
            continue;
        int64_t unix_us = now_ns(CLOCK_REALTIME) / 1000;
        printf("%jd.%06jd,%.6f,%d\n", (intmax_t)(unix_us / 1000000), (intmax_t)(unix_us % 1000000),
               (double)gap / NS, processor);
        due = now;
    }
}

int main(void) {
    mlockall(MCL_CURRENT | MCL_FUTURE);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("end,seconds,processor\n");
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    for (long i = 0; i < processors; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, watch, (void *)(intptr_t)i) != 0)
            return EXIT_FAILURE;
    }
    for (;;)
        pause();
}
