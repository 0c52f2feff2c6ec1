/* alarms -- the library's alarms, fed and shown; for daemon.c. */
#ifndef EBBI_DAEMON_ALARMS_H
#define EBBI_DAEMON_ALARMS_H

#include <ebb/daemon.h>

/* Adds the library's and the plan's rows, with the plan's changes. Fails: EBB_ERR_USAGE. */
enum ebb_err ebbi_alarms_start(const struct ebb_daemon_plan *plan) EBB_MUST_CHECK;
/* Each second. */
void ebbi_alarms_tick(void);
/* From now on /readyz says so, or why not. */
void ebbi_alarms_ready(bool ready);
/* Adds /healthz, /readyz and /debug/alarms. */
void ebbi_alarms_add_pages(void);
/* `,"alarms":[...]` for /debug/status. */
void ebbi_alarms_write_status(struct ebb_writer *body);

#endif
