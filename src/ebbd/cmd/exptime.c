/* exptime -- two clocks: the daemon's is monotonic and small, clients may speak of the wall's. The
 * distance of the two is taken once, at the start, so a step of the wall clock expires nothing. */
#include "exptime.h"

#include <ebb/clock.h>

void exptime_clock_init(struct exptime_clock *clock, uint64_t now_ns, uint64_t unix_ns) {
    clock->start_ns = now_ns;
    clock->unix_start = (int64_t)(unix_ns / EBB_NS_PER_SECOND) - EXPTIME_CLOCK_START;
}

uint32_t exptime_now(const struct exptime_clock *clock, uint64_t now_ns) {
    uint64_t since_ns = now_ns > clock->start_ns ? now_ns - clock->start_ns : 0;
    return (uint32_t)(since_ns / EBB_NS_PER_SECOND) + EXPTIME_CLOCK_START;
}

uint32_t exptime_second(const struct exptime_clock *clock, int64_t exptime, uint32_t now) {
    if (exptime == 0)
        return 0;
    if (exptime < 0)
        return EXPTIME_PAST;
    if (exptime <= EXPTIME_RELATIVE_MAX)
        return now + (uint32_t)exptime;
    if (exptime <= clock->unix_start + EXPTIME_PAST)
        return EXPTIME_PAST;
    return (uint32_t)(exptime - clock->unix_start);
}
