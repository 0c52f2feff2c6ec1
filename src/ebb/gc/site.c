/* site -- call sites: where OWNED objects come from, and the leaks found there.
 *
 * The stack is walked by frame pointers (some 30 ns for 8 frames) or, for full stacks, by the
 * unwinder; the frames are hashed into a table, and the object's header keeps the table's index.
 * The table is not scanned, and mapped at the start: a program that holds it could not be loaded
 * where data is bounded (ulimit -d), and would not say so.
 *
 * 1. A site is written once (used: 0 free -> 1 being filled -> 2 filled) and never removed; only
 * its counters move.
 * 2. When the table is full, further sites share entry 0, so a count is never lost, only its place.
 * 3. The walk reads inside this thread's stack only, whatever a frame pointer holds: code built
 * without frame pointers ends the walk, it does not crash it. What is no address ends it too:
 * rubbish (a stack protector's word, say) would make a new site of each thread. */
#include "gc/object.h"
#include "gc/start.h"
#include "telemetry/metrics.h"
#include <ebb/assert.h>
#include <ebb/err.h>
#include <ebb/hash.h>
#include <errno.h>
#include <execinfo.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>

enum { SITES = 8192, PROBES = 64, ADDRESS_BITS = 48 };

static struct ebb_site *sites; /* SITES of them, from the start on */
static time_t started_seconds;
static _Thread_local uintptr_t stack_top;

void ebbi_sites_start(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    started_seconds = now.tv_sec;
    sites = mmap(NULL, SITES * sizeof *sites, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
    if (sites == MAP_FAILED) {
        ebb_err_set(EBB_ERR_SYSTEM,
                    "no memory to start with: the system refuses that of %d call sites "
                    "(%s); " EBBI_MEMORY_REMEDY,
                    SITES, strerror(errno));
        ebbi_start_refuse();
    }
    ebb_assert(sites != MAP_FAILED, "no memory for %d call sites", SITES);
}

static uint32_t sites_there(void) {
    return sites ? SITES : 0;
}

struct ebb_site *ebbi_site_at(uint16_t site) {
    return &sites[site];
}

uint16_t ebbi_site_index(const struct ebb_site *site) {
    return (uint16_t)(site - sites);
}

static uintptr_t stack_top_of_thread(void) {
    if (stack_top == 0) {
        struct GC_stack_base base;
        if (GC_get_stack_base(&base) == GC_SUCCESS)
            stack_top = (uintptr_t)base.mem_base;
    }
    return stack_top;
}

__attribute__((no_sanitize("address"))) int ebbi_frames_walk(uintptr_t *frame, int frames_max,
                                                             void *frame_address) {
    const uintptr_t top = stack_top_of_thread();
    uintptr_t at = (uintptr_t)frame_address;
    int n = 0;
    while (n < frames_max && at % sizeof(uintptr_t) == 0 && at + 2 * sizeof(uintptr_t) <= top) {
        const uintptr_t *words = (const uintptr_t *)at;
        if (words[1] < 4096 || words[1] >> ADDRESS_BITS != 0)
            break;
        frame[n++] = words[1];
        if (words[0] <= at)
            break;
        at = words[0];
    }
    return n;
}

/* The public function's return address, which stands beside its frame, tells where the caller's
 * part of the stack begins, whatever was inlined below it. */
int ebbi_frames_unwind(uintptr_t *frame, int frames_max, void *frame_address) {
    enum { BELOW_MAX = 8 };
    void *all[EBB_SITE_FRAMES + BELOW_MAX];
    const uintptr_t caller = ((const uintptr_t *)frame_address)[1];
    int got = backtrace(all, EBB_SITE_FRAMES + BELOW_MAX), first = 0;
    while (first < got && (uintptr_t)all[first] != caller)
        first++;
    int n = 0;
    for (int i = first; i < got && n < frames_max; i++)
        frame[n++] = (uintptr_t)all[i];
    return n > 0 ? n : ebbi_frames_walk(frame, SITE_FRAMES_WALK, frame_address);
}

uint32_t ebbi_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)(now.tv_sec - started_seconds);
}

static bool same(const struct ebb_site *site, const struct ebb_type *type, const uintptr_t *frame,
                 int frames) {
    for (int i = 0; i < frames; i++)
        if (site->frame[i] != frame[i])
            return false;
    return site->type == type && (frames == EBB_SITE_FRAMES || site->frame[frames] == 0);
}

static void fill(struct ebb_site *site, const struct ebb_type *type, const uintptr_t *frame,
                 int frames) {
    site->type = type;
    memcpy(site->frame, frame, (size_t)frames * sizeof *frame);
    atomic_store_explicit(&site->used, 2, memory_order_release);
}

uint16_t ebbi_site_take(const struct ebb_type *type, const uintptr_t *frame, int frames) {
    uint64_t hash = (uintptr_t)type;
    for (int i = 0; i < frames; i++)
        hash = (hash ^ frame[i]) * 0x9E3779B97F4A7C15ull;
    uint32_t at = (uint32_t)(hash >> 40);
    for (int probe = 0; probe < PROBES; probe++, at++) {
        uint32_t index = 1 + at % (SITES - 1);
        struct ebb_site *site = &sites[index];
        uint32_t used = atomic_load_explicit(&site->used, memory_order_acquire);
        if (used == 0 && atomic_compare_exchange_strong(&site->used, &used, 1)) {
            fill(site, type, frame, frames);
            return (uint16_t)index;
        }
        while (used == 1)
            used = atomic_load_explicit(&site->used, memory_order_acquire);
        if (same(site, type, frame, frames))
            return (uint16_t)index;
    }
    return 0;
}

static void add(_Atomic uint64_t *counter, uint64_t more) {
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

void ebbi_leak_count(struct ebb_type *type, struct object_header *header) {
    struct ebb_site *site = &sites[header->site];
    uint32_t age = (ebbi_seconds() - header->born) & OBJECT_BORN_MASK;
    add(&type->leaked_bytes, header->size);
    add(&site->leaked, 1);
    add(&site->leaked_bytes, header->size);
    add(&site->age_seconds_sum, age);
    if (age > site->age_seconds_max)
        site->age_seconds_max = age;
    atomic_fetch_add_explicit(&site->untold, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&type->leaked, 1, memory_order_release); /* last: who sees it tells */
    ebb_count(&ebb_metric_leaked_objects, 1);
    ebb_count(&ebb_metric_leaked_bytes, header->size);
}

void ebbi_used_after_done_count(struct object_header *header) {
    struct ebb_site *site = &sites[header->site];
    atomic_fetch_add_explicit(&site->untold_used, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&site->used_after_done, 1, memory_order_release);
    ebb_count(&ebb_metric_misuse_use_after_done, 1);
}

uint64_t ebb_leaks_each(void (*see)(const struct ebb_site *, void *), void *context) {
    for (uint32_t i = 0; see != NULL && i < sites_there(); i++)
        if (atomic_load_explicit(&sites[i].leaked, memory_order_relaxed) > 0)
            see(&sites[i], context);
    return ebb_leaks_count();
}

uint64_t ebb_foreign_each(void (*see)(const struct ebb_site *, void *), void *context) {
    uint64_t held = 0;
    for (uint32_t i = 0; i < sites_there(); i++) {
        if (sites[i].type == NULL || sites[i].type->lifetime != EBB_FOREIGN ||
            sites[i].allocated == sites[i].gone)
            continue;
        held += sites[i].allocated - sites[i].gone;
        if (see)
            see(&sites[i], context);
    }
    return held;
}

uint64_t ebb_leaks_count(void) {
    uint64_t sum = 0;
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next)
        sum += atomic_load_explicit(&type->leaked, memory_order_acquire);
    return sum;
}

void ebb_sites_each(void (*see)(const struct ebb_site *, void *), void *context) {
    for (uint32_t i = 1; i < sites_there(); i++)
        if (atomic_load_explicit(&sites[i].used, memory_order_acquire) == 2)
            see(&sites[i], context);
}

uint64_t ebb_used_after_done_count(void) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < sites_there(); i++)
        sum += atomic_load_explicit(&sites[i].used_after_done, memory_order_acquire);
    return sum;
}
