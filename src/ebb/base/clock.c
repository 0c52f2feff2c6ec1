/* clock -- the kernel's clocks in one unit. Reading them cannot fail with a clock that exists. */
#include <ebb/clock.h>

#include <time.h>

static uint64_t read_clock(clockid_t clock) {
    struct timespec now = {0, 0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * EBB_NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t ebb_clock_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t ebb_clock_unix_ns(void) {
    return read_clock(CLOCK_REALTIME);
}

uint64_t ebb_clock_cpu_ns(void) {
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}
