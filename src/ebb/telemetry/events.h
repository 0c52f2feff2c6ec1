/* events -- the library's own rows (tbl/events.def), for its other rooms: ebb_log_event(leak_found,
 * ...). */
#ifndef EBBI_TELL_EVENTS_H
#define EBBI_TELL_EVENTS_H

#include <ebb/log.h>

#define EBB_EVENT EBB_EVENT_DECLARE
#include "../tbl/events.def"

/* Makes the library's rows known. When: start; again does nothing. */
void ebbi_events_add_library(void);

#endif
