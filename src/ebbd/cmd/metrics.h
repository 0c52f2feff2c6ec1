/* metrics -- the daemon's own rows, ../tbl/metrics.def: ebb_metric_get_hits and so on. */
#ifndef EBBD_CMD_METRICS_H
#define EBBD_CMD_METRICS_H

#include "cmd/exptime.h"
#include "store/store.h"

#include <ebb/metric.h>

#define EBB_METRIC EBB_METRIC_DECLARE
#include "tbl/metrics.def"

extern struct ebb_metric *const metrics_rows[];
extern const size_t metrics_rows_count;

/* One worker's own rows. */
struct metrics_worker {
#define EBB_WORKER_METRIC(id, ...) struct ebb_metric *id;
#include "tbl/metrics.def"
};
/* Gives worker index its rows. When: start, before the threads. */
void metrics_worker_add(struct metrics_worker *worker, int index);

/* From now on the probes answer for this store (NULL: zeros), whose clock this is. */
void metrics_store_set(struct store *store, const struct exptime_clock *clock);

#endif
