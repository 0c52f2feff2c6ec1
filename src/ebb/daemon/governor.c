/* governor -- how large the cache may be, as the system requires.
 *
 * A cache is memory that somebody else may need more. Three voices say how large it may be, and the
 * lowest holds:
 *   asked        the settings, or an operator at run time
 *   by_pressure  falls by a tenth of what is used whenever the system says that memory is short,
 *                rises again in small steps when it has been quiet for a while
 *   by_bound     what keeps the whole process, whatever else grows in it, in its bound
 *
 * The bound is kept by looking ahead. Ten times a second: what is resident now, and what the cache
 * may still grow by, must fit, so the target falls before the memory is taken, not after. And where
 * memory is taken in quantity (segments, connections and their buffers: ebb_charge), by who takes
 * it, before it is written to: taken memory becomes resident only then. A smaller target costs full
 * collections, so between the margin and what is tight nothing moves. A bound that follows a cgroup
 * is read anew each second: above memory.high the kernel puts to sleep whoever takes memory, and a
 * collection waits for sleepers.
 *
 * Memory that was dropped goes back to the system by itself once the daemon is quiet: bdwgc keeps
 * free blocks for some collections, and where there is no traffic there are none.
 *
 * 1. Everything runs on the main loop, but for who makes room; the mutex is for him.
 * 2. Collections of the governor's own stay in the share of processor time that they may have, but
 * for those that keep the bound; the threshold of dropped bytes rises when the others do not. */
#include "governor.h"

#include "telemetry/events.h"
#include "telemetry/metrics.h"

#include <ebb/clock.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB                UINT64_C(1048576)
#define STEP_INTERVAL_NS   EBB_NS_PER_SECOND
#define QUIET_NS           (10 * EBB_NS_PER_SECOND)
#define STEP_DOWN          10 /* a tenth of what is used */
#define STEP_UP            20 /* a twentieth of what was asked for */
#define FLOOR_SHARE        8  /* pressure leaves an eighth of what was asked for */
#define BOUND_MS           100
#define BOUND_MARGIN       20  /* a twentieth of the bound stays free; */
#define BOUND_TIGHT        32  /* when less than a 32nd is, room is made, */
#define BOUND_STEPS        256 /* looks at the bound whenever so small a share of it was taken */
#define BOUND_STEP         12  /* so that a twelfth is free; */
#define BOUND_LAST         64  /* in the last 64th nothing is taken that can be refused */
#define BOUND_REFUSALS_MAX 3
#define BOUND_LEAST        (24 * MIB)
#define AUTO_PERCENT       90
#define WARN_PERCENT       80
#define SHARE_NS           (5 * EBB_NS_PER_SECOND)
#define SLACK_MAX          16
#define BACK_LEAST         (4 * MIB)
#define BACK_AGAIN_NS      (30 * EBB_NS_PER_SECOND)
#define GC_PERCENT_DEFAULT 10

/* The thread that governs just now: what it takes itself meanwhile asks for no room. */
static _Thread_local bool governs;

static void enter(struct ebbi_governor *self) {
    pthread_mutex_lock(&self->mutex);
    governs = true;
}

static void leave(struct ebbi_governor *self) {
    governs = false;
    pthread_mutex_unlock(&self->mutex);
}

static uint64_t mib(uint64_t bytes) {
    return bytes / MIB;
}

/* --- what there is --- */

static const char *root_of(const struct ebb_daemon_plan *plan) {
    return plan->system_root ? plan->system_root : "";
}

static enum ebb_err refuse_bound(const char *text, const char *why) {
    return ebb_err_set(EBB_ERR_USAGE,
                       "--memory-max: \"%s\" %s; allowed: bytes (or with k, m, g), a share of the "
                       "memory there is such as 80%%, or auto",
                       text, why);
}

static uint64_t unit_of(const char *unit) {
    static const char letters[] = "kmg";
    const char *at = unit[0] == '\0' ? NULL : strchr(letters, unit[0] | 0x20);
    if (at == NULL || unit[1] != '\0')
        return unit[0] == '\0';
    return UINT64_C(1024) << 10 * (at - letters);
}

static uint64_t bound_of_group(const struct ebb_memory_limits *limits) {
    return ebb_memory_limit_of_group(limits) / 100 * AUTO_PERCENT;
}

static enum ebb_err read_bound(struct ebbi_governor *self, const char *text) {
    uint64_t limit = ebb_memory_limit(&self->limits);
    self->follows_group = text == NULL || strcmp(text, "auto") == 0;
    if (self->follows_group) {
        self->bound = bound_of_group(&self->limits);
        if (text == NULL && self->bound < BOUND_LEAST) /* nobody asked for one */
            self->bound = 0;
        return EBB_OK;
    }
    char *rest;
    errno = 0;
    uint64_t number = strtoull(text, &rest, 10), unit = unit_of(rest);
    if (text[0] < '0' || text[0] > '9' || (unit == 0 && strcmp(rest, "%") != 0))
        return refuse_bound(text, "is no size");
    if (strcmp(rest, "%") == 0) {
        if (number < 1 || number > 100 || limit == 0)
            return refuse_bound(text, limit ? "is no share" : "needs a limit that is known");
        self->bound = limit / 100 * number;
    } else {
        if (number == 0 || errno != 0 || number > UINT64_MAX / unit)
            return refuse_bound(text, "is out of bounds");
        self->bound = number * unit;
    }
    return EBB_OK;
}

enum ebb_err ebbi_governor_check(struct ebbi_governor *self, const struct ebb_daemon_plan *plan) {
    const char *name = plan->budget_name ? plan->budget_name : "the memory limit";
    self->plan = plan;
    self->gc_percent = plan->gc_cpu_percent ? plan->gc_cpu_percent : GC_PERCENT_DEFAULT;
    ebb_memory_limits_read(&self->limits, root_of(plan));
    enum ebb_err error = read_bound(self, plan->memory_max);
    if (error)
        return error;
    uint64_t limit = ebb_memory_limit(&self->limits);
    if (self->bound && self->bound < BOUND_LEAST)
        return ebb_err_set(EBB_ERR_USAGE, "--memory-max: %llu MiB are too few; at least %llu MiB",
                           (unsigned long long)mib(self->bound),
                           (unsigned long long)mib(BOUND_LEAST));
    if (plan->memory_max && self->bound == 0)
        ebb_log_event(bound_none);
    if (self->bound && limit && self->bound > limit)
        ebb_log_event(bound_beyond, mib(self->bound), mib(limit));
    if (limit == 0 || plan->memory_max)
        return EBB_OK;
    if (plan->budget > limit)
        return ebb_err_set(EBB_ERR_USAGE,
                           "%s: %llu MiB do not fit into the %llu MiB that %s%s allows; lower it, "
                           "raise that limit, or give --memory-max auto",
                           name, (unsigned long long)mib(plan->budget),
                           (unsigned long long)mib(limit),
                           limit == self->limits.machine ? "this machine" : "the cgroup ",
                           limit == self->limits.machine ? "" : self->limits.folder);
    if (plan->budget > limit / 100 * WARN_PERCENT)
        ebb_log_event(budget_large, name, mib(plan->budget), WARN_PERCENT, mib(limit));
    return EBB_OK;
}

size_t ebbi_governor_budget(const struct ebbi_governor *self) {
    return self->bound && self->bound < self->plan->budget ? self->bound : self->plan->budget;
}

/* --- the target --- */

static size_t least(size_t one, size_t other) {
    return one < other ? one : other;
}

/* Takes over what an operator set meanwhile; returns what the cache uses. */
static size_t look(struct ebbi_governor *self) {
    size_t target = 0, used = 0;
    self->plan->memory_read(self->daemon, &target, &used, self->plan->arg);
    if (target != self->target) {
        self->asked = self->target = target;
        self->slack = 1; /* it suited collections under another limit */
        ebb_dropped_slack_set(self->slack);
        ebb_gauge_set(&ebb_metric_memory_target, (int64_t)target);
    }
    return used;
}

static void set_target(struct ebbi_governor *self) {
    size_t target = least(self->asked, least(self->by_pressure, self->by_bound));
    if (target == self->target)
        return;
    if (self->plan->memory_set(self->daemon, target, self->plan->arg))
        self->target = target;
    else
        ebb_log_event(target_refused, mib(target), mib(self->target));
    ebb_gauge_set(&ebb_metric_memory_target, (int64_t)self->target);
}

static bool may_collect(const struct ebbi_governor *self) {
    uint64_t gc = ebb_metric_value(&ebb_metric_gc_cpu) - self->gc_ns;
    uint64_t cpu = ebb_clock_cpu_ns() - self->cpu_ns;
    /* In the first moments of an interval there is little to take a share of. */
    return cpu < EBB_NS_PER_SECOND / 2 || gc * 100 <= cpu * self->gc_percent;
}

static uint64_t returned_since(uint64_t before) {
    uint64_t after = ebbi_process_resident();
    uint64_t returned = before > after ? before - after : 0;
    ebb_count(&ebb_metric_memory_returned, returned);
    return returned;
}

/* One step down. what: who said that memory is short. */
static void press(struct ebbi_governor *self, const char *what, uint64_t now_ns) {
    self->pressed_ns = now_ns;
    if (self->stepped_ns != 0 && now_ns - self->stepped_ns < STEP_INTERVAL_NS)
        return;
    uint64_t before = ebbi_process_resident();
    size_t was = self->target, used = look(self), floor = self->asked / FLOOR_SHARE;
    size_t step = least(self->by_pressure, least(used, self->target));
    step -= step / STEP_DOWN;
    self->by_pressure = step > floor ? step : floor;
    ebb_count(&ebb_metric_pressure_steps, 1);
    set_target(self);
    if (self->target >= was && may_collect(self))
        ebb_collect_fully(EBB_CAUSE_pressure);
    self->stepped_ns = ebb_clock_ns();
    ebb_log_event(memory_short, what, mib(was), mib(self->target), returned_since(before) / 1024,
                  mib(ebbi_process_resident()));
}

static void relax(struct ebbi_governor *self, uint64_t now_ns) {
    if (self->by_pressure == SIZE_MAX || now_ns - self->pressed_ns < QUIET_NS)
        return;
    self->by_pressure += self->asked / STEP_UP;
    if (self->by_pressure >= self->asked) {
        self->by_pressure = SIZE_MAX;
        ebb_log_event(memory_quiet, mib(self->asked));
    }
    set_target(self);
}

/* --- the bound --- */

/* What will be resident when all that was taken has been written to, `bytes` of it not yet. */
static uint64_t resident_soon(const struct ebbi_governor *self, uint64_t bytes) {
    uint64_t resident = ebbi_process_resident() + bytes;
    uint64_t taken = self->beside + ebb_metric_value(&ebb_metric_heap_size) -
                     ebb_metric_value(&ebb_metric_heap_free);
    return resident > taken ? resident : taken;
}

static uint64_t bound_but(const struct ebbi_governor *self, unsigned share) {
    return self->bound - self->bound / share;
}

static size_t bound_floor(const struct ebbi_governor *self) {
    return least(self->asked, self->bound) / FLOOR_SHARE;
}

static void shrink_by(struct ebbi_governor *self, uint64_t over, size_t from) {
    size_t floor = bound_floor(self);
    self->by_bound = from > over + floor ? from - over : floor;
    set_target(self);
}

static bool tight(const struct ebbi_governor *self, uint64_t expected) {
    return expected > bound_but(self, BOUND_TIGHT);
}

/* Collecting has not helped a moment ago, and there is hardly more to collect since. The moment
 * doubles for as long as it frees nothing. */
static bool in_vain(const struct ebbi_governor *self, size_t used) {
    return least(used, self->target) <= bound_floor(self) &&
           ebb_clock_ns() - self->refused_ns < (BOUND_MS * EBB_NS_PER_MS) << self->refusals &&
           ebbi_process_resident() < self->refused_at + self->bound / BOUND_STEPS;
}

/* First what is garbage goes, then as much of the cache as is still too much. */
static bool make_room(struct ebbi_governor *self, uint64_t bytes) {
    if (!tight(self, resident_soon(self, bytes))) /* somebody else has made it */
        return true;
    size_t used = look(self);
    if (in_vain(self, used))
        return false;
    uint64_t before = ebbi_process_resident(), expected;
    ebb_collect_fully(EBB_CAUSE_pressure);
    if (tight(self, expected = resident_soon(self, bytes)))
        shrink_by(self, expected - bound_but(self, BOUND_STEP), least(used, self->target));
    bool freed = returned_since(before) > self->bound / BOUND_STEPS;
    self->refusals = freed ? 0 : self->refusals + (self->refusals < BOUND_REFUSALS_MAX);
    if (resident_soon(self, bytes) <= bound_but(self, BOUND_LAST))
        return true;
    self->refused_at = ebbi_process_resident();
    self->refused_ns = ebb_clock_ns();
    ebb_log_event(bound_full, bytes / 1024, mib(self->bound), mib(self->target));
    return false;
}

static struct ebbi_governor *keeper;

static bool on_taken(uint64_t bytes) {
    struct ebbi_governor *self = keeper;
    if (governs || !tight(self, resident_soon(self, bytes)))
        return true;
    enter(self);
    bool made = make_room(self, bytes);
    leave(self);
    if (!made)
        ebb_count(&ebb_metric_memory_refused, 1);
    return made;
}

/* What was taken little by little, and what the cache may still grow by. */
static void keep_bound(struct ebbi_governor *self) {
    if (ebbi_process_resident() > self->bound)
        make_room(self, 0);
    size_t used = look(self);
    uint64_t to_come = self->target > used ? self->target - used : 0;
    uint64_t expected = resident_soon(self, to_come), allowed = bound_but(self, BOUND_MARGIN);
    if (expected < self->target + self->beside)
        expected = self->target + self->beside;
    if (tight(self, expected)) {
        shrink_by(self, expected - allowed, self->target);
    } else if (self->by_bound < self->asked && expected + self->bound / BOUND_MARGIN < allowed) {
        self->by_bound = self->target + (allowed - expected) / 2;
        set_target(self);
    }
}

static void on_bound_timer(void *arg) {
    struct ebbi_governor *self = arg;
    enter(self);
    keep_bound(self);
    leave(self);
}

static void set_bound(struct ebbi_governor *self, uint64_t bound) {
    self->bound = bound;
    ebb_gauge_set(&ebb_metric_memory_bound, (int64_t)bound);
    if (bound == 0) {
        ebb_charge_room(NULL, 0);
        ebb_timer_close(self->timer);
        self->timer = NULL;
        self->by_bound = SIZE_MAX;
        set_target(self);
        return;
    }
    if (self->timer == NULL)
        self->timer = ebb_timer_open(self->loop, BOUND_MS, true, on_bound_timer, self);
    ebb_charge_room(on_taken, bound / BOUND_STEPS);
    keep_bound(self);
}

/* The cgroup's limits may be changed while we run. */
static void follow_group(struct ebbi_governor *self) {
    ebb_memory_limits_read(&self->limits, root_of(self->plan));
    uint64_t bound = bound_of_group(&self->limits);
    if (bound > 0 && bound < BOUND_LEAST)
        bound = BOUND_LEAST;
    if (bound == self->bound)
        return;
    ebb_log_event(bound_moved, self->limits.folder, mib(ebb_memory_limit_of_group(&self->limits)),
                  mib(bound));
    set_bound(self, bound);
}

/* --- the share of collections --- */

static void keep_share(struct ebbi_governor *self, uint64_t now_ns) {
    if (now_ns - self->share_ns < SHARE_NS)
        return;
    uint64_t gc = ebb_metric_value(&ebb_metric_gc_cpu), cpu = ebb_clock_cpu_ns();
    uint64_t gc_spent = gc - self->gc_ns, cpu_spent = cpu - self->cpu_ns;
    bool busy = cpu_spent > EBB_NS_PER_SECOND / 2;
    if (busy && gc_spent * 100 > cpu_spent * self->gc_percent && self->slack < SLACK_MAX) {
        self->slack *= 2;
        ebb_log_event(collections_seldom, gc_spent * 100 / cpu_spent, self->gc_percent,
                      self->slack);
        ebb_dropped_slack_set(self->slack);
    } else if (self->slack > 1 && gc_spent * 400 < cpu_spent * self->gc_percent) {
        self->slack /= 2;
        ebb_dropped_slack_set(self->slack);
    }
    self->gc_ns = gc;
    self->cpu_ns = cpu;
    self->share_ns = now_ns;
}

/* --- giving back --- */

/* Free and dropped bytes of the heap that are worth giving back go back once little is allocated.
 * What could not be given back (kept) is not tried again before there is more of it, or much later.
 */
static void give_back(struct ebbi_governor *self, uint64_t now_ns) {
    struct ebb_heap_record heap;
    ebb_heap_now(&heap);
    uint64_t idle_bytes = heap.free + ebb_dropped_now();
    uint64_t allocated = ebb_metric_value(&ebb_metric_allocated_bytes);
    uint64_t fresh = allocated - self->allocated, least_bytes = self->target / 32;
    self->allocated = allocated;
    if (least_bytes < BACK_LEAST)
        least_bytes = BACK_LEAST;
    bool again = now_ns - self->back_ns > BACK_AGAIN_NS;
    if (fresh > least_bytes / 4 || idle_bytes < least_bytes + (again ? 0 : self->kept) ||
        !may_collect(self))
        return;
    uint64_t before = heap.rss;
    ebb_collect_fully(EBB_CAUSE_idle);
    uint64_t returned = returned_since(before);
    ebb_heap_now(&heap);
    self->kept = heap.free;
    self->back_ns = now_ns;
    if (returned >= MIB)
        ebb_log_event(idle_returned, mib(returned), mib(heap.rss));
}

/* --- from start to end --- */

static void on_pressure(int events, void *arg) {
    (void)events;
    struct ebbi_governor *self = arg;
    enter(self);
    if (ebb_pressure_take(&self->pressure, true))
        press(self, self->pressure.what, ebb_clock_ns());
    if (self->pressure.ended) {
        ebb_watch_close(self->watch);
        self->watch = NULL;
    }
    leave(self);
}

enum ebb_err ebbi_governor_open(struct ebbi_governor *self, struct ebb_daemon *daemon,
                                struct ebb_loop *loop, struct ebb_scope *scope) {
    const struct ebb_daemon_plan *plan = self->plan;
    pthread_mutex_init(&self->mutex, NULL);
    self->daemon = daemon;
    self->asked = self->target = ebbi_governor_budget(self);
    self->by_pressure = self->by_bound = SIZE_MAX;
    self->slack = 1;
    self->events = ebb_memory_events(&self->limits);
    self->share_ns = ebb_clock_ns();
    self->allocated = ebb_metric_value(&ebb_metric_allocated_bytes);
    ebb_gauge_set(&ebb_metric_memory_target, (int64_t)self->target);
    if (plan->memory_set == NULL || plan->memory_read == NULL)
        return EBB_OK;
    enum ebb_err error = ebb_pressure_open(&self->pressure, scope, &self->limits, root_of(plan));
    if (error)
        return error;
    if (self->pressure.ready.generation != 0)
        error =
            ebb_watch_open(&self->watch, loop, self->pressure.ready, EBB_READ, on_pressure, self);
    if (error)
        return error;
    uint64_t heap = ebb_metric_value(&ebb_metric_heap_size), all = ebbi_process_resident();
    self->beside = all > heap ? all - heap : 0;
    self->loop = loop;
    keeper = self;
    if (self->bound) {
        enter(self);
        set_bound(self, self->bound);
        leave(self);
    }
    return EBB_OK;
}

void ebbi_governor_tick(struct ebbi_governor *self, uint64_t now_ns) {
    enter(self);
    keep_share(self, now_ns);
    if (self->plan->memory_set && self->plan->memory_read) {
        if (self->follows_group)
            follow_group(self);
        uint64_t events = ebb_memory_events(&self->limits);
        look(self);
        if (events > self->events)
            press(self, self->limits.folder, now_ns);
        else if (self->pressure.ready.generation == 0 && ebb_pressure_take(&self->pressure, false))
            press(self, self->pressure.what, now_ns);
        else
            relax(self, now_ns);
        self->events = events;
    }
    give_back(self, now_ns);
    leave(self);
}

void ebbi_governor_close(struct ebbi_governor *self) {
    ebb_charge_room(NULL, 0);
    ebb_timer_close(self->timer);
    ebb_watch_close(self->watch);
    self->timer = NULL;
    self->watch = NULL;
}
