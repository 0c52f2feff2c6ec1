/* collector -- starts bdwgc, says when it collects, and hears what it did.
 *
 * Collections are ours: the program tells how much it drops (ebb_dropped), and past a share of its
 * budget the thread that dropped collects. bdwgc's own trigger stays as the fallback, and the
 * out-of-memory hook as the last one.
 *
 * 1. The event procedure runs under the allocation lock, partly while the world is stopped: it
 * reads clocks and writes static memory, nothing else.
 * 2. A collection's cause is the thread-local word of the thread that runs it; the fallback is
 * `allocation`.
 * 3. A START without END (an aborted mark) leaves no record.
 * 4. Incremental mode is never switched on: its write protection makes read(2) into scanned memory
 * fail. */
#include "gc/finalizer.h"
#include "gc/object.h"
#include "gc/heap_record.h"
#include "gc/reserve.h"
#include "gc/start.h"
#include "telemetry/events.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include <ebb/assert.h>
#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_mark.h>

/* The library adds heap/divisor to what is asked for when the heap must grow, a quarter of up to 8
 * MiB say. What lies idle of that is mapped and counts, so it adds nothing, and the divisor of its
 * trigger is ours to apply (fallback_set). */
enum { GROWTH_NONE = INT32_MAX };

static struct ebb_profile profile;
static bool started;
static void (*_Atomic refusal)(void);
static Dl_info own_library;
static _Atomic(bool (*)(uint64_t)) make_room;
static _Atomic size_t charged_bytes, charge_step, reserved_bytes;
static _Atomic size_t dropped_bytes, dropped_limit = SIZE_MAX;
static _Atomic unsigned dropped_slack = 1;
static atomic_flag collecting = ATOMIC_FLAG_INIT;
static _Atomic(void (*)(void)) finalizers_wake;
static _Thread_local enum ebb_cause cause_now;
static _Thread_local bool inside_oom;

static const char *const cause_names[] = {
#define EBB_CAUSE(id, text) #id,
#include <ebb/tbl/causes.def>
};

const char *ebb_cause_name(enum ebb_cause cause) {
    return cause < EBB_CAUSES ? cause_names[cause] : "unknown";
}

const struct ebb_profile *ebb_collector_profile(void) {
    return &profile;
}

/* When the library collects by itself: after heap/divisor was allocated, where what it scans counts
 * twice, since that is what a collection costs. */
static void fallback_set(void) {
    uint64_t scanned = 0, bytes = 0;
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next)
        *(type->scan == EBB_POINTERS ? &scanned : &bytes) += ebb_type_bytes_held(type);
    uint64_t heap = 2 * scanned + bytes, least = profile.initial_heap_kib * 1024;
    GC_set_min_bytes_allocd((heap > least ? heap : least) / profile.free_space_divisor);
}

static void GC_CALLBACK on_event(GC_EventType event) {
    switch (event) {
    case GC_EVENT_START:
        ebbi_record_begin(cause_now,
                          atomic_exchange_explicit(&dropped_bytes, 0, memory_order_relaxed));
        break;
    case GC_EVENT_PRE_STOP_WORLD:
        ebbi_record_mark(RECORD_STOP);
        break;
    case GC_EVENT_MARK_START:
        ebbi_record_mark(RECORD_MARK_START);
        break;
    case GC_EVENT_MARK_END:
        ebbi_record_mark(RECORD_MARK_END);
        break;
    case GC_EVENT_POST_START_WORLD:
        ebbi_record_mark(RECORD_RESUME);
        break;
    case GC_EVENT_RECLAIM_START:
        ebbi_record_mark(RECORD_SWEEP_START);
        break;
    case GC_EVENT_RECLAIM_END:
        ebbi_record_mark(RECORD_SWEEP_END);
        break;
    case GC_EVENT_END:
        ebbi_lost_find();
        ebbi_record_end();
        fallback_set();
        break;
    default:
        break;
    }
}

#if GC_VERSION_MAJOR * 100 + GC_VERSION_MINOR >= 803
typedef const char warning_text;
#else
typedef char warning_text;
#endif

/* bdwgc's warnings ("Repeated allocation of very large block") are for its developers; ours at
 * level debug. */
static void GC_CALLBACK on_warning(warning_text *message, GC_word arg) {
    char text[256];
    snprintf(text, sizeof text, message, (unsigned long)arg);
    for (char *end = text; *end; end++)
        if (*end == '\n')
            *end = ' ';
    ebb_log_event(gc_says, text);
}

static void *GC_CALLBACK on_out_of_memory(size_t bytes) {
    (void)bytes;
    ebbi_reserve_refused();
    if (!inside_oom) {
        inside_oom = true;
        ebb_collect(EBB_CAUSE_memory);
        inside_oom = false;
    }
    return NULL; /* mem.c tries once more */
}

static void GC_CALLBACK on_finalizers(void) {
    void (*wake)(void) = atomic_load_explicit(&finalizers_wake, memory_order_acquire);
    if (wake)
        wake();
}

/* Their own data, megabytes of it, hold nothing of ours, and each collection would scan them. */
static bool is_sanitizer(const char *library) {
    return strstr(library, "/libasan.so") || strstr(library, "/libubsan.so");
}

/* The library remembers in a variable where its latest piece of heap ended, which is where an
 * earlier one begins: scanned, it would hold the object there for ever. What it needs of its own is
 * marked by itself once its roots were cleared. */
static int GC_CALLBACK has_roots(const char *library, void *start, size_t size) {
    (void)start, (void)size;
    return strcmp(library, own_library.dli_fname) != 0 && !is_sanitizer(library);
}

static void exclude_own_roots(void) {
    if (dladdr((void *)(uintptr_t)GC_init, &own_library))
        GC_register_has_static_roots_callback(has_roots);
}

static void before_init(void) {
    char number[32];
    ebbi_environment_take();
    ebbi_stop_signals_choose();
    snprintf(number, sizeof number, "%lu",
             (unsigned long)(ebbi_unmap_start() ? profile.unmap_threshold : 0));
    ebbi_environment_set("GC_UNMAP_THRESHOLD", number); /* there is no function for it */
    /* Else the collector looks after 10 ms, and then each 3 ms, whether signals got lost, and a
     * pause lasts until every thread has been scheduled once more. Linux loses none. */
    ebbi_environment_set("GC_RETRY_SIGNALS", "0");
    if (profile.markers > 0)
        GC_set_markers_count((unsigned)profile.markers);
    if (profile.find_leak) {
        ebbi_find_leak_start();
        GC_set_find_leak(1);
    }
    GC_set_warn_proc(on_warning);
    GC_set_no_dls(0);
    exclude_own_roots();
    GC_set_all_interior_pointers(1);
    GC_set_finalize_on_demand(1);
    GC_set_java_finalization(1);
    GC_set_handle_fork(1);
}

static uint64_t heap_size(void) {
    return GC_get_heap_size() + ebbi_unmapped_not();
}

static uint64_t heap_free(void) {
    return GC_get_free_bytes() + ebbi_unmapped_not();
}

static uint64_t heap_live(void) {
    uint64_t live = GC_get_heap_size() - GC_get_free_bytes(), dropped = ebb_dropped_now();
    return live > dropped ? live - dropped : 0;
}

static uint64_t heap_unmapped(void) {
    return GC_get_unmapped_bytes() - ebbi_unmapped_not();
}

static uint64_t heap_allocated(void) {
    return GC_get_total_bytes();
}

static void probes_start(void) {
    ebbi_metrics_add_library();
    ebbi_leak_metrics_start();
    ebb_metric_heap_size.read = heap_size;
    ebb_metric_heap_free.read = heap_free;
    ebb_metric_heap_live.read = heap_live;
    ebb_metric_heap_unmapped.read = heap_unmapped;
    ebb_metric_allocated_bytes.read = heap_allocated;
    void *counters;
    size_t size;
    ebbi_metric_memory(&counters, &size);
    GC_exclude_static_roots(counters, (char *)counters + size);
}

void ebbi_start_refusal_set(void (*fn)(void)) {
    atomic_store(&refusal, fn);
}

void ebbi_start_refuse(void) {
    void (*fn)(void) = atomic_load(&refusal);
    if (fn)
        fn();
}

void ebb_collector_start(const struct ebb_profile *chosen) {
    if (started)
        return;
    started = true;
    profile = *chosen;
    ebbi_thread_time_slice();
    before_init();
    GC_init();
    ebbi_environment_clear();
    ebbi_stop_signals_guard();
    if (profile.find_leak)
        ebbi_find_leak_survive_fork();
    ebbi_symbols_survive_fork();
    GC_clear_roots();
    GC_allow_register_threads();
    GC_set_oom_fn(on_out_of_memory);
    GC_set_finalizer_notifier(on_finalizers);
    GC_set_free_space_divisor(GROWTH_NONE);
    ebbi_sites_start();
    ebbi_records_start();
    probes_start();
    ebbi_objects_start();
    fallback_set();
    GC_set_on_collection_event(on_event);
    size_t initial = profile.initial_heap_kib * 1024;
    if (GC_get_heap_size() < initial)
        GC_expand_hp(initial - GC_get_heap_size());
    ebbi_reserve_start();
}

void ebb_collector_tell(void) {
    ebbi_environment_tell();
    ebbi_unmap_tell();
}

void ebb_budget_set(size_t bytes) {
    size_t limit = bytes / 1000 * profile.collect_dropped_per_mille;
    if (limit < profile.collect_dropped_kib_min * 1024)
        limit = profile.collect_dropped_kib_min * 1024;
    atomic_store_explicit(&dropped_limit, limit, memory_order_relaxed);
}

unsigned ebb_dropped_slack(void) {
    return atomic_load_explicit(&dropped_slack, memory_order_relaxed);
}

void ebb_dropped_slack_set(unsigned times) {
    ebb_assert(times > 0, "slack 0");
    atomic_store_explicit(&dropped_slack, times, memory_order_relaxed);
}

void ebb_collect(enum ebb_cause cause) {
    cause_now = cause;
    GC_gcollect();
    cause_now = EBB_CAUSE_allocation;
    ebb_stack_clear(); /* the marker's own stack lay there: it would hold a hundred objects */
}

static int GC_CALLBACK never(void) {
    return 0;
}

/* A collection with a stop function of ours first sweeps all garbage that earlier cycles found, so
 * two of them leave nothing that is known to be dead unreclaimed; the third takes what finalizers
 * of the second let go of. */
void ebb_collect_fully(enum ebb_cause cause) {
    ebb_second_opinion();
    for (int i = 0; i < 3; i++) {
        cause_now = cause;
        GC_try_to_collect(never);
        cause_now = EBB_CAUSE_allocation;
        ebb_finalizers_run();
    }
    cause_now = cause;
    GC_gcollect_and_unmap();
    cause_now = EBB_CAUSE_allocation;
    ebb_stack_clear();
    ebb_free_blocks_bound(0);
}

void ebb_charge_room(bool (*fn)(uint64_t), size_t step) {
    atomic_store_explicit(&charge_step, step, memory_order_relaxed);
    atomic_store_explicit(&make_room, fn, memory_order_release);
}

bool ebb_charge(size_t bytes) {
    bool (*fn)(uint64_t) = atomic_load_explicit(&make_room, memory_order_acquire);
    if (fn == NULL)
        return true;
    size_t step = atomic_load_explicit(&charge_step, memory_order_relaxed);
    size_t sum = atomic_fetch_add_explicit(&charged_bytes, bytes, memory_order_relaxed) + bytes;
    if (sum < step)
        return true;
    /* Until there is an answer, everybody else who takes asks too. */
    bool fits = fn(sum + atomic_load_explicit(&reserved_bytes, memory_order_relaxed));
    atomic_store_explicit(&charged_bytes, fits ? 0 : step, memory_order_relaxed);
    return fits;
}

bool ebb_reserve(size_t bytes) {
    bool (*fn)(uint64_t) = atomic_load_explicit(&make_room, memory_order_acquire);
    size_t sum = atomic_fetch_add_explicit(&reserved_bytes, bytes, memory_order_relaxed) + bytes;
    if (fn == NULL || fn(sum))
        return true;
    ebb_unreserve(bytes);
    return false;
}

void ebb_unreserve(size_t bytes) {
    atomic_fetch_sub_explicit(&reserved_bytes, bytes, memory_order_relaxed);
}

bool ebb_dropped(size_t bytes) {
    ebb_count(&ebb_metric_dropped_bytes, bytes);
    size_t sum = atomic_fetch_add_explicit(&dropped_bytes, bytes, memory_order_relaxed) + bytes;
    if (sum / atomic_load_explicit(&dropped_slack, memory_order_relaxed) <
        atomic_load_explicit(&dropped_limit, memory_order_relaxed))
        return false;
    if (atomic_flag_test_and_set_explicit(&collecting, memory_order_acquire))
        return false;
    ebb_collect(EBB_CAUSE_dropped);
    atomic_flag_clear_explicit(&collecting, memory_order_release);
    return true;
}

size_t ebb_dropped_now(void) {
    return atomic_load_explicit(&dropped_bytes, memory_order_relaxed);
}

static void *GC_CALLBACK judge_locked(void *header) {
    ebbi_object_judge(header);
    return NULL;
}

/* What comes to its finalizer is lost, and only we hold it now: found here, a collection earlier
 * than by its marks. */
static void GC_CALLBACK finalize(void *base, void *fn) {
    void (*call)(void *) = (void (*)(void *))fn;
    call((char *)base + sizeof(struct object_header));
    GC_call_with_alloc_lock(judge_locked, base);
}

void ebbi_finalizer_set(void *object, void (*fn)(void *)) {
    struct object_header *header = ebbi_object_header(object);
    ebb_assert(header != NULL, "%p is no object of ours", object);
    GC_register_finalizer_no_order(header, finalize, (void *)fn, NULL, NULL);
}

void ebbi_finalizer_clear(void *object) {
    struct object_header *header = ebbi_object_header(object);
    ebb_assert(header != NULL, "%p is no object of ours", object);
    GC_register_finalizer_no_order(header, NULL, NULL, NULL, NULL);
}

int ebb_finalizers_run(void) {
    int ran = GC_invoke_finalizers();
    if (ran > 0)
        ebb_count(&ebb_metric_finalizers_run, (uint64_t)ran);
    return ran;
}

void ebb_finalizers_notify(void (*wake)(void)) {
    atomic_store_explicit(&finalizers_wake, wake, memory_order_release);
}
