/* events -- what the daemon may have to say, one row each in ../tbl/events.def. */
#include "events.h"

#define EBB_EVENT EBB_EVENT_DEFINE
#include "tbl/events.def"

const struct ebb_event *const events_rows[] = {
#define EBB_EVENT EBB_EVENT_ADDRESS
#include "tbl/events.def"
};
const size_t events_rows_count = sizeof(events_rows) / sizeof(events_rows[0]);
