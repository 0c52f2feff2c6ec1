/* metrics -- the library's own rows (tbl/metrics.def), for its other rooms: ebb_metric_gc_pause and
 * so on. */
#ifndef EBBI_TELL_METRICS_H
#define EBBI_TELL_METRICS_H

#include <ebb/log.h>
#include <ebb/metric.h>

#define EBB_METRIC EBB_METRIC_DECLARE
#include "../tbl/metrics.def"

/* Makes the library's rows known. When: start; again does nothing. */
void ebbi_metrics_add_library(void);

/* Rows by enum ebb_cause and by enum ebb_resource_class. */
extern struct ebb_metric *const ebbi_metric_collections[];
extern struct ebb_metric *const ebbi_metric_resources_open[]; /* gauges */
extern struct ebb_metric *const ebbi_metric_resources_opened[];
extern struct ebb_metric *const ebbi_metric_resources_closed[];
extern struct ebb_metric *const ebbi_metric_resources_forgotten[];

/* The static room of all counters: numbers only, so the collector need not scan it. */
void ebbi_metric_memory(void **at, size_t *size);

/* Upper bounds of the histogram buckets in nanoseconds, without +Inf. */
#define EBBI_HISTOGRAM_BOUNDS 22
extern const uint64_t ebbi_histogram_bound_ns[EBBI_HISTOGRAM_BOUNDS];
/* Counts of each bucket (not cumulative), +Inf last. */
void ebbi_histogram_read(const struct ebb_metric *metric,
                         uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1]);

/* The row added as the index-th, NULL past the last. */
struct ebb_metric *ebbi_metric_at(size_t index);
/* Sets the probes that come out of one reading; then ebbi_metric_value gives any row's value as of
 * that. */
void ebbi_metrics_refresh(void);
uint64_t ebbi_metric_value(const struct ebb_metric *metric);

/* process.c: what /proc says of this process, for the probes. */
uint64_t ebbi_process_resident(void);
uint64_t ebbi_process_data(void); /* what RLIMIT_DATA counts, and the stack */
uint64_t ebbi_process_open_fds(void);
uint64_t ebbi_process_start_time_ns(void);
/* The name of one of our threads; "" when it has ended. */
void ebbi_thread_name(int thread, char *name, size_t size);

#endif
