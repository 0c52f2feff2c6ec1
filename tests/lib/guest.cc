// guest -- a daemon in C++ on an installed libebb: its tables, an object that it loses among others that it keeps, and an
// end of its own. Status 0: the loss was counted, at the right type, and nothing else.
#include <cstdio>
#include <ebb/ebb.h>
#include <ebb/leak.h>

struct guest {
    struct guest *next;
};

#define GUEST_TYPES(ROW) ROW(guest, EBB_POINTERS, EBB_OWNED, "a guest")
#define GUEST_METRICS(ROW) ROW(guests, EBB_COUNTER, "guests_total", "", EBB_UNIT_NONE, "Guests that came.")
#define GUEST_EVENTS(ROW) ROW(came, INFO, "guest", "%d guests came", "guests", "Nothing to do.")
extern "C" {
GUEST_TYPES(EBB_TYPE_DECLARE)
GUEST_TYPES(EBB_TYPE_DEFINE)
GUEST_METRICS(EBB_METRIC_DECLARE)
GUEST_METRICS(EBB_METRIC_DEFINE)
GUEST_EVENTS(EBB_EVENT_DECLARE)
GUEST_EVENTS(EBB_EVENT_DEFINE)
}

static struct ebb_type *const types[] = {GUEST_TYPES(EBB_TYPE_ADDRESS)};
static struct ebb_metric *const metrics[] = {GUEST_METRICS(EBB_METRIC_ADDRESS)};
static const struct ebb_event *const events[] = {GUEST_EVENTS(EBB_EVENT_ADDRESS)};
static const int guests = 2000, step = 100, lost = guests / step, held = 2; // held: by a stale word on the stack
static struct guest *volatile kept[guests];

static void __attribute__((noinline)) invite() {
    for (int i = 0; i < guests; i++) {
        struct guest *came = ebb_new(guest);
        kept[i] = i % step == step / 2 ? nullptr : came;
        ebb_count(&ebb_metric_guests, 1);
    }
    ebb_log_event(came, guests);
}

static enum ebb_err start(struct ebb_daemon *, struct ebb_loop *, void *) {
    invite();
    ebb_stack_clear();
    return EBB_OK;
}

static void ready(struct ebb_daemon *daemon, void *) {
    ebb_daemon_stop(daemon);
}

static void stop(struct ebb_daemon *, void *) {
    ebb_collect(EBB_CAUSE_demand);
    for (auto &one : kept)
        ebb_done(one);
}

int main() {
    struct ebb_daemon_plan plan = {};
    plan.name = "guest";
    plan.version = "1";
    plan.gc_profile = "deploy";
    plan.budget = 1 << 20;
    plan.types = types;
    plan.types_count = 1;
    plan.metrics = metrics;
    plan.metrics_count = 1;
    plan.events = events;
    plan.events_count = 1;
    plan.start = start;
    plan.ready = ready;
    plan.stop = stop;
    int status = ebb_daemon_run(&plan);
    long leaked = static_cast<long>(ebb_type_guest.leaked);
    std::printf("guest: status %d, %ld of %d lost ones counted\n", status, leaked, lost);
    return status != 0 || leaked > lost || leaked < lost - held || ebb_leaks_count() != ebb_type_guest.leaked;
}
