/* scope -- one place to let go of many things.
 *
 * A connection opens a socket, timers, a log stream; any of them may fail halfway. The scope
 * remembers each as it opens and closes them newest first. Its list lives in the resource table
 * (table.c), under the table's lock.
 *
 * A scope has a finalizer from birth to close. It is not there to close things in time: when it
 * runs, somebody forgot, and it says so. The scope itself is OWNED, so the leak watch tells where
 * the forgotten scope was made.
 *
 * 1. A resource belongs to exactly one scope from open to close.
 * 2. Closing never fails and never allocates.
 * 3. A scope that is collected while open is a bug: what is in it is closed, counted and named. */
#include <ebb/scope.h>

#include <stdatomic.h>

#include <ebb/leak.h>
#include <ebb/mem.h>

#include "gc/finalizer.h"
#include "gc/types.h"
#include "table.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#define SITE_TEXT 256

static _Atomic uint64_t forgotten_count;

uint64_t ebb_resources_forgotten(void) {
    return atomic_load_explicit(&forgotten_count, memory_order_relaxed);
}

static void tell_forgotten(const struct ebb_scope *scope, const struct ebbi_resource *was) {
    struct ebb_site site = {.frame = {was->opened_at}, .type = &ebbi_type_scope};
    char where[SITE_TEXT] = "";
    ebb_site_describe(&site, 1, where, sizeof where);
    ebb_log_event(resource_forgotten, ebb_resource_class_name(was->kind), was->note, was->fd, where,
                  scope->name);
}

static void close_forgotten(void *object) {
    struct ebb_scope *scope = object;
    struct ebbi_resource was;
    for (enum ebbi_leave left; (left = ebbi_table_leave_newest(scope, &was)) != EBBI_NOTHING;) {
        if (left == EBBI_PINNED)
            continue;
        atomic_fetch_add_explicit(&forgotten_count, 1, memory_order_relaxed);
        ebb_count(ebbi_metric_resources_forgotten[was.kind], 1);
        ebbi_resource_close(&was);
        tell_forgotten(scope, &was);
    }
}

static struct ebb_scope *begin(struct ebb_scope *scope, const char *name) {
    scope->name = name;
    ebbi_finalizer_set(scope, close_forgotten);
    return scope;
}

__attribute__((noinline)) struct ebb_scope *ebb_scope_new(const char *name) {
    return begin(ebb_new_sized(&ebbi_type_scope, sizeof(struct ebb_scope)), name);
}

__attribute__((noinline)) struct ebb_scope *ebb_scope_try(const char *name) {
    struct ebb_scope *scope = ebb_try_sized(&ebbi_type_scope, sizeof *scope);
    return scope == NULL ? NULL : begin(scope, name);
}

void ebb_scope_close(struct ebb_scope *scope) {
    if (scope == NULL)
        return;
    struct ebbi_resource was;
    for (enum ebbi_leave left; (left = ebbi_table_leave_newest(scope, &was)) != EBBI_NOTHING;)
        if (left == EBBI_LEFT)
            ebbi_resource_close(&was);
    ebbi_finalizer_clear(scope);
    ebb_done(scope);
}
