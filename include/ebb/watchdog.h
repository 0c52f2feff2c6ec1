/* watchdog -- a thread that looks whether every loop gets on. */
#ifndef EBB_WATCHDOG_H
#define EBB_WATCHDOG_H

#include <ebb/err.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_watchdog; /* OWNED; ebb_watchdog_stop */

/* A loop that is in one and the same iteration for longer than stall_ms is told in the log with the
 * stack of its thread, and counted (ebb_loops_stalled, ebb_loop_stalls_total). Takes SIGVTALRM
 * for that. */
enum ebb_err ebb_watchdog_start(struct ebb_watchdog **watchdog, uint64_t stall_ms) EBB_MUST_CHECK;
/* NULL is fine. */
void ebb_watchdog_stop(struct ebb_watchdog *watchdog);

__END_DECLS

#endif
