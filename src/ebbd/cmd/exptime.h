/* exptime -- the daemon's clock, and what clients mean by an expiration time. */
#ifndef EBBD_CMD_EXPTIME_H
#define EBBD_CMD_EXPTIME_H

#include <stdint.h>

#define EXPTIME_RELATIVE_MAX (60 * 60 * 24 * 30) /* seconds; more is a time since 1970 */
#define EXPTIME_CLOCK_START  62 /* memcached shows its own in the time left of what is over */
#define EXPTIME_PAST         1  /* a second that is always over */

/* The daemon's clock counts seconds from EXPTIME_CLOCK_START at its start. */
struct exptime_clock {
    uint64_t start_ns;  /* ebb_clock_ns of the start */
    int64_t unix_start; /* seconds since 1970 at the clock's 0 */
};
void exptime_clock_init(struct exptime_clock *clock, uint64_t now_ns, uint64_t unix_ns);
uint32_t exptime_now(const struct exptime_clock *clock, uint64_t now_ns);

/* Second of the daemon's clock from which an item is gone; 0: never. As memcached's realtime(): 0
 * never, negative at once, up to 30 days from now, else seconds since 1970. */
uint32_t exptime_second(const struct exptime_clock *clock, int64_t exptime, uint32_t now);

#endif
