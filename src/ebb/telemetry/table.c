/* table -- the library's own metrics, one row each in tbl/metrics.def. */
#include "events.h"
#include "metrics.h"

#include <ebb/clock.h>

#define EBB_METRIC EBB_METRIC_DEFINE
#include "../tbl/metrics.def"

static struct ebb_metric *const library[] = {
#define EBB_METRIC EBB_METRIC_ADDRESS
#include "../tbl/metrics.def"
};

struct ebb_metric *const ebbi_metric_collections[] = {
#define EBB_CAUSE(id, text) &ebb_metric_collections_##id,
#include <ebb/tbl/causes.def>
};

struct ebb_metric *const ebbi_metric_resources_open[] = {
#define EBB_RESOURCE(id, name, ...) &ebb_metric_resources_open_##id,
#include <ebb/tbl/resources.def>
};

struct ebb_metric *const ebbi_metric_resources_opened[] = {
#define EBB_RESOURCE(id, name, ...) &ebb_metric_resources_opened_##id,
#include <ebb/tbl/resources.def>
};

struct ebb_metric *const ebbi_metric_resources_closed[] = {
#define EBB_RESOURCE(id, name, ...) &ebb_metric_resources_closed_##id,
#include <ebb/tbl/resources.def>
};

struct ebb_metric *const ebbi_metric_resources_forgotten[] = {
#define EBB_RESOURCE(id, name, ...) &ebb_metric_resources_forgotten_##id,
#include <ebb/tbl/resources.def>
};

#define EBB_EVENT EBB_EVENT_DEFINE
#include "../tbl/events.def"

static const struct ebb_event *const library_events[] = {
#define EBB_EVENT EBB_EVENT_ADDRESS
#include "../tbl/events.def"
};

void ebbi_events_add_library(void) {
    ebb_events_add(library_events, sizeof(library_events) / sizeof(library_events[0]));
}

void ebbi_metrics_add_library(void) {
    ebb_metric_process_cpu.read = ebb_clock_cpu_ns;
    ebb_metric_process_resident.read = ebbi_process_resident;
    ebb_metric_process_open_fds.read = ebbi_process_open_fds;
    ebb_metric_process_start_time.read = ebbi_process_start_time_ns;
    ebb_metrics_add(library, sizeof(library) / sizeof(library[0]));
}
