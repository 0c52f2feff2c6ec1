/* clock -- time in nanoseconds. */
#ifndef EBB_CLOCK_H
#define EBB_CLOCK_H

#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

#define EBB_NS_PER_SECOND UINT64_C(1000000000)
#define EBB_NS_PER_MS     UINT64_C(1000000)

uint64_t ebb_clock_ns(void);      /* since some fixed moment; never goes back (CLOCK_MONOTONIC) */
uint64_t ebb_clock_unix_ns(void); /* since 1970 (CLOCK_REALTIME) */
uint64_t ebb_clock_cpu_ns(void);  /* CPU time of the whole process, user and system */

__END_DECLS

#endif
