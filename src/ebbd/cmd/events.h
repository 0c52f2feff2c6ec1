/* events -- the daemon's own rows, ../tbl/events.def: ebb_log_event(connected, ...). */
#ifndef EBBD_CMD_EVENTS_H
#define EBBD_CMD_EVENTS_H

#include <ebb/log.h>

#define EBB_EVENT EBB_EVENT_DECLARE
#include "tbl/events.def"

extern const struct ebb_event *const events_rows[];
extern const size_t events_rows_count;

#endif
